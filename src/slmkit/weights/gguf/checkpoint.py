"""GGUF files with the face of a checkpoint: a TensorSource (tensors.py) whose tensors have the hub's names."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmkit.errors import CheckpointError
from slmkit.ops.matrix import Matrix
from slmkit.ops.pack import as_f32, packer
from slmkit.untrusted import shown
from slmkit.weights.gguf.blocks import BLOCKS, dequantize
from slmkit.weights.gguf.file import GGUFFile
from slmkit.weights.gguf.header import GGUFTensor
from slmkit.weights.gguf.repack import LOSSLESS, repacker
from slmkit.weights.tensors import Shape

PLAIN = ("F32", "F16", "BF16")


class GGUFCheckpoint:
    """One or several opened GGUF files.

    files: of one model, in order.   tensors: the hub's name -> the names in the files, of which several are one
    tensor, rows after rows; NAME[i] is matrix i of a tensor that is a stack of them. What no name leads to is kept
    under its own, so that it is found to be too much.
    Raises CheckpointError for parts that are no matrices with rows of one length.
    """

    told_by = "its own metadata"
    dtypes: tuple[str, ...] = (*PLAIN, *BLOCKS)
    metadata: Mapping[str, str] = {}  # of safetensors files alone
    keeps_numbers = True

    def __init__(self, files: Sequence[GGUFFile], tensors: Mapping[str, Sequence[str]]) -> None:
        self.files = tuple(files)
        self.where = files[0].path
        self._file_of = {name: file for file in files for name in file.tensors}
        self._tensor = {name: tensor for file in files for name, tensor in file.tensors.items()}
        named = {part for parts in tensors.values() for part in parts}
        named |= self._unstack(named)
        self._parts = {
            name: tuple(parts) for name, parts in tensors.items() if all(part in self._tensor for part in parts)
        }
        self._parts |= {name: (name,) for name in self._file_of if name not in named}
        for name, parts in self._parts.items():
            if len(parts) > 1:
                self._check_parts(name)

    @property
    def names(self) -> list[str]:
        """Of all tensors."""
        return list(self._parts)

    @property
    def total_bytes(self) -> int:
        """Of all files."""
        return sum(file.identity.size for file in self.files)

    def shape(self, name: str) -> Shape:
        """Of the parts together: as [out, in]."""
        first, *others = (part.shape for part in self._tensors(name))
        return (first[0] + sum(other[0] for other in others), *first[1:])

    def dtype(self, name: str) -> str:
        """As GGUF calls it; of parts that differ, all of them."""
        return " + ".join(dict.fromkeys(part.type for part in self._tensors(name)))

    def n_bytes(self, name: str) -> int:
        """In the files."""
        return sum(part.n_bytes for part in self._tensors(name))

    def tensor(self, name: str) -> NDArray[Any]:
        """All of it. A single part of plain numbers is mapped, anything else is made in memory."""
        parts = self._parts[name]
        if len(parts) == 1 and self._tensors(name)[0].type in PLAIN:
            return self._blocks(parts[0])
        if self._one_type(name) in PLAIN:
            return self._rows(name, slice(None))
        return self._values(name, slice(None))

    def kept_format(self, name: str) -> str | None:
        """A packed format for everything quantized: one that holds its integers, else 8 bits (repack.py)."""
        kind = self._one_type(name)
        return None if kind in PLAIN else LOSSLESS.get(kind, "q8")

    def pack_rows(self, name: str, rows: slice, format: str, ops: Any) -> Matrix:
        """Those rows: the same integers and scales in the kernels' order, where the format can hold them."""
        kind = self._one_type(name)
        if LOSSLESS.get(kind) != format:
            return packer(ops)(self._values(name, rows), format)
        return repacker(ops)(self._rows(name, rows), kind, self.shape(name)[1])

    def release(self, name: str | None = None) -> None:
        """Drop what is mapped of a tensor's files, or of all, from memory."""
        for file in self.files if name is None else {self._file_of[part] for part in self._parts[name]}:
            file.release()

    def _unstack(self, named: Collection[str]) -> set[str]:
        """Find the matrices NAME[i] of stacks; the names of stacks that are used up by that."""
        numbers: dict[str, set[int]] = {}
        for name in named:
            stack, _, number = name.removesuffix("]").rpartition("[")
            whole = self._tensor.get(stack)
            if name in self._tensor or whole is None or len(whole.shape) != 3 or int(number) >= whole.shape[0]:
                continue
            size = whole.n_bytes // whole.shape[0]
            self._tensor[name] = replace(
                whole, shape=whole.shape[1:], start=whole.start + int(number) * size, n_bytes=size
            )
            self._file_of[name] = self._file_of[stack]
            numbers.setdefault(stack, set()).add(int(number))
        return {stack for stack, found in numbers.items() if len(found) == self._tensor[stack].shape[0]}

    def _blocks(self, part: str) -> NDArray[Any]:
        """A tensor as its file has it."""
        file = self._file_of[part]
        if part in file.tensors:
            return file.blocks(part)
        stack, _, number = part.removesuffix("]").rpartition("[")
        matrix: NDArray[Any] = file.blocks(stack)[int(number)]
        return matrix

    def _check_parts(self, name: str) -> None:
        parts = {part: self._tensor[part].shape for part in self._parts[name]}
        if any(len(shape) != 2 for shape in parts.values()) or len({shape[1] for shape in parts.values()}) > 1:
            told = ", ".join(f"{shown(part)} {list(shape)}" for part, shape in parts.items())
            raise CheckpointError(
                f"{self.where} has {told}, which together are one matrix and have no rows of one length; the file is "
                "damaged"
            )

    def _tensors(self, name: str) -> list[GGUFTensor]:
        return [self._tensor[part] for part in self._parts[name]]

    def _one_type(self, name: str) -> str:
        """The type of all parts; "" if they differ."""
        types = {part.type for part in self._tensors(name)}
        return types.pop() if len(types) == 1 else ""

    def _rows(self, name: str, rows: slice) -> NDArray[Any]:
        """Some rows of a tensor of one type, as the file has them."""
        return _joined([piece for _, piece in self._pieces(name, rows)])

    def _values(self, name: str, rows: slice) -> NDArray[np.float32]:
        """Some rows as float32, of whatever types the parts are."""
        return _joined(
            [as_f32(piece) if kind in PLAIN else dequantize(piece, kind) for kind, piece in self._pieces(name, rows)]
        )

    def _pieces(self, name: str, rows: slice) -> list[tuple[str, NDArray[Any]]]:
        """(type, rows as the file has them) of each part that holds some of the rows."""
        begin, end, _ = rows.indices(self.shape(name)[0])
        pieces, start = [], 0
        for part, tensor in zip(self._parts[name], self._tensors(name), strict=True):
            inside = slice(max(begin - start, 0), max(end - start, 0))
            pieces.append((tensor.type, self._blocks(part)[inside]))
            start += tensor.shape[0]
        return [(kind, piece) for kind, piece in pieces if len(piece)]


def _joined(pieces: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
