"""Writes a file of tensors one after the other, whose header and places are planned before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from slmkit.weights.atomic import PartialFile

Stream = TypeVar("Stream", bound="TensorStream")


class Place(NamedTuple):
    """Bytes start..end of the file, filled with arrays of that type."""

    dtype: np.dtype[Any]
    start: int
    end: int


class TensorStream:
    """`begin`, `append` in the order of the places, and with `commit` the file appears.

    head: the first bytes of the file.   places: of each tensor, in order; zeros fill the gaps between them.
    n_bytes: of the whole file.   waiting, private: see PartialFile.
    A context manager: left without a commit, nothing stays behind.   Raises StorageError.
    """

    def __init__(
        self,
        path: Path,
        head: bytes,
        places: Mapping[str, Place],
        n_bytes: int,
        waiting: Callable[[], None] | None,
        private: bool = False,
    ) -> None:
        self._head = head
        self._left = list(places.items())[::-1]  # the next one last
        self._at = 0
        self.n_bytes = n_bytes
        self._file = PartialFile(path, n_bytes, waiting, private)

    def begin(self) -> None:
        """Write the header. Raises StorageError, with both numbers, if the disk has no room for the whole file."""
        self._file.begin()
        self._write(self._head)

    def append(self, name: str, data: NDArray[Any]) -> None:
        """The next piece of tensor `name`, in row-major order; pieces of one tensor may come in any number of calls."""
        while self._left[-1][0] != name:
            finished, place = self._left.pop()
            assert place.end == self._at, f"{name} came before {finished} was complete"
        place = self._left[-1][1]
        assert data.dtype == place.dtype, f"{name} is {data.dtype}, the plan says {place.dtype}"
        if self._at < place.start:
            self._write(bytes(place.start - self._at))
        assert self._at + data.nbytes <= place.end, f"{name} has more than its {place.end - place.start} bytes"
        self._write(data)

    def commit(self) -> None:
        """Make the file appear."""
        assert all(place.end == self._at for _, place in self._left), f"{self._left[0][0]} was not written"
        self._write(bytes(self.n_bytes - self._at))
        self._file.commit()

    def __enter__(self: Stream) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.discard()

    def _write(self, data: bytes | NDArray[Any]) -> None:
        self._file.write(data)
        self._at += len(data) if isinstance(data, bytes) else data.nbytes
