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
from slmkit.untrusted import open_regular, require_inside, shown
from slmkit.weights.header import DTYPES, MOST_HEADER_BYTES, Header, parse_header, plan_header
from slmkit.weights.mapped import FileIdentity, MappedFile
from slmkit.weights.stream import Place, TensorStream


class SafetensorsFile(MappedFile):
    """A safetensors file, its header checked. Tensors are views of a read-only map.

    Raises CheckpointError, in one sentence, for every way in which the file can be wrong.
    """

    def __init__(self, path: Path) -> None:
        fd = open_regular(path)
        try:
            require_inside(path)
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


class SafetensorsWriter(TensorStream):
    """Writes tensors one by one, in the order of the plan: see TensorStream.

    plan: (name, dtype, shape) of each tensor; every one will start at a multiple of 64 bytes.
    metadata: text for text.   private: see PartialFile.
    """

    def __init__(
        self,
        path: Path,
        plan: Sequence[tuple[str, str, tuple[int, ...]]],
        metadata: Mapping[str, str],
        waiting: Callable[[], None] | None = None,
        private: bool = False,
    ) -> None:
        head, header = plan_header(plan, metadata)
        places = {
            name: Place(DTYPES[info.dtype], len(head) + info.start, len(head) + info.end)
            for name, info in header.tensors.items()
        }
        n_bytes = max((place.end for place in places.values()), default=len(head))
        super().__init__(path, head, places, n_bytes, waiting, private)


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
