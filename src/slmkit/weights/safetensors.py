"""Safetensors files: mapped for reading, streamed for writing. Neither trusts the file nor needs its size in memory.

Our own because the safetensors library cannot hand a bfloat16 tensor to NumPy.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slmkit.errors import CheckpointError
from slmkit.untrusted import open_regular, shown
from slmkit.weights.atomic import PartialFile
from slmkit.weights.header import DTYPES, MOST_HEADER_BYTES, Header, parse_header, plan_header


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


class SafetensorsFile:
    """A safetensors file, its header checked. Tensors are views of a read-only map.

    Raises CheckpointError, in one sentence, for every way in which the file can be wrong.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map: mmap.mmap | None = None
        fd = open_regular(path)
        try:
            self.identity = FileIdentity.of(fd)
            self._header = _read_header(fd, self.identity.size, path)
        finally:
            os.close(fd)
        self.tensors = self._header.tensors
        self.metadata = self._header.metadata

    def tensor(self, name: str) -> NDArray[Any]:
        """The tensor as a read-only view of the file; BF16 as uint16. Copied only if it lies unaligned for its type.

        Raises CheckpointError if the file is not the one that was opened any more.
        """
        info = self.tensors[name]
        dtype = DTYPES[info.dtype]
        start = self._header.data_start + info.start
        view: NDArray[Any] = np.ndarray(info.shape, dtype, buffer=self._mapped(), offset=start)
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


class SafetensorsWriter:
    """Writes tensors one by one, in the order of the plan: `begin`, `append`, and with `commit` the file appears.

    plan: (name, dtype, shape) of each tensor; every one will start at a multiple of 64 bytes.
    metadata: text for text.   waiting: see PartialFile.
    A context manager: left without a commit, nothing stays behind.   Raises StorageError.
    """

    def __init__(
        self,
        path: Path,
        plan: Sequence[tuple[str, str, tuple[int, ...]]],
        metadata: Mapping[str, str],
        waiting: Callable[[], None] | None = None,
    ) -> None:
        self._head, header = plan_header(plan, metadata)
        self._left = list(header.tensors.items())[::-1]  # the next one last
        self._at = 0  # bytes of data written
        self.n_bytes = len(self._head) + max((info.end for info in header.tensors.values()), default=0)
        self._file = PartialFile(path, self.n_bytes, waiting)

    def begin(self) -> None:
        """Write the header. Raises StorageError, with both numbers, if the disk has no room for the whole file."""
        self._file.begin()
        self._file.write(self._head)

    def append(self, name: str, data: NDArray[Any]) -> None:
        """The next piece of tensor `name`, in row-major order; pieces of one tensor may come in any number of calls."""
        while self._left[-1][0] != name:
            finished, info = self._left.pop()
            assert info.end == self._at, f"{name} came before {finished} was complete"
        info = self._left[-1][1]
        assert data.dtype == DTYPES[info.dtype], f"{name} is {data.dtype}, the plan says {info.dtype}"
        if self._at < info.start:
            self._file.write(bytes(info.start - self._at))
            self._at = info.start
        self._at += data.nbytes
        assert self._at <= info.end, f"{name} has more than its {info.end - info.start} bytes"
        self._file.write(data)

    def commit(self) -> None:
        """Make the file appear."""
        assert all(info.end == self._at for _, info in self._left), f"{self._left[0][0]} was not written"
        self._file.commit()

    def __enter__(self) -> SafetensorsWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.discard()


def _read_header(fd: int, file_bytes: int, path: Path) -> Header:
    with os.fdopen(os.dup(fd), "rb") as file:
        try:
            first = file.read(8)
            if len(first) < 8:
                raise CheckpointError(f"{path} has {len(first)} bytes, too few for a safetensors file; fetch it again")
            length = int.from_bytes(first, "little")
            if length > file_bytes - 8:
                raise CheckpointError(
                    f"the header of {path} takes {length} bytes by its own account, the file has {file_bytes}; "
                    "it is cut short or no safetensors file"
                )
            if length > MOST_HEADER_BYTES:
                raise CheckpointError(
                    f"the header of {path} takes {length} bytes; slmkit reads up to {MOST_HEADER_BYTES}"
                )
            text = file.read(length)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read ({error.strerror}); check the disk it lies on") from None
    return parse_header(text, 8 + length, file_bytes, shown(str(path)) if not str(path).isprintable() else path)
