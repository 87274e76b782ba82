"""Block-sparse attention: which blocks of keys each head sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slmkit.ops.segments import BLOCK


@dataclass(frozen=True, eq=False)
class BlockSparse:
    """The nearest blocks, and of those before them every `stride`-th, for each head another one.

    Tokens go in blocks of `size`, a multiple of 32, at absolute multiples of it. A query in block i sees a key that is
    not after it, in block j, where i - j < local or (j + shifts[h]) % stride == 0.
    shifts: (heads,) int32, 0 to stride - 1, of the heads that a call of `attention` has.
    Source: the published code of Phi-3-small; arXiv 2404.14219, section 2.
    """

    size: int
    local: int
    stride: int
    shifts: NDArray[np.int32]

    def visible(self, i: NDArray[np.integer], j: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Whether each head sees the keys at positions j from those at i.   Returns (heads, len(i), len(j))."""
        near = i[:, None] // self.size - j[None] // self.size < self.local
        regular = (j[None] // self.size + self.shifts[:, None]) % self.stride == 0
        seen: NDArray[np.bool_] = (near[None] | regular[:, None]) & (j[None] <= i[:, None])
        return seen

    @property
    def kept(self) -> frozenset[int]:
        """j % stride of the blocks that some head sees from however far."""
        return frozenset((-self.shifts % self.stride).tolist())

    def n_far(self, position: int) -> int:
        """How many cache blocks of 32, the first ones, no query from `position` on has among its nearest."""
        return max(0, position // self.size - self.local + 1) * (self.size // BLOCK)

    def keeps(self, block: int) -> bool:
        """Whether some head sees this cache block of 32 from however far."""
        return block * BLOCK // self.size % self.stride in self.kept
