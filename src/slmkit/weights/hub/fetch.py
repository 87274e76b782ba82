"""One file from the hub into the cache: resumed, bounded by the size that was promised, and there only if it is sound.

The bytes go to blobs/ETAG.incomplete under the lock that huggingface_hub has for the blob. They are hashed as they
come; the file gets its name after its checksum was compared and it is on the disk. So a kill leaves an .incomplete file
that the next pull goes on with, and never a blob that is not what its name says.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from slmkit.errors import DownloadError, StorageError
from slmkit.weights.atomic import make_folder
from slmkit.weights.hub.api import GO_ON, Patience, Transient, body, file_url, stream
from slmkit.weights.hub.cache import note_sound, sound_identity
from slmkit.weights.hub.files import HubFile, size_text
from slmkit.weights.hub.layout import ELSEWHERE, Repository
from slmkit.weights.hub.verify import new_hash
from slmkit.weights.names import HubRef

_AT_ONCE = 1 << 20
_HEADWAY = 1 << 20  # bytes after which failures are counted anew
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Fetcher:
    """Brings files of one commit.

    report: called with the bytes by which the work has come forward, below 0 for bytes that have to come again.
    waiting: called when another process has the lock of a file.   damaged: called with a sentence on what was removed.
    """

    def __init__(
        self,
        ref: HubRef,
        commit: str,
        report: Callable[[int], None],
        waiting: Callable[[], None],
        damaged: Callable[[str], None],
    ) -> None:
        self.ref, self.commit = ref, commit
        self.repository = Repository.of(ref.repo)
        self.report, self.waiting, self.damaged = report, waiting, damaged

    def missing(self, files: tuple[HubFile, ...]) -> int:
        """Bytes that are not on this disk yet."""
        return sum(file.size - self._there(file) for file in {file.etag: file for file in files}.values())

    def fetch(self, file: HubFile) -> None:
        """Have the file in the snapshot, sound.   Raises DownloadError, StorageError, AccessDenied, ModelNotFound."""
        blob, place = self.repository.blobs / file.etag, self._place(file)
        for folder in (blob.parent, place.parent, self.repository.locks):
            make_folder(folder, ELSEWHERE)
        with self._locked(file):
            is_new = not self._is_sound(blob, place, file)
            if is_new:
                with _storage_errors(blob, file):
                    self._receive(blob, file)
            with _storage_errors(place, file):
                _link(blob, place)
            if is_new:
                note_sound(place, file)

    def _is_sound(self, blob: Path, place: Path, file: HubFile) -> bool:
        """Whether the blob is there and good, or the file itself where links are not to be had."""
        for path in (blob, place):
            if path == place and place.is_symlink():
                continue
            if os.path.lexists(path):
                if path.exists() and sound_identity(path, file, self.report):
                    return True
                with _storage_errors(path, file):
                    path.unlink()
                self.damaged(f"{path} did not hold what its checksum says, and was removed; it is fetched again")
        return False

    def _receive(self, blob: Path, file: HubFile) -> None:
        partial = blob.with_name(f"{file.etag}.incomplete")
        with _Arriving(partial, file, self.report) as arriving:
            resumed = arriving.done > 0
            self._fill(arriving, file)
            if not arriving.is_sound() and resumed:  # what an earlier run left was bad: once more, from the beginning
                arriving.restart()
                self._fill(arriving, file)
            if not arriving.is_sound():
                arriving.discard()
                raise DownloadError(
                    f"{file.name} of {self.ref.repo} is not what the hub promised: its checksum is wrong; it was "
                    "removed, and the same command fetches it again (if that stays so, look at proxies and mirrors)"
                )
            arriving.keep_as(blob)

    def _fill(self, arriving: _Arriving, file: HubFile) -> None:
        what, patience = f"{file.name} of {self.ref.repo}", Patience()
        url = file_url(self.ref.repo, self.commit, file.name)
        while arriving.done < file.size:
            before = arriving.done
            try:
                with stream(url, self.ref, what, arriving.done) as answer:
                    _pour(answer, arriving, what)
                if arriving.done < file.size:
                    raise Transient(f"the answer ended after {arriving.done} of {file.size} bytes")
            except Transient as problem:
                if arriving.done - before >= _HEADWAY:
                    patience.headway()
                patience.wait(problem, what)

    def _place(self, file: HubFile) -> Path:
        return self.repository.snapshot(self.commit) / file.name

    def _there(self, file: HubFile) -> int:
        blob = self.repository.blobs / file.etag
        for path in (blob, self._place(file), blob.with_name(f"{file.etag}.incomplete")):
            with suppress(OSError):
                return min(path.stat().st_size, file.size)
        return 0

    @contextmanager
    def _locked(self, file: HubFile) -> Iterator[None]:
        from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

        path = self.repository.locks / f"{file.etag}.lock"
        with _storage_errors(path, file):
            lock = WeakFileLock(path, timeout=0.1)
            try:
                lock.__enter__()
            except TimeoutError:
                self.waiting()
                lock = WeakFileLock(path)
                lock.__enter__()
        try:
            yield
        finally:
            lock.__exit__(None, None, None)


class _Arriving:
    """A file on its way: its bytes so far, and their hash. It stays where it is unless it is kept or discarded."""

    def __init__(self, partial: Path, file: HubFile, report: Callable[[int], None]) -> None:
        self.partial, self.file, self.report = partial, file, report
        self.done = 0
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        self._fd: int | None = os.open(partial, flags, 0o666)
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            self._close()
            raise DownloadError(f"{partial} is not a regular file; remove it, and {GO_ON}")
        self._hash = new_hash(file.etag, file.size)
        self._take_over()

    def write(self, piece: bytes) -> None:
        """Append. Raises DownloadError for more than was promised."""
        assert self._fd is not None
        if self.done + len(piece) > self.file.size:
            self.discard()
            raise DownloadError(
                f"the server sends more of {self.file.name} than the {self.file.size} bytes that the hub lists; "
                "what came was removed; try again, and look at proxies and mirrors if that stays so"
            )
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
        self._hash.update(piece)
        self.done += len(piece)
        self.report(len(piece))

    def restart(self) -> None:
        """Begin anew."""
        assert self._fd is not None
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self.report(-self.done)
        self.done, self._hash = 0, new_hash(self.file.etag, self.file.size)

    def is_sound(self) -> bool:
        return self.done == self.file.size and self._hash.hexdigest() == self.file.etag

    def keep_as(self, blob: Path) -> None:
        """Give it its name, once it is on the disk."""
        assert self._fd is not None
        os.fsync(self._fd)
        self._close()
        os.replace(self.partial, blob)

    def discard(self) -> None:
        self._close()
        self.report(-self.done)
        self.partial.unlink(missing_ok=True)

    def __enter__(self) -> _Arriving:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _take_over(self) -> None:
        """Hash what an earlier run left."""
        assert self._fd is not None
        if os.fstat(self._fd).st_size > self.file.size:
            os.ftruncate(self._fd, 0)
        while piece := os.read(self._fd, _AT_ONCE):
            self._hash.update(piece)
            self.done += len(piece)
            self.report(len(piece))

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _pour(answer: Any, arriving: _Arriving, what: str) -> None:
    """Read an answer's body to its end."""
    if answer.status_code == 416 or not _goes_on(answer, arriving.done):
        arriving.restart()
        if answer.status_code != 200:
            raise Transient(f"the server does not go on at byte {arriving.done}")
    for piece in body(answer):
        arriving.write(piece)


def _goes_on(answer: Any, done: int) -> bool:
    """Whether the body continues what is there already."""
    if answer.status_code == 200:
        return done == 0
    start = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return bool(start) and int(start[1]) == done  # type: ignore[index]


def _link(blob: Path, place: Path) -> None:
    """Show the blob under its own name in the snapshot: as a link, or where there are none as the file itself."""
    if not blob.exists():
        return  # the file itself is in place
    target = os.path.relpath(blob, place.parent)
    if place.is_symlink() and os.readlink(place) == target:
        return
    fresh = place.with_name(f".{place.name}.new")
    fresh.unlink(missing_ok=True)
    try:
        os.symlink(target, fresh)
    except (OSError, NotImplementedError):  # Windows without the right to make links; FAT
        os.replace(blob, place)
        return
    os.replace(fresh, place)


@contextmanager
def _storage_errors(path: Path, file: HubFile) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            free = shutil.disk_usage(path.parent).free
            raise StorageError(
                f"{file.name} has {size_text(file.size)}, and the disk of {path.parent} has {size_text(free)} left; "
                f"free some space and {GO_ON}, or {ELSEWHERE}"
            ) from None
        raise StorageError(f"{path} could not be written ({error.strerror or error}); {ELSEWHERE}") from None
