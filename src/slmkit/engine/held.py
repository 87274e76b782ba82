"""The line of tokens whose cache blocks stay when its sequence has ended, as long as nobody needs them."""

from __future__ import annotations

from collections.abc import Sequence as Ids
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slmkit.engine.cache import GONE
from slmkit.ops.segments import BLOCK

if TYPE_CHECKING:
    from slmkit.engine.cache import Cache
    from slmkit.engine.sequence import Sequence


class HeldLine:
    """Follows one sequence and holds its whole blocks too, also those that no later token of it sees.

    The blocks are `cache.kept`, which the scheduler empties where others are short of them; then the line is lost.
    table: the rotary table of its keys.
    """

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.table = 0
        self._ids: list[int] = []
        self._followed: Sequence | None = None
        self._most = 0
        self._n_held = 0

    @property
    def ids(self) -> list[int]:
        """What the blocks hold: a multiple of 32 ids."""
        return self._ids[: len(self.cache.kept) // self.cache.n_strands * BLOCK]

    def follow(self, sequence: Sequence, most_blocks: int) -> None:
        """Hold the first blocks of this line, and of no other, from now on."""
        before, self.cache.kept = self.cache.kept, []
        self._ids, self._followed, self.table = sequence.ids, sequence, sequence.table
        self._most, self._n_held = most_blocks, 0
        self.grow()
        self.cache.release(before)

    def grow(self) -> None:
        """Hold the blocks that were filled since."""
        sequence, kept = self._followed, self.cache.kept
        if sequence is None:
            return
        if sequence.table != self.table:  # it is read again with the other one
            self.cache.release(kept)
            self._n_held, self.table = 0, sequence.table
        if len(kept) < self._n_held:  # the beginning was let go
            self._followed = None
            return
        n_blocks = min(sequence.n_cached // BLOCK, self._most)
        kept += self.cache.hold(sequence.blocks[len(kept) : n_blocks * self.cache.n_strands])
        assert GONE not in kept[self._n_held :]
        self._n_held = len(kept)

    def lend(self, sequence: Sequence, n_blocks: int) -> None:
        """Give a new sequence the first blocks of each strand."""
        sequence.n_cached = n_blocks * BLOCK
        sequence.blocks = self.cache.fork(self.cache.kept[: n_blocks * self.cache.n_strands], sequence.n_cached)


def blocks_in_common(a: Ids[int] | NDArray[Any], b: Ids[int] | NDArray[Any]) -> int:
    """How many times 32 ids both begin with."""
    n = min(len(a), len(b))
    differ = np.flatnonzero(np.asarray(a[:n]) != np.asarray(b[:n]))
    return int(differ[0] if len(differ) else n) // BLOCK
