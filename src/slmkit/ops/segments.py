"""Which rows of a step belong to which sequence, and where their past lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLOCK = 32  # tokens of a cache block


@dataclass(frozen=True)
class Segments:
    """The sequences of one step, one after the other.

    starts: (sequences + 1,) int32, rows of sequence s are starts[s] .. starts[s + 1] - 1.
    positions: (sequences,) int32, absolute position of the first of those rows.
    blocks: (sequences, most blocks) int32, cache blocks of each sequence in order; unused entries are 0.
    """

    starts: NDArray[np.int32]
    positions: NDArray[np.int32]
    blocks: NDArray[np.int32]
