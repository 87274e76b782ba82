"""Safetensors files: mapped for reading, streamed for writing. Neither trusts the file nor needs its size in memory.

Our own because the safetensors library cannot hand a bfloat16 tensor to NumPy.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from slmkit.errors import CheckpointError
from slmkit.untrusted import open_regular, shown
from slmkit.weights.atomic import PartialFile
from slmkit.weights.header import DTYPES, MOST_HEADER_BYTES, Header, parse_header, plan_header
from slmkit.weights.mapped import FileIdentity, MappedFile


class SafetensorsFile(MappedFile):
    """A safetensors file, its header checked. Tensors are views of a read-only map.

    Raises CheckpointError, in one sentence, for every way in which the file can be wrong.
    """

    def __init__(self, path: Path) -> None:
        fd = open_regular(path)
        try:
            super().__init__(path, FileIdentity.of(fd))
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
        return self.view(DTYPES[info.dtype], info.shape, self._header.data_start + info.start)


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
