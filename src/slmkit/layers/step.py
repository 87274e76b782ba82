"""What one forward pass is told about its tokens, beside their ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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


@dataclass(frozen=True)
class Step:
    """Positions and cache of the tokens of one step; sequences lie one after the other.

    positions: (tokens,) int32, absolute, from 0.
    lengths: (tokens,) int32, the true length of the sequence that each token belongs to. It exceeds position + 1
        while a prompt is read in pieces, and it is what LongRoPE chooses its table by.
    strands: as many as the model's cache layout has.   slots, segments: of the first, for models with one.
    cache: the array of engine/cache.py, see ops/reference.py: write_cache.
    """

    positions: NDArray[np.int32]
    lengths: NDArray[np.int32]
    strands: tuple[Strand, ...]
    cache: NDArray[Any]

    @property
    def slots(self) -> NDArray[np.int64]:
        return self.strands[0].slots

    @property
    def segments(self) -> Segments:
        return self.strands[0].segments
