"""What a checkpoint holds against what its model expects: nothing missing, extra, misshapen or misnamed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

import numpy as np

from slmkit.errors import CheckpointError
from slmkit.ops.pack import as_f32
from slmkit.untrusted import shown
from slmkit.weights.tensors import Shape, TensorSource

# Buffers that old checkpoints carry; they follow from the configuration.
IGNORED = ("*.rotary_emb.inv_freq", "*.embeddings.position_ids")
# A tied model's head is its embedding; some files hold it a second time.
TIED = {
    "lm_head.weight": "model.embed_tokens.weight",
    "model.vision_embed_tokens.wte.weight": "model.embed_tokens.weight",
}
_NUMBERS = ("F32", "F16", "BF16")  # what vectors may be of: the blocks of quantized types are for matrices
_MOST_LISTED = 3
_ROWS_AT_ONCE = 1024


def check_tensors(expected: Mapping[str, Shape], source: TensorSource, ignored: Sequence[str] = IGNORED) -> None:
    """Raise CheckpointError, naming the first few and how many, unless the tensors are those expected.

    ignored: patterns (as of file names) of tensors that may be there and are not used.
    A head beside a tied embedding is accepted if both are equal; only then are tensors read.
    """
    for name in check_headers(expected, source, ignored):
        _check_copy(name, TIED[name], source)


def check_headers(expected: Mapping[str, Shape], source: TensorSource, ignored: Sequence[str] = IGNORED) -> list[str]:
    """As check_tensors, but reads no tensor: gives the names of those that are yet to be compared (see TIED)."""
    held = [name for name in source.names if not any(fnmatchcase(name, pattern) for pattern in ignored)]
    copies = [name for name in held if name not in expected and TIED.get(name) in expected]
    shapes = {name: source.shape(name) for name in held if name not in copies}
    check_shapes(expected, shapes, source.where, source.told_by)
    unusable = [name for name in expected if source.dtype(name) not in source.dtypes]
    if unusable:
        kinds = _some(unusable, lambda name: f"{shown(name)} is {source.dtype(name)}")
        raise CheckpointError(f"{source.where} has {kinds}; slmkit takes weights in {', '.join(source.dtypes)}")
    blocks = [name for name, shape in expected.items() if len(shape) == 1 and source.dtype(name) not in _NUMBERS]
    if blocks:
        kinds = _some(blocks, lambda name: f"{shown(name)} as {source.dtype(name)}")
        raise CheckpointError(f"{source.where} has {kinds}; slmkit takes vectors in {', '.join(_NUMBERS)}")
    return copies


def check_shapes(
    expected: Mapping[str, Shape], held: Mapping[str, Shape], where: object, told_by: str = "config.json"
) -> None:
    """Raise CheckpointError unless both name the same tensors with the same shapes."""
    missing = [name for name in expected if name not in held]
    extra = [name for name in held if name not in expected]
    if missing:
        names = _some(missing, lambda name: shown(name) + _hint(name, extra))
        raise CheckpointError(f"{where} lacks {names}; fetch all of the model's files again")
    if extra:
        names = _some(extra, shown)
        raise CheckpointError(
            f"{where} also has {names}, which this model has no use for and which would change its answers; "
            f"is {told_by} the right one?"
        )
    other = [name for name in expected if held[name] != expected[name]]
    if other:
        names = _some(other, lambda name: f"{shown(name)} is {list(held[name])}, not {list(expected[name])}")
        raise CheckpointError(f"{where} has shapes that {told_by} contradicts: {names}; do the two belong together?")


def _some(names: Sequence[str], describe: Callable[[str], str]) -> str:
    listed = ", ".join(describe(name) for name in names[:_MOST_LISTED])
    return f"{listed} and {len(names) - _MOST_LISTED} more tensors" if len(names) > _MOST_LISTED else listed


def _hint(name: str, others: Iterable[str]) -> str:
    """The name that was probably meant. Long ones are left out: the search takes time that grows with their length."""
    close = get_close_matches(name[:200], [other for other in others if len(other) <= 200], n=1, cutoff=0.85)
    return f" (it has {shown(close[0])})" if close else ""


def _check_copy(name: str, original: str, source: TensorSource) -> None:
    equal = source.shape(name) == source.shape(original) and source.dtype(name) in source.dtypes
    for i in range(0, source.shape(name)[0] if equal else 0, _ROWS_AT_ONCE):
        rows = slice(i, i + _ROWS_AT_ONCE)
        equal &= np.array_equal(as_f32(source.tensor(name)[rows]), as_f32(source.tensor(original)[rows]))
        source.release()
    if not equal:
        raise CheckpointError(
            f"{source.where} ties {name} to {original} in config.json, but holds two different ones; "
            "set tie_word_embeddings to false or take one out"
        )
