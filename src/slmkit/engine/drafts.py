"""How many ids ahead each sequence speculates in a step: as many as pay, by what steps were seen to cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from slmkit.engine.speculate import LONGEST_DRAFT, Guesser

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from slmkit.engine.job import Job
    from slmkit.engine.scheduler import Work
    from slmkit.engine.sequence import Sequence as Line

MOST_ROWS = 32  # of a step with drafts: each row of logits takes 4 bytes for every word of the vocabulary
QUICK = 0.002  # seconds: finding guesses for a sequence takes 1 % of this, so quicker steps have no time for it
WORTH = 1.03  # a draft must promise this many times the tokens a second of a step without


class Costs:
    """What a step of so many rows costs, in an arbitrary unit: only the ratios mean something.

    A machine's speed swings by the minute and falls with the context, so a step's time moves a common speed more than
    it moves the cost of its own number of rows, and that of its neighbours half as much for each row of distance.
    What does not occur goes back to the first guess of its ratio to what does, so that one bad moment does not rule it
    out for good.
    """

    FIRST = 1 + 0.2 * np.arange(MOST_ROWS)  # of 1, 2, ... rows
    FASTER, SLOWER, FORGET = 0.3, 0.2, 0.003

    def __init__(self) -> None:
        self._cost: list[float] = self.FIRST.tolist()
        self._speed = 0.0

    def of(self, rows: int) -> float:
        """The cost of a step of 1 to MOST_ROWS rows."""
        return self._cost[rows - 1]

    def seconds(self, rows: int) -> float:
        """The time of such a step; 0 before the first."""
        return self._speed * self.of(rows)

    def note(self, rows: int, seconds: float) -> None:
        """Learn from a step that read no prompt."""
        if not 1 <= rows <= MOST_ROWS or seconds <= 0:
            return
        self._speed = self._speed or seconds / self.of(rows)
        error = min(max(seconds / (self._speed * self.of(rows)), 0.5), 2.0)
        self._speed *= error**self.FASTER
        near = 0.5 ** np.abs(np.arange(MOST_ROWS) - (rows - 1))
        cost, first = np.array(self._cost), self.FIRST * (self.of(rows) / self.FIRST[rows - 1])
        cost += (1 - near) * self.FORGET * (first - cost)
        self._cost = (cost * error ** (self.SLOWER * near)).tolist()


def lengths_that_pay(chances: Sequence[Sequence[float]], costs: Costs, rows: int) -> list[int]:
    """How long each draft should be, so that the step gives most tokens for its time.

    chances: for each sequence that may speculate, Guesser.chances.   rows: of the step without drafts.
    The likeliest draft token of all is added first; of one sequence an earlier one is never less likely.
    """
    order = sorted(((c, -i, s) for s, own in enumerate(chances) for i, c in enumerate(own)), reverse=True)
    best, n_best, tokens = rows / costs.of(rows) * WORTH if rows <= MOST_ROWS else np.inf, 0, float(rows)
    for n, (chance, _, _) in enumerate(order[: max(MOST_ROWS - rows, 0)], 1):
        tokens += chance
        if tokens / costs.of(rows + n) > best:
            best, n_best = tokens / costs.of(rows + n), n
    lengths = [0] * len(chances)
    for _, _, s in order[:n_best]:
        lengths[s] += 1
    return lengths


class Drafter:
    """Gives each sequence its draft before a step, and learns from the step's time."""

    def __init__(self, rope: Any) -> None:
        self.rope, self.costs = rope, Costs()

    def draft(self, jobs: Iterable[Job]) -> None:
        """Set the draft of every live sequence; none where a prompt is read in the same step, which takes its time."""
        lines = [(job, line) for job in jobs for line in job.live]
        for _, line in lines:
            line.draft = []
        pending = [len(line.ids) - line.n_cached for _, line in lines]
        if max(pending, default=0) > 1 or len(lines) >= MOST_ROWS:
            return
        is_quick = self.costs.seconds(max(len(lines), 1)) < QUICK * len(lines)
        able = [
            (job, line)
            for job, line in lines
            if job.speculates and line.n_generated and not (is_quick and job.task.options.speculate is None)
        ]
        for _, line in able:
            line.guesser = line.guesser or Guesser()
            line.guesser.look(line.ids)
        self._choose([(job, line) for job, line in able if line.guesser and line.guesser.guess], sum(pending))

    def note(self, plan: Sequence[Work], seconds: float) -> None:
        """Learn what the step cost, if it read no prompt."""
        if all(work.count == 1 for work in plan):
            self.costs.note(sum(1 + len(work.draft) for work in plan), seconds)

    def _choose(self, able: list[tuple[Job, Line]], rows: int) -> None:
        auto = [(job, line) for job, line in able if job.task.options.speculate is None]
        chances = [line.guesser.chances(self._most(job, line)) for job, line in auto if line.guesser]
        lengths = lengths_that_pay(chances, self.costs, rows)
        asked = [(line, length) for (_, line), length in zip(auto, lengths, strict=True)]
        for job, line in able:
            if job.task.options.speculate is not None:
                asked.append((line, min(job.task.options.speculate, self._most(job, line))))
        room = MOST_ROWS - rows
        for line, length in asked:
            if line.guesser:
                line.draft = line.guesser.guess[: min(length, room)]
            room -= len(line.draft)

    def _most(self, job: Job, line: Line) -> int:
        """The longest draft that stays within max_tokens, and within the rotary table of the cached keys."""
        n, most = len(line.ids), min(LONGEST_DRAFT, job.task.limit - line.n_generated - 1)
        while most and self.rope.table(n + most) != line.table:
            most -= 1
        return most
