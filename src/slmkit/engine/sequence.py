"""One line of tokens: what it has, how much of it is cached, and the text it has given out."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slmkit.ops.segments import BLOCK

if TYPE_CHECKING:
    import numpy as np

    from slmkit.engine.cache import Cache
    from slmkit.engine.constrain import Guide
    from slmkit.engine.images import PromptImages
    from slmkit.engine.prefix import Node
    from slmkit.engine.reading import Reader
    from slmkit.engine.speculate import Guesser
    from slmkit.events import TokenInfo
    from slmkit.text.detokenize import Detokenizer
    from slmkit.text.stops import StopMatcher


@dataclass(eq=False)
class Sequence:
    """Tokens of one choice of one request.

    ids: prompt and answer.   n_prompt: how many of them are the prompt.
    blocks, n_cached: the table of cache blocks held and the number of leading ids whose keys and values are in them.
    table: which rotary table those keys were turned with.   adapter: which adapter made them; "" for none.
    draft: ids that the next step checks, as they may turn out to follow.   guesser: where they come from, once used.
    images: those among the ids, which are negative there.
    guide: what the answer must match.
    place: where its whole blocks are in the tree of prefixes, as far as they were noted there.
    served: when a part of the prompt was last planned to be read; the scheduler's own count.
    reader: what wants to see the prompt's rows; while there is one, all of them are computed.
    n_read: ids of the prompt that were read for it, those that were given back and read again counted again.
    n_drafted, n_accepted: how many were checked so far, and how many of them became part of the answer.
    """

    ids: list[int]
    n_prompt: int
    rng: np.random.Generator
    detokenizer: Detokenizer
    stops: StopMatcher
    index: int = 0
    adapter: str = ""
    blocks: list[int] = field(default_factory=list)
    n_cached: int = 0
    table: int = 0
    place: Node | None = None
    served: int = 0
    reader: Reader | None = None
    n_read: int = 0
    logprob: float = 0.0
    text: str = ""
    tokens: list[TokenInfo] = field(default_factory=list)
    reason: str = ""
    stop: str | None = None
    draft: list[int] = field(default_factory=list)
    guesser: Guesser | None = None
    n_drafted: int = 0
    n_accepted: int = 0
    images: PromptImages | None = None
    guide: Guide | None = None

    @property
    def n_generated(self) -> int:
        """Tokens of the answer so far."""
        return len(self.ids) - self.n_prompt

    @property
    def n_reused(self) -> int:
        """Ids of a prompt that is read that an earlier request had read, or an earlier run."""
        return max(self.n_prompt - self.n_read, 0)

    def note_read(self, count: int, cache: Cache) -> None:
        """The last `count` cached ids were read in this step; whole blocks can serve others now."""
        begin = self.n_cached - count
        if begin < self.n_prompt:
            self.n_read += min(self.n_cached, self.n_prompt) - begin
        if begin // BLOCK < self.n_cached // BLOCK:
            cache.prefixes.note(self, cache)

    def add(self, id: int) -> None:
        """Take the id that follows. Where the step's draft had it, it is cached already; else the draft ends."""
        self.ids.append(id)
        if self.guesser is not None:
            self.guesser.note(id)
        if self.draft and self.draft[0] == id:
            del self.draft[0]
            self.n_cached += 1
            self.n_accepted += 1
        else:
            self.draft = []

    def rest(self) -> str:
        """Text still held back, once no token follows; a stop string completed by it counts."""
        return self.stops.push(self.detokenizer.flush()) + self.stops.flush()

    def drop_cache(self, cache: Cache) -> None:
        """Give the blocks back; the ids will be read again."""
        cache.release(self.blocks)
        self.n_cached, self.place = 0, None
        self.draft = []

    def drop_draft(self, cache: Cache) -> None:
        """Give back the blocks that only the rest of the draft needed."""
        self.draft = []
        n_blocks = -(-self.n_cached // BLOCK) * cache.n_strands
        surplus = self.blocks[n_blocks:]
        del self.blocks[n_blocks:]
        cache.release(surplus)

    def fork(self, index: int, rng: np.random.Generator) -> Sequence:
        """A second sequence with the same past, and nothing cached yet."""
        twin = copy.copy(self)
        twin.ids, twin.tokens = list(self.ids), list(self.tokens)
        twin.detokenizer, twin.stops = self.detokenizer.fork(), self.stops.fork()
        twin.index, twin.rng = index, rng
        twin.blocks, twin.n_cached, twin.place = [], 0, None
        twin.draft, twin.guesser = [], None
        twin.guide = self.guide.fork() if self.guide else None
        return twin

    def share_cache(self, parent: Sequence, cache: Cache) -> None:
        """Hold what the parent has cached too; where no block is free to copy its last one, that is read again."""
        has_room = cache.n_free >= cache.n_strands
        self.n_cached = parent.n_cached if has_room else parent.n_cached // BLOCK * BLOCK
        self.blocks, self.place = cache.fork(parent.blocks, self.n_cached), parent.place
