"""From a folder to the tensors that a model is built of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from slmkit.errors import OptionError
from slmkit.ops.matrix import Matrix
from slmkit.ops.pack import as_f32
from slmkit.weights.cache import load_packed
from slmkit.weights.checkpoint import Checkpoint
from slmkit.weights.expect import Shape, check_tensors
from slmkit.weights.packed import RECIPES, Tensor, is_packed, read_packed
from slmkit.weights.packing import Progress, silent

# Below this many weights 4 bits save too little memory to pay for any loss at all.
FEW_WEIGHTS = 200_000_000
_DENSE = {"F32": "f32", "F16": "f16", "BF16": "bf16"}


class Weights(Mapping[str, Tensor]):
    """Name -> Matrix for every matrix, float32 array for the rest; all but small vectors are views of mapped files.

    quantization: "q4", "q8", or "none" for the checkpoint's own numbers.
    """

    def __init__(self, tensors: Mapping[str, Tensor], quantization: str) -> None:
        self._tensors = tensors
        self.quantization = quantization

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    @property
    def parameters(self) -> int:
        """How many weights the model has, padding not counted."""
        return sum(t.n * t.k if isinstance(t, Matrix) else t.size for t in self.values())

    @property
    def nbytes(self) -> int:
        """Of all tensors together."""
        return sum(int(tensor.nbytes) for tensor in self.values())


def load_weights(
    source: Path | Checkpoint,
    expected: Mapping[str, Shape],
    quantize: str | None = None,
    *,
    ops: Any = None,
    progress: Progress | None = None,
) -> Weights:
    """The expected tensors of a model folder.

    An original checkpoint is packed as `quantize` says (see `default_quantization`) into the cache and mapped from
    there, or for "none" mapped as it is. A folder that `slm quantize` wrote is mapped.
    ops: their `pack` is used if they have one.   progress: told of what takes long, in bytes.
    Raises OptionError if quantize is unknown or not what a packed folder holds; CheckpointError; StorageError.
    """
    checkpoint = source if isinstance(source, Checkpoint) else Checkpoint.open(source)
    if quantize not in (None, "none", *RECIPES):
        raise OptionError(f"quantize is {quantize!r}; it takes one of {', '.join(RECIPES)}, none")
    if is_packed(checkpoint.metadata):
        return _load_already_packed(checkpoint, expected, quantize)
    if quantize == "none":
        check_tensors(expected, checkpoint)
        return Weights({name: _dense(checkpoint, name) for name in expected}, "none")
    quantization = quantize or default_quantization(expected)
    return Weights(load_packed(checkpoint, expected, quantization, ops, progress or silent), quantization)


def default_quantization(expected: Mapping[str, Shape]) -> str:
    """q4; q8 for a model of fewer than FEW_WEIGHTS weights."""
    return "q8" if sum(math.prod(shape) for shape in expected.values()) < FEW_WEIGHTS else "q4"


def _load_already_packed(checkpoint: Checkpoint, expected: Mapping[str, Shape], quantize: str | None) -> Weights:
    tensors = read_packed(checkpoint.files[0], expected)
    held = checkpoint.metadata.get("slmkit.quantization", "")
    if quantize not in (None, held):
        raise OptionError(
            f"quantize is {quantize}, but {checkpoint.folder} is packed as {held} already; leave quantize out, "
            "or give the original model"
        )
    return Weights(tensors, held)


def _dense(checkpoint: Checkpoint, name: str) -> Tensor:
    data: NDArray[Any] = checkpoint.tensor(name)
    if data.ndim != 2:
        return as_f32(data)
    return Matrix(_DENSE[checkpoint.dtype(name)], data.shape[0], data.shape[1], data)
