"""Beam search: the k likeliest lines of tokens so far go on, all in the same step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slmkit.engine.job import Job, Task
from slmkit.engine.sampling import likeliest, log_softmax, shape_logits
from slmkit.events import Chunk, TokenInfo

if TYPE_CHECKING:
    from slmkit.engine.cache import Cache
    from slmkit.engine.sequence import Sequence

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Candidate:
    """A live line and a token that may follow it; total is the sum of log probabilities with that token."""

    total: float
    parent: Sequence
    id: int
    info: TokenInfo


class BeamJob(Job):
    """k beams; a line that ends is set aside with the score total / length ** length_penalty, its end token counted.

    Of the best continuations of all beams together, in order, those that end are set aside if they are among the
    first k, and the first k others go on. The search ends when k lines are set aside and the best live one, scored as
    if it ended now, cannot beat the worst of them. Answers come out together, best first. Penalties, biases and
    processors act on log probabilities, which are not normalized again after them. Source: `generate` of transformers
    5.23 with early_stopping=False; tests/reference/make_beams.py holds this to it.
    """

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.k = task.options.beams or 1
        self.power = task.options.length_penalty if task.options.length_penalty is not None else 1.0
        self.ended: list[tuple[float, Sequence]] = []
        self._rows: dict[Sequence, F32] = {}

    def accept(self, sequence: Sequence, logits: F32, cache: Cache) -> None:
        """Hold the row until every beam has one, then extend them all."""
        self._rows[sequence] = logits
        if all(s in self._rows for s in self.live):
            candidates = self._candidates()
            self._rows.clear()
            self._extend(candidates, cache)
            self.n_generated += len(self.live)
            self.stamp()
            if self._is_done():
                self._deliver(cache)

    def _candidates(self) -> list[Candidate]:
        """The best continuations of all beams: so many that k go on even if every beam has every stop id among them."""
        count = max(2, 1 + len(self.task.stop_ids)) * self.k
        found = []
        for s in self.live:
            own = log_softmax(self._rows[s])
            row = shape_logits(own, s.ids, s.n_prompt, self.task.options, self.task.processors)
            found += [(s.logprob + float(row[i]), s, int(i), own) for i in likeliest(row, count)]
        shown = self.task.options.logprobs is not None
        best = sorted(found, key=lambda c: -c[0])[:count]
        return [Candidate(total, s, i, self.info(i, own if shown else None)) for total, s, i, own in best]

    def _extend(self, candidates: list[Candidate], cache: Cache) -> None:
        parents, self.live = self.live, []
        for rank, c in enumerate(candidates):
            if len(self.live) == self.k:
                break
            line = self._follow(c)
            if not line.reason:
                line.share_cache(c.parent, cache)
                self.live.append(line)
            elif rank < self.k:
                self._set_aside(line)
        for parent in parents:
            parent.drop_cache(cache)

    def _follow(self, c: Candidate) -> Sequence:
        """The parent's line with one token more; its reason says whether it ends there."""
        line = c.parent.fork(0, c.parent.rng)
        line.ids.append(c.id)
        line.tokens.append(c.info)
        line.logprob = c.total
        if c.id in self.task.stop_ids:
            line.reason, line.stop = "stop", c.info.text
            return line
        line.text += line.stops.push(line.detokenizer.push(c.id))
        if line.stops.matched is not None:
            line.reason, line.stop = "stop", line.stops.matched
        elif line.n_generated == self.task.limit:
            line.reason = "length"
        return line

    def _set_aside(self, line: Sequence) -> None:
        line.text += line.rest()
        self.ended.append((self._score(line), line))
        self.ended = sorted(self.ended, key=lambda e: -e[0])[: self.k]

    def _score(self, s: Sequence) -> float:
        return s.logprob / math.pow(s.n_generated, self.power)

    def _is_done(self) -> bool:
        if not self.live:
            return True
        best = max(self._score(s) for s in self.live)
        return len(self.ended) == self.k and self.ended[-1][0] >= best

    def _deliver(self, cache: Cache) -> None:
        for s in self.live:
            s.drop_cache(cache)
        self.live.clear()
        for index, (score, s) in enumerate(self.ended[: self.task.options.n or 1]):
            s.index = index
            self.outbox.put(Chunk(s.text, index, tuple(s.tokens)))
            self.outbox.put(self.finished(s, s.reason, score))
