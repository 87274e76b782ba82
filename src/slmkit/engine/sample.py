"""Independent answers: each sequence samples its own next token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slmkit.engine.job import Job
from slmkit.engine.sampling import choose, log_softmax, shape_logits
from slmkit.events import Chunk

if TYPE_CHECKING:
    from slmkit.engine.cache import Cache
    from slmkit.engine.sequence import Sequence
    from slmkit.events import TokenInfo

F32 = NDArray[np.float32]


class SampleJob(Job):
    """n independent answers; the prompt is read once and its cache shared."""

    n_opened = 1

    @property
    def speculates(self) -> bool:
        """Each row of a draft is chosen from as if it came alone, so any options and processors are served.

        What a constraint allows is found while the model runs, for one row.
        """
        return self.task.options.speculate != 0 and self.task.guide is None

    def accept(self, sequence: Sequence, logits: F32, cache: Cache) -> None:
        """Sample the next token of the sequence; after the prompt, also open the other answers."""
        others = self._open_others(sequence, cache) if self.n_opened < (self.task.options.n or 1) else []
        for each in (sequence, *others):
            self._advance(each, logits, cache)
        self.stamp()

    def _open_others(self, sequence: Sequence, cache: Cache) -> list[Sequence]:
        twins = [sequence.fork(i, self.rng(i)) for i in range(1, self.task.options.n or 1)]
        for twin in twins:
            twin.share_cache(sequence, cache)
        self.live += twins
        self.n_opened += len(twins)
        return twins

    def _advance(self, sequence: Sequence, logits: F32, cache: Cache) -> None:
        task, options, guide = self.task, self.task.options, sequence.guide
        if guide and guide.is_complete:  # which shows only now
            self._emit(sequence, sequence.rest())
            return self.finish(sequence, "stop", cache)
        shaped = shape_logits(logits, sequence.ids, sequence.n_prompt, options, task.processors)
        if guide:
            shaped = guide.masked(shaped, task.stop_ids)
        id = choose(shaped, options, sequence.rng, self.draw)
        row = log_softmax(logits) if options.logprobs is not None or task.scorer else None
        info = self.info(id, row)
        sequence.logprob += info.logprob or 0.0
        sequence.add(id)
        self.n_generated += 1
        if id in task.stop_ids:
            sequence.stop = info.text
            self._emit(sequence, sequence.rest(), info)
            return self.finish(sequence, "stop", cache)
        if guide:
            guide.take(id)
        is_complete = guide is not None and guide.is_complete
        last = is_complete or sequence.n_generated == task.limit
        text = sequence.stops.push(sequence.detokenizer.push(id))
        self._emit(sequence, text + sequence.rest() if last else text, info)
        if sequence.stops.matched is not None:
            sequence.stop = sequence.stops.matched
            return self.finish(sequence, "stop", cache)
        return self.finish(sequence, "stop" if is_complete else "length", cache) if last else None

    def _emit(self, sequence: Sequence, text: str, *tokens: TokenInfo) -> None:
        sequence.text += text
        self.outbox.put(Chunk(text, sequence.index, tokens))
