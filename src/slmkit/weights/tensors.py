"""What weight files look like to those who check, pack and map them: safetensors and GGUF have the same face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from slmkit.ops.matrix import Matrix

if TYPE_CHECKING:
    from slmkit.weights.mapped import FileIdentity

Shape = tuple[int, ...]


class SourceFile(Protocol):
    """One of the files."""

    @property
    def path(self) -> Path:
        """Where it lies."""

    @property
    def identity(self) -> FileIdentity:
        """Of the file that was opened."""


class TensorSource(Protocol):
    """Named tensors in files whose headers were checked; no tensor is read before it is asked for.

    where: the folder or file, for messages.   told_by: what says which tensors there ought to be, for messages.
    dtypes: the types it can hand out.   metadata: the text that the first safetensors file carries; {} of others.
    keeps_numbers: whether it is quantized unless asked (an original checkpoint is, a GGUF file is not).
    """

    where: Path
    told_by: str
    dtypes: tuple[str, ...]
    metadata: Mapping[str, str]
    keeps_numbers: bool

    @property
    def files(self) -> Sequence[SourceFile]:
        """In order of their names."""

    @property
    def names(self) -> list[str]:
        """Of all tensors, as the checkpoints on the hub call them."""

    @property
    def total_bytes(self) -> int:
        """Of all files."""

    def shape(self, name: str) -> Shape:
        """As in the checkpoint: matrices are [out, in]."""

    def dtype(self, name: str) -> str:
        """As the file calls it: "BF16", "Q4_K", ..."""

    def n_bytes(self, name: str) -> int:
        """In the file."""

    def tensor(self, name: str) -> NDArray[Any]:
        """All of a tensor of plain numbers: mapped where it can be, read-only; BF16 as uint16."""

    def kept_format(self, name: str) -> str | None:
        """The packed format that holds the tensor's own numbers; None for plain numbers, which can stay as they are."""

    def pack_rows(self, name: str, rows: slice, format: str, ops: Any) -> Matrix:
        """Some rows, a multiple of 16 unless they are the last, packed.   ops: their fast twins are used.

        Raises CheckpointError for weights that are no numbers.
        """

    def release(self, name: str | None = None) -> None:
        """Drop what is mapped of one tensor, or of all, from memory."""
