"""What one forward pass is told about its tokens, beside their ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from slmkit.ops.segments import Segments


@dataclass(frozen=True)
class Strand:
    """Where one strand of the cache lies, see layers/cache_layout.py; most models have one.

    slots: (tokens,) int64, where each token's key and value go: block * 32 + offset.
    segments: which rows are whose, and the cache blocks of each sequence; of blocks given back, any.
    """

    slots: NDArray[np.int64]
    segments: Segments


class Span(NamedTuple):
    """Rows of a step, from start up to end, that have one adapter."""

    adapter: str
    start: int
    end: int


@dataclass(frozen=True)
class Features:
    """Embeddings that come from elsewhere, such as an image, and not from the table.

    rows: (n,) of the step.   values: (n, hidden).
    """

    rows: NDArray[np.intp]
    values: NDArray[np.float32]


@dataclass(frozen=True)
class Step:
    """Positions and cache of the tokens of one step; sequences lie one after the other.

    positions: (tokens,) int32, absolute, from 0.
    lengths: (tokens,) int32, the true length of the sequence that each token belongs to. It exceeds position + 1
        while a prompt is read in pieces, and it is what LongRoPE chooses its table by.
    strands: as many as the model's cache layout has.   slots, segments: of the first, for models with one.
    cache: the array of engine/cache.py, see ops/reference.py: write_cache.
    features: of rows whose id stands for no token; None where all do.
    adapters: of the rows that have one; see layers/lora.py.
    """

    positions: NDArray[np.int32]
    lengths: NDArray[np.int32]
    strands: tuple[Strand, ...]
    cache: NDArray[Any]
    features: Features | None = None
    adapters: tuple[Span, ...] = ()

    @property
    def slots(self) -> NDArray[np.int64]:
        return self.strands[0].slots

    @property
    def segments(self) -> Segments:
        return self.strands[0].segments
