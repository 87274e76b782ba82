"""Files that appear under their name only when they are complete.

The bytes go to `.NAME.partial` in the same folder, under a lock; then fsync and a rename. No loader ever opens that
name. The lock goes with its process, so what a killed one left behind is taken over by the next writer, and two writers
of one file wait for each other instead of mixing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmkit.errors import StorageError
from slmkit.weights import locks

_MOST_AT_ONCE = 1 << 30  # bytes; Linux writes at most 2 GiB a call


class PartialFile:
    """A file of `size` bytes on its way to `path`. As a context manager it is discarded unless `commit` was called.

    waiting: called once if another process is writing the same file and this one has to wait.
    private: nobody but its owner may read it.
    Raises StorageError if the folder cannot be written.
    """

    def __init__(self, path: Path, size: int, waiting: Callable[[], None] | None = None, private: bool = False) -> None:
        self.path, self.size, self._mode = path, size, 0o600 if private else 0o666
        self.partial = path.with_name(f".{path.name}.partial")
        with storage_errors(path, size):
            self._fd: int | None = _open_locked(self.partial, waiting, self._mode)

    def begin(self) -> None:
        """Clear what a killed process left, and raise StorageError, with both numbers, if the disk has no room."""
        assert self._fd is not None
        with storage_errors(self.path, self.size):
            os.ftruncate(self._fd, 0)
            if self._mode == 0o600 and hasattr(os, "fchmod"):  # what somebody else put there is refused so, too
                os.fchmod(self._fd, self._mode)
            free = shutil.disk_usage(self.path.parent).free
        if self.size > free:
            raise StorageError(_no_room(self.path, self.size, free))

    def write(self, data: bytes | NDArray[Any]) -> None:
        """Append the bytes of the array, which must be contiguous."""
        assert self._fd is not None
        rest = memoryview(data if isinstance(data, bytes) else data.reshape(-1).view(np.uint8).data)
        with storage_errors(self.path, self.size):
            while rest:
                rest = rest[os.write(self._fd, rest[:_MOST_AT_ONCE]) :]

    def commit(self) -> None:
        """Make the file appear, durable, in place of any older one."""
        assert self._fd is not None
        with storage_errors(self.path, self.size):
            os.fsync(self._fd)
            if os.name == "nt":  # where an open file cannot be renamed
                self._close()
            os.replace(self.partial, self.path)
            self._close()
            _fsync_folder(self.path.parent)

    def discard(self) -> None:
        """Remove what was written so far."""
        if self._fd is None:
            return
        if os.name == "nt":  # where an open file cannot be removed
            self._close()
        self.partial.unlink(missing_ok=True)
        self._close()

    def __enter__(self) -> PartialFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def write_atomically(path: Path, data: bytes) -> None:
    """Put a small file in place, whole or not at all. Raises StorageError."""
    with PartialFile(path, len(data)) as file:
        file.begin()
        file.write(data)
        file.commit()


def make_folder(folder: Path, way_out: str = "choose another one") -> None:
    """Create the folder and those above it. Raises StorageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "a file is in the way"
        raise StorageError(f"the folder {folder} cannot be made ({reason}); {way_out}") from None


def remove_leftovers(folder: Path, names: Collection[str] | None = None) -> None:
    """Remove the partial files whose writers are gone.

    names: of the files that may have been written; None in a folder that is ours alone. Others name files so, too.
    """
    for partial in folder.glob(".*.partial"):
        if names is not None and partial.name[1 : -len(".partial")] not in names:
            continue
        with suppress(OSError):
            fd = os.open(partial, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
            try:
                if locks.try_lock(fd) and _is_still(partial, fd):
                    partial.unlink()
            finally:
                os.close(fd)


@contextmanager
def storage_errors(path: Path, size: int) -> Iterator[None]:
    """Turn an OSError of writing `path` into a StorageError."""
    try:
        yield
    except OSError as error:
        if not path.parent.is_dir():
            why = f"there is no folder {path.parent}; make it first"
            raise StorageError(f"{path} could not be written: {why}") from None
        free = shutil.disk_usage(path.parent).free
        if size > free:
            raise StorageError(_no_room(path, size, free)) from None
        why = error.strerror or type(error).__name__
        raise StorageError(
            f"{path} could not be written ({why}); it needs {megabytes(size)}, {megabytes(free)} are free on its disk; "
            "free some space, or choose a folder that you may write to"
        ) from None


def megabytes(size: int) -> str:
    """A size for people: in MB of a million bytes, as disks are sold, with one decimal below 100."""
    return f"{size / 1e6:,.0f} MB" if size >= 100e6 else f"{size / 1e6:.1f} MB"


def _no_room(path: Path, size: int, free: int) -> str:
    return (
        f"{path} needs {megabytes(size)}, and its disk has {megabytes(free)} free; "
        "free some space or choose another folder"
    )


def _open_locked(partial: Path, waiting: Callable[[], None] | None, mode: int) -> int:
    """The partial file, opened and locked by us alone."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    while True:
        fd = os.open(partial, flags, mode)
        try:
            if not locks.try_lock(fd):
                if waiting:
                    waiting()
                locks.lock(fd)
            if _is_still(partial, fd):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # whom we waited for has finished and renamed or removed it: begin with a new one


def _is_still(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


def _fsync_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
