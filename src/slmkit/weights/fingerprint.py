"""The SHA-256 of a checkpoint's weights, remembered for files that have not been touched since."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from slmkit.errors import CheckpointError, StorageError
from slmkit.untrusted import open_regular, read_json
from slmkit.weights.atomic import make_folder, write_atomically
from slmkit.weights.mapped import FileIdentity
from slmkit.weights.packing import READING
from slmkit.weights.telling import Progress, silent
from slmkit.weights.tensors import SourceFile, TensorSource

# A file written to again within one tick of the file system's clock keeps its times. FAT has the coarsest tick: 2 s.
SETTLED_NS = 2_000_000_000
_AT_ONCE = 1 << 22
_PROMISE = re.compile(r"(?:sha256[-:])?([0-9a-fA-F]{64})")  # how the hub's cache and Ollama's store name large files


def source_sha256(source: TensorSource, progress: Progress = silent, memo: Path | None = None) -> str:
    """The hash of a single file as `sha256sum` has it; of several: the hash of the lines "HASH  NAME", by name.

    memo: a folder that keeps the hash of each file beside the file's identity (size, inode, mtime, ctime). A file that
    is replaced or written to gets another identity and is read again.
    Raises CheckpointError if a file is not the one that was opened any more, or not the one that its name promises.
    """
    total = source.total_bytes
    done = 0

    def read(n: int) -> None:
        nonlocal done
        done += n
        progress(READING, done, total)

    digests = {file.path.name: _remembered(file, memo, read) for file in source.files}
    lines = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    return lines[:64] if len(digests) == 1 else hashlib.sha256(lines.encode()).hexdigest()


def file_hashes(files: Sequence[SourceFile], memo: Path) -> list[str]:
    """The SHA-256 of each file, by `memo` where it knows it.   Raises CheckpointError as `source_sha256` does."""
    return [_remembered(file, memo, lambda n: None) for file in files]


def known_hashes(files: Sequence[SourceFile], memo: Path) -> list[str] | None:
    """The same where `memo` knows them all, so that nothing is read; else None."""
    known = [known_sha256(file.path, file.identity, memo) for file in files]
    return [digest for digest in known if digest] if all(known) else None


def _remembered(file: SourceFile, memo: Path | None, progress: Callable[[int], None]) -> str:
    if memo is None:
        return _sha256(file, progress)
    known = known_sha256(file.path, file.identity, memo)
    settled = time.time_ns() - max(file.identity.mtime_ns, file.identity.ctime_ns) > SETTLED_NS
    digest = known or _sha256(file, progress)
    if _promised(file.path) not in (None, digest):
        raise CheckpointError(f"{file.path} is damaged: its SHA-256 is not the one in its name; fetch the model again")
    if settled and not known:
        note_sha256(file.path, file.identity, digest, memo)
    return digest


def _promised(path: Path) -> str | None:
    """The SHA-256 in the file's own name or in that of a link to it, the nearest first.

    A large file of the hub's cache is a link to blobs/SHA256, which itself may be a link to a store of blobs by another
    hash of 64 digits, that of Xet.
    """
    for _ in range(8):
        if name := _PROMISE.fullmatch(path.name):
            return name[1].lower()
        try:
            path = path.parent / os.readlink(path)
        except OSError:  # no link
            return None
    return None


def known_sha256(path: Path, identity: FileIdentity, memo: Path) -> str | None:
    """The hash noted for a file of that identity, if any."""
    try:
        found = read_json(_note(path, memo), 1 << 16)
    except CheckpointError:
        return None
    digest = found.get("sha256")
    return digest if found.get("identity") == list(identity) and isinstance(digest, str) else None


def note_sha256(path: Path, identity: FileIdentity, digest: str, memo: Path) -> None:
    """Note the hash of a file that nobody writes to any more."""
    with suppress(StorageError):  # a cache that can only be read still serves; the file is read again next time
        make_folder(memo)
        write_atomically(_note(path, memo), json.dumps({"identity": identity, "sha256": digest}).encode())


def _note(path: Path, memo: Path) -> Path:
    return memo / f"{hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()}.json"


def _sha256(file: SourceFile, progress: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    with os.fdopen(open_regular(file.path), "rb", buffering=0) as source:
        if FileIdentity.of(source.fileno()) == file.identity:
            piece = bytearray(_AT_ONCE)
            while n := source.readinto(piece):
                digest.update(memoryview(piece)[:n])
                progress(n)
        if FileIdentity.of(source.fileno()) != file.identity:
            raise CheckpointError(f"{file.path} changed while it was being read; load the model again")
    return digest.hexdigest()
