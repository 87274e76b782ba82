"""From weight files to the tensors that a model is built of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from slmkit.errors import OptionError
from slmkit.ops.matrix import Matrix
from slmkit.ops.pack import as_f32
from slmkit.weights.cache import load_packed
from slmkit.weights.checkpoint import Checkpoint
from slmkit.weights.expect import check_headers, check_tensors
from slmkit.weights.packed import RECIPES, Formats, Tensor, is_packed, packed_bytes, read_packed, recipe_formats
from slmkit.weights.telling import Progress, silent
from slmkit.weights.tensors import Shape, SourceFile, TensorSource

# Below this many weights 4 bits save too little memory to pay for any loss at all.
FEW_WEIGHTS = 200_000_000
_DENSE = {"F32": "f32", "F16": "f16", "BF16": "bf16"}


class Weights(Mapping[str, Tensor]):
    """Name -> Matrix for every matrix, float32 array for the rest; all but small vectors are views of mapped files.

    quantization: "q4", "q8"; "none" for plain numbers as the files have them; for a quantized GGUF file its types.
    files: all that the tensors come from.
    """

    def __init__(self, tensors: Mapping[str, Tensor], quantization: str, files: Sequence[SourceFile] = ()) -> None:
        self._tensors = tensors
        self.quantization = quantization
        self.files = tuple(files)

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


@dataclass(frozen=True)
class WeightPlan:
    """What the tensors will be held as, known from the headers alone.

    formats: of the tensors that come from a packed file; the others are mapped from the source as they are.
    n_bytes: of all tensors together, as they will be held.
    """

    source: TensorSource
    expected: Mapping[str, Shape]
    quantization: str
    formats: Formats
    n_bytes: int
    expert_bytes: int = 0  # of these, in experts


def plan_weights(source: TensorSource, expected: Mapping[str, Shape], quantize: str | None = None) -> WeightPlan:
    """Check the headers and decide the formats.

    quantize: "q4" or "q8" rounds to that recipe, "none" keeps the numbers of the file. None: an original checkpoint is
    rounded as `default_quantization` says; a GGUF file and a folder that `slm quantize` wrote keep theirs.
    Raises OptionError if quantize is unknown or not what a packed folder holds; CheckpointError.
    """
    if quantize not in (None, "none", *RECIPES):
        raise OptionError(f"quantize is {quantize!r}; it takes one of {', '.join(RECIPES)}, none")
    if is_packed(source.metadata):
        return _plan_of_packed(source, expected, quantize)
    check_headers(expected, source)
    quantization = quantize or ("none" if source.keeps_numbers else default_quantization(expected))
    if quantization in RECIPES:
        formats = recipe_formats(expected, quantization)
    else:
        formats = {name: format for name in expected if (format := source.kept_format(name))}
        quantization = _types(source, formats) or "none"
    return WeightPlan(source, expected, quantization, formats, *(
        sum(source.n_bytes(name) for name in names if name not in formats)
        + packed_bytes(expected, {name: formats[name] for name in names if name in formats})
        for names in (expected, experts_among(expected))
    ))  # fmt: skip


def load_weights(
    source: Path | TensorSource,
    expected: Mapping[str, Shape],
    quantize: str | None = None,
    *,
    ops: Any = None,
    progress: Progress | None = None,
) -> Weights:
    """The expected tensors of a model, planned and taken at once.   source: its files, or a checkpoint's folder."""
    files: TensorSource = Checkpoint.open(source) if isinstance(source, Path) else source
    return take_weights(plan_weights(files, expected, quantize), ops=ops, progress=progress)


def take_weights(plan: WeightPlan, *, ops: Any = None, progress: Progress | None = None) -> Weights:
    """The tensors of a plan: packed into the cache where it says so, and mapped.

    ops: their `pack` is used if they have one.   progress: told of what takes long, in bytes.
    Raises CheckpointError; StorageError.
    """
    source, expected, formats = plan.source, plan.expected, plan.formats
    if is_packed(source.metadata):
        assert isinstance(source, Checkpoint)
        return Weights(read_packed(source.files[0], expected), plan.quantization, source.files[:1])
    files: Sequence[SourceFile] = source.files
    found: Mapping[str, Tensor] = {}
    if formats:
        packed, found = load_packed(source, expected, formats, plan.quantization, ops, progress or silent)
        files = [packed] if len(found) == len(expected) else [packed, *source.files]
    else:
        check_tensors(expected, source)
    tensors = {name: found[name] if name in found else _dense(source, name) for name in expected}
    return Weights(tensors, plan.quantization, files)


def experts_among(names: Iterable[str]) -> list[str]:
    """Those that only some tokens read."""
    return [name for name in names if ".experts." in name]


def default_quantization(expected: Mapping[str, Shape]) -> str:
    """q4; q8 for a model of fewer than FEW_WEIGHTS weights."""
    return "q8" if sum(math.prod(shape) for shape in expected.values()) < FEW_WEIGHTS else "q4"


def _plan_of_packed(source: TensorSource, expected: Mapping[str, Shape], quantize: str | None) -> WeightPlan:
    assert isinstance(source, Checkpoint)
    tensors = read_packed(source.files[0], expected)
    held = source.metadata.get("slmkit.quantization", "")
    if quantize not in (None, held):
        raise OptionError(
            f"quantize is {quantize}, but {source.where} is packed as {held} already; leave quantize out, "
            "or give the original model"
        )
    n_bytes = sum(int(tensor.nbytes) for tensor in tensors.values())
    experts = sum(int(tensors[name].nbytes) for name in experts_among(expected))
    return WeightPlan(source, expected, held, {}, n_bytes, experts)


def _types(source: TensorSource, formats: Formats) -> str:
    """The quantized types of a GGUF file, the one with most bytes first."""
    sizes: dict[str, int] = {}
    for name in formats:
        sizes[source.dtype(name)] = sizes.get(source.dtype(name), 0) + source.n_bytes(name)
    return ", ".join(sorted(sizes, key=lambda kind: -sizes[kind]))


def _dense(source: TensorSource, name: str) -> Tensor:
    data: NDArray[Any] = source.tensor(name)
    if data.ndim != 2:
        return as_f32(data)
    return Matrix(_DENSE[source.dtype(name)], data.shape[0], data.shape[1], data)
