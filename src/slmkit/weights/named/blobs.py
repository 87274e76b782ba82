"""Files that clients sent to a server, each named by the hash of its content; a model is made of them afterwards."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from slmkit.errors import RequestError, StorageError
from slmkit.untrusted import shown
from slmkit.weights import locks
from slmkit.weights.atomic import make_folder, megabytes, remove_leftovers, storage_errors
from slmkit.weights.named.store import Named, data_folder
from slmkit.weights.names import check_path_in_repository

_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")
_SPARE_BYTES = 256 << 20  # left free on the disk


def blobs_folder() -> Path:
    """Where they are."""
    return data_folder() / "blobs"


def blob_path(digest: str) -> Path:
    """The file of a digest, there or not.   Raises RequestError for what is none."""
    found = _DIGEST.fullmatch(digest)
    if found is None:
        raise RequestError(f"{shown(digest)} is no digest; it takes sha256: and 64 hexadecimal digits")
    return blobs_folder() / f"sha256-{found[1].lower()}"


class Incoming:
    """A blob on its way. As a context manager it is thrown away unless `finish` was called."""

    def __init__(self, digest: str) -> None:
        """Raises RequestError for a malformed digest, StorageError if the folder cannot be written."""
        self.path = blob_path(digest)
        make_folder(self.path.parent, "set SLMKIT_DATA_DIR to a folder that you may write to")
        remove_leftovers(self.path.parent)
        self._hash, self.n_bytes = hashlib.sha256(), 0
        with storage_errors(self.path, 0):
            self._fd, name = tempfile.mkstemp(dir=self.path.parent, prefix=".", suffix=".partial")
            locks.try_lock(self._fd)  # so that nobody takes it for a leftover
        self._partial = Path(name)

    def write(self, data: bytes) -> None:
        """Append.   Raises StorageError where the disk has no room."""
        self.n_bytes += len(data)
        self._hash.update(data)
        free = shutil.disk_usage(self.path.parent).free
        if free < len(data) + _SPARE_BYTES:
            raise StorageError(f"the disk of {self.path.parent} has {megabytes(free)} free; free some space")
        with storage_errors(self.path, self.n_bytes):
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._fd, rest) :]

    def finish(self) -> None:
        """Have the file under its name.   Raises RequestError if its content has another hash."""
        if self._hash.hexdigest() != self.path.name.removeprefix("sha256-"):
            raise RequestError(f"the file has the SHA-256 {self._hash.hexdigest()}, not the one it was sent under")
        with storage_errors(self.path, self.n_bytes):
            os.fsync(self._fd)
            os.replace(self._partial, self.path)

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(FileNotFoundError):
            self._partial.unlink()
        os.close(self._fd)


def assembled(files: Mapping[str, str], what: str) -> Path:
    """What several blobs make: the one GGUF file, or a folder of them.   files: name -> digest.

    Raises RequestError for names that lead elsewhere, and for blobs that were not sent.
    """
    there = {name: _sent(name, digest) for name, digest in files.items()}
    ggufs = [path for name, path in there.items() if name.lower().endswith(".gguf")]
    if len(there) == 1 and ggufs:
        return ggufs[0]
    if ggufs:
        raise RequestError(f"{what} has several files with a GGUF file among them; send one GGUF file alone")
    key = hashlib.sha256(repr(sorted((name, path.name) for name, path in there.items())).encode()).hexdigest()
    folder = data_folder() / "folders" / key
    for name, path in there.items():
        check_path_in_repository(name, RequestError, f"{what} names the file")
        link = folder / name
        make_folder(link.parent)
        with storage_errors(link, 0), suppress(FileExistsError):
            os.link(path, link)  # no symbolic one: a model's files lie in its folder
    return folder


def remove_unused(model: Named, others: Iterable[Named]) -> None:
    """Remove the blobs and folders of a model that is gone, as far as no other model has them."""
    home = data_folder()
    needed = {place for other in others for place in (other.base, other.adapter) if place}
    for place in {model.base, model.adapter} - needed - {None}:
        path = Path(str(place))
        if path.parent == home / "folders":
            inodes = {(s.st_dev, s.st_ino) for s in (f.stat() for f in path.rglob("*") if f.is_file())}
            shutil.rmtree(path, ignore_errors=True)
            for blob in blobs_folder().glob("sha256-*"):
                stat = blob.stat()
                if (stat.st_dev, stat.st_ino) in inodes and stat.st_nlink == 1:
                    blob.unlink(missing_ok=True)
        elif path.parent == home / "blobs":
            path.unlink(missing_ok=True)


def _sent(name: str, digest: str) -> Path:
    path = blob_path(digest)
    if not path.is_file():
        raise RequestError(f"the file {shown(name)} was not sent; POST it to /api/blobs/{digest} first")
    return path
