"""Beam search: the k likeliest lines of tokens so far go on, all in the same step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slmkit.engine.cache import Cache
from slmkit.engine.job import Job, Task
from slmkit.engine.sampling import likeliest, log_softmax, shape_logits
from slmkit.engine.sequence import Sequence
from slmkit.events import Chunk, TokenInfo

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Candidate:
    """A live line and a token that may follow it; total is the sum of log probabilities with that token."""

    total: float
    parent: Sequence
    id: int
    info: TokenInfo


class BeamJob(Job):
    """k beams; a line that ends is set aside with the score total / length ** length_penalty, length with its end token.

    The search ends when k lines are set aside and the best live one, scored as if it ended now, cannot beat the worst
    of them. Answers come out together, best first. Source: the rule of transformers' generate with
    early_stopping=False, which published results of these models use.
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
            self.stamp()
            if self._is_done():
                self._deliver(cache)

    def _candidates(self) -> list[Candidate]:
        """The 2 k best continuations of all beams, so that k remain even if k of them end."""
        found = []
        for s in self.live:
            shaped = shape_logits(self._rows[s], s.ids, s.n_prompt, self.task.options, self.task.processors)
            row = log_softmax(shaped)
            shown = log_softmax(self._rows[s]) if self.task.options.logprobs is not None else None
            best = likeliest(row, 2 * self.k)
            found += [Candidate(s.logprob + float(row[i]), s, int(i), self.info(int(i), shown)) for i in best]
        return sorted(found, key=lambda c: -c.total)[: 2 * self.k]

    def _extend(self, candidates: list[Candidate], cache: Cache) -> None:
        chosen: list[Candidate] = []
        for rank, c in enumerate(candidates):
            if c.id in self.task.stop_ids:
                if rank < self.k:
                    self._set_aside(self._child(c, cache, share=False), "stop", c.info.text)
            elif len(chosen) < self.k:
                chosen.append(c)
        parents = self.live
        self.live = [self._child(c, cache) for c in chosen]
        for parent in parents:
            parent.drop_cache(cache)
        for s in list(self.live):
            if s.stops.matched is not None:
                self._end_line(s, "stop", s.stops.matched, cache)
            elif s.n_generated == self.task.limit:
                self._end_line(s, "length", None, cache)

    def _child(self, c: Candidate, cache: Cache, share: bool = True) -> Sequence:
        child = c.parent.fork(cache, 0, c.parent.rng, share)
        child.ids.append(c.id)
        child.tokens.append(c.info)
        child.logprob = c.total
        if c.id not in self.task.stop_ids:
            child.text += child.stops.push(child.detokenizer.push(c.id))
        return child

    def _end_line(self, s: Sequence, reason: str, stop: str | None, cache: Cache) -> None:
        s.drop_cache(cache)
        self.live.remove(s)
        self._set_aside(s, reason, stop)

    def _set_aside(self, s: Sequence, reason: str, stop: str | None) -> None:
        s.reason, s.stop = reason, stop
        s.text += s.rest()
        self.ended.append((self._score(s), s))
        self.ended = sorted(self.ended, key=lambda e: -e[0])[: self.k]

    def _score(self, s: Sequence) -> float:
        return s.logprob / s.n_generated**self.power

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
            self.events.put(Chunk(s.text, index, tuple(s.tokens)))
            self.events.put(self.finished(s, s.reason, score))
