"""One line of tokens: what it has, how much of it is cached, and the text it has given out."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slmkit.ops.segments import BLOCK

if TYPE_CHECKING:
    import numpy as np

    from slmkit.engine.cache import Cache
    from slmkit.events import TokenInfo
    from slmkit.text.detokenize import Detokenizer
    from slmkit.text.stops import StopMatcher


@dataclass(eq=False)
class Sequence:
    """Tokens of one choice of one request.

    ids: prompt and answer.   n_prompt: how many of them are the prompt.
    blocks, n_cached: the cache blocks held and the number of leading ids whose keys and values are in them.
    table: which rotary table those keys were turned with.
    """

    ids: list[int]
    n_prompt: int
    rng: np.random.Generator
    detokenizer: Detokenizer
    stops: StopMatcher
    index: int = 0
    blocks: list[int] = field(default_factory=list)
    n_cached: int = 0
    table: int = 0
    logprob: float = 0.0
    text: str = ""
    tokens: list[TokenInfo] = field(default_factory=list)
    reason: str = ""
    stop: str | None = None

    @property
    def n_generated(self) -> int:
        """Tokens of the answer so far."""
        return len(self.ids) - self.n_prompt

    def rest(self) -> str:
        """Text still held back, once no token follows; a stop string completed by it counts."""
        return self.stops.push(self.detokenizer.flush()) + self.stops.flush()

    def drop_cache(self, cache: Cache) -> None:
        """Give the blocks back; the ids will be read again."""
        cache.release(self.blocks)
        self.n_cached = 0

    def fork(self, index: int, rng: np.random.Generator) -> Sequence:
        """A second sequence with the same past, and nothing cached yet."""
        twin = copy.copy(self)
        twin.ids, twin.tokens = list(self.ids), list(self.tokens)
        twin.detokenizer, twin.stops = self.detokenizer.fork(), self.stops.fork()
        twin.index, twin.rng = index, rng
        twin.blocks, twin.n_cached = [], 0
        return twin

    def share_cache(self, parent: Sequence, cache: Cache) -> None:
        """Hold what the parent has cached too; where no block is free to copy its last one, that is read again."""
        self.n_cached = parent.n_cached if cache.n_free else parent.n_cached // BLOCK * BLOCK
        self.blocks = cache.fork(parent.blocks, self.n_cached)
