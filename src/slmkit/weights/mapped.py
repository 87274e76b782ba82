"""A file that is mapped for reading, and the proof that it is still the one whose header was checked."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slmkit.errors import CheckpointError
from slmkit.untrusted import open_regular


class FileIdentity(NamedTuple):
    """What changes when a file is replaced or written to: also ctime, which no tool can set back."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, fd: int) -> FileIdentity:
        s = os.fstat(fd)
        return cls(s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)


class MappedFile:
    """A file whose arrays are views of a read-only map. It is mapped when the first view is asked for."""

    def __init__(self, path: Path, identity: FileIdentity) -> None:
        self.path, self.identity = path, identity
        self._map: mmap.mmap | None = None

    def view(self, dtype: np.dtype[Any], shape: tuple[int, ...], start: int) -> NDArray[Any]:
        """The array that begins at byte `start`, read-only. Copied only if it lies unaligned for its type.

        Raises CheckpointError if the file is not the one that was opened any more.
        """
        view: NDArray[Any] = np.ndarray(shape, dtype, buffer=self._mapped(), offset=start)
        if not view.flags.aligned:
            view = view.copy()
            view.flags.writeable = False
        return view

    def release(self) -> None:
        """Give the memory back: the map goes with the last view of it, and its pages leave this process now."""
        if self._map is not None and hasattr(self._map, "madvise"):
            self._map.madvise(mmap.MADV_DONTNEED)  # views stay valid: a page that is touched again is read again
        self._map = None

    def _mapped(self) -> mmap.mmap:
        if self._map is None:
            fd = open_regular(self.path)
            try:
                if FileIdentity.of(fd) != self.identity:
                    raise CheckpointError(f"{self.path} changed while it was being read; load the model again")
                self._map = mmap.mmap(fd, self.identity.size, access=mmap.ACCESS_READ)
            except (OSError, ValueError, OverflowError) as error:
                raise CheckpointError(f"{self.path} cannot be mapped ({error}); is it on an ordinary disk?") from None
            finally:
                os.close(fd)
        return self._map
