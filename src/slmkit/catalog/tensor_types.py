"""The tensors that a model's files hold, and the types that they are in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from slmkit.untrusted import parse_json
from slmkit.weights.gguf.file import GGUFFile
from slmkit.weights.packed import is_packed

if TYPE_CHECKING:
    from slmkit.sources.base import Source
    from slmkit.weights.tensors import TensorSource


@dataclass(frozen=True)
class TensorRow:
    """One tensor as its file has it.   shape: [out, in] of a matrix.   n_bytes: in the file."""

    name: str
    type: str
    shape: tuple[int, ...]
    n_bytes: int


@dataclass(frozen=True)
class TypeRow:
    """All tensors of one type."""

    type: str
    n_tensors: int
    n_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def tensor_rows(source: Source) -> list[TensorRow]:
    """Every tensor under the name that its file gives it; a packed matrix, which is two, as one."""
    tensors = source.tensors
    if any(isinstance(file, GGUFFile) for file in tensors.files):
        return list(_of_gguf(tensors))
    if is_packed(tensors.metadata):
        return list(_of_packed(tensors))
    return [TensorRow(n, tensors.dtype(n), tensors.shape(n), tensors.n_bytes(n)) for n in tensors.names]


def by_type(rows: Sequence[TensorRow]) -> list[TypeRow]:
    """The types, the one with most bytes first."""
    kinds = {row.type: TypeRow(row.type, 0, 0) for row in rows}
    for row in rows:
        so_far = kinds[row.type]
        kinds[row.type] = TypeRow(row.type, so_far.n_tensors + 1, so_far.n_bytes + row.n_bytes)
    return sorted(kinds.values(), key=lambda kind: (-kind.n_bytes, kind.type))


def matrix_types(rows: Sequence[TensorRow]) -> str:
    """The types of the matrices, the one with most bytes first."""
    return ", ".join(kind.type for kind in by_type([row for row in rows if len(row.shape) > 1]))


def _of_gguf(tensors: TensorSource) -> Iterator[TensorRow]:
    for file in tensors.files:
        assert isinstance(file, GGUFFile)
        for name, tensor in file.tensors.items():
            yield TensorRow(name, tensor.type, tuple(tensor.shape), tensor.n_bytes)


def _of_packed(tensors: TensorSource) -> Iterator[TensorRow]:
    """plan_weights checks these words of the file against its tensors; here what does not fit is left out."""
    matrices = parse_json(tensors.metadata.get("slmkit.matrices", "{}").encode(), f"slmkit.matrices in {tensors.where}")
    there, parts = set(tensors.names), set()
    for name, entry in matrices.items():
        format, *shape = entry if isinstance(entry, list) and len(entry) == 3 else ("", 0, 0)
        own = {f"{name}.{format}", f"{name}.scale"} & there
        parts |= own
        yield TensorRow(name, str(format), tuple(shape), sum(tensors.n_bytes(part) for part in own))
    for name in tensors.names:
        if name not in parts:
            yield TensorRow(name, tensors.dtype(name), tensors.shape(name), tensors.n_bytes(name))
