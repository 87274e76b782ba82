"""GGUF files, one or the pieces of a split: metadata and tensors by name, mapped for reading. Nothing is trusted."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmkit.errors import CheckpointError
from slmkit.untrusted import is_there, open_regular, shown
from slmkit.weights.gguf.format import SIZES, Value
from slmkit.weights.gguf.header import GGUFTensor, read_header, whole_number
from slmkit.weights.mapped import FileIdentity, MappedFile

_PIECE = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf", re.DOTALL)
_DENSE: Mapping[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}


class GGUFFile(MappedFile):
    """A GGUF file, its header checked.

    metadata: key -> number, bool, text, list of texts, or a read-only NumPy array of numbers or bools.
    tensors: name -> type, shape and place.
    Raises CheckpointError, in one sentence, for every way in which the file can be wrong; UnsupportedModel for versions
    and tensor types that slmkit does not read.
    """

    metadata: Mapping[str, Value]
    tensors: Mapping[str, GGUFTensor]

    def __init__(self, path: Path) -> None:
        fd = open_regular(path)
        with os.fdopen(fd, "rb", buffering=1 << 18) as file:
            super().__init__(path, FileIdentity.of(fd))
            try:
                header = read_header(file, self.identity.size, _printable(path))
            except OSError as error:
                raise CheckpointError(f"{path} cannot be read ({error.strerror}); check the disk it lies on") from None
        self.metadata, self.tensors = header.metadata, header.tensors

    def blocks(self, name: str) -> NDArray[Any]:
        """The tensor as the file has it, a read-only view.

        F32 as float32, F16 as float16, BF16 as uint16, in the tensor's shape. Quantized types as uint8 with the bytes
        of a row in place of its values: (..., bytes of a row), see blocks.py.
        Raises CheckpointError if the file is not the one that was opened any more.
        """
        tensor = self.tensors[name]
        if tensor.type in _DENSE:
            return self.view(_DENSE[tensor.type], tensor.shape, tensor.start)
        weights, block_bytes = SIZES[tensor.type]
        shape = (*tensor.shape[:-1], tensor.shape[-1] // weights * block_bytes)
        return self.view(np.dtype(np.uint8), shape, tensor.start)


def open_gguf(path: Path) -> tuple[GGUFFile, ...]:
    """The file; or all pieces of the split that it belongs to, in order. The first one's metadata speaks for all.

    The names of the other pieces follow from this one's, NAME-00001-of-00003.gguf, never from what a file says.
    Raises CheckpointError if a piece is missing or belongs elsewhere; and what GGUFFile raises.
    """
    named = _PIECE.fullmatch(path.name)
    if named is None or int(named["count"]) < 2:
        file = GGUFFile(path)
        count = _split(file, "count")
        if count not in (None, 0, 1):
            raise CheckpointError(
                f"{_printable(path)} is one of {count} pieces and not named like one; put them into one folder "
                "as NAME-00001-of-00003.gguf and so on"
            )
        return (file,)
    pieces = _piece_paths(path, named)
    files = tuple(GGUFFile(piece) for piece in pieces)
    for number, file in enumerate(files):
        _check_piece(file, number, len(files))
    _check_together(files)
    return files


def _piece_paths(path: Path, named: re.Match[str]) -> list[Path]:
    """Where all pieces lie. The first one that is missing is named."""
    number, count = int(named["number"]), int(named["count"])
    if not 1 <= number <= count:
        raise CheckpointError(f"{_printable(path)} is piece {number} of {count} by its name; rename it as it was")
    pieces = []
    for i in range(1, count + 1):
        piece = path.with_name(f"{named['stem']}-{i:05}-of-{count:05}.gguf")
        if not is_there(piece):
            raise CheckpointError(
                f"{_printable(piece)} is missing, piece {i} of the {count} of this model; fetch it too"
            )
        pieces.append(piece)
    return pieces


def _check_piece(file: GGUFFile, number: int, count: int) -> None:
    says = _split(file, "no"), _split(file, "count")
    if says != (number, count):
        raise CheckpointError(
            f"{_printable(file.path)} has the split.no {says[0]} and the split.count {says[1]}, where "
            f"its name says {number} and {count}; fetch all pieces anew under their own names"
        )


def _check_together(files: tuple[GGUFFile, ...]) -> None:
    names: set[str] = set()
    for file in files:
        for name in names & file.tensors.keys():
            raise CheckpointError(
                f"{_printable(file.path)} holds tensor {shown(name)}, which a piece before it holds too; "
                "fetch all pieces anew"
            )
        names |= file.tensors.keys()
    for file in files:
        total = _split(file, "tensors.count")
        if total != len(names):
            raise CheckpointError(
                f"{_printable(file.path)} speaks of {total} tensors in all pieces, which hold {len(names)}; "
                "fetch all pieces anew"
            )


def _split(file: GGUFFile, key: str) -> int | None:
    return whole_number(file.metadata, f"split.{key}", _printable(file.path))


def _printable(path: Path) -> str:
    return str(path) if str(path).isprintable() else shown(str(path))
