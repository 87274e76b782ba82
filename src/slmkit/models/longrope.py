"""LongRoPE as the configurations of the family state it: under several names, with the factors of each family."""

from __future__ import annotations

from collections.abc import Callable, Collection

from slmkit.layers.rope import LongRope
from slmkit.models.config import ConfigReader
from slmkit.untrusted import shown

NAMES = ("longrope", "su")  # two spellings of the same thing in published files
_COMMON = frozenset({"type", "rope_type", "original_max_position_embeddings"})
_TABLES = frozenset({"short_factor", "long_factor"})


def read_longrope(
    read: ConfigReader,
    pairs: int,
    original: int,
    factors: Callable[[int], tuple[float, float | None]],
    *,
    names: Collection[str] = NAMES,
    plain: Collection[str] = (),
    scaled: Collection[str] = (),
) -> LongRope | None:
    """The rotary settings of a config.json; None for plain RoPE.   Raises UnsupportedModel, CheckpointError.

    pairs: of features that are rotated in a head.   original: the original context where the file does not tell it.
    factors: given the original context, what multiplies cos and sin: with both tables, or with long and short.
    plain, scaled: the family's own keys, of any rotary settings and of LongRoPE's.
    """
    rope = read.rope_parameters()
    original = read.integer("original_max_position_embeddings", default=original, within=rope)
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        read.known(rope, "rope_scaling", {*_COMMON, *plain})
        return None
    read.require(kind in names, f"rope type {shown(kind)} is not one of default, {', '.join(names)}")
    read.known(rope, "rope_scaling", {*_COMMON, *_TABLES, *plain, *scaled})
    read.require(original > 1, "original_max_position_embeddings is 1, and LongRoPE divides by its logarithm")
    attention_factor, short_attention_factor = factors(original)
    return LongRope(
        short=read.numbers(rope, "short_factor", pairs),
        long=read.numbers(rope, "long_factor", pairs),
        original_context=original,
        attention_factor=attention_factor,
        short_attention_factor=short_attention_factor,
    )
