"""What is made of a prompt while it is read, beside its place in the cache: log probabilities, or one vector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slmkit.engine.job import Job, Task
from slmkit.engine.sampling import log_softmax
from slmkit.events import PromptRead, TokenInfo

if TYPE_CHECKING:
    from slmkit.engine.cache import Cache
    from slmkit.engine.sequence import Sequence

F32 = NDArray[np.float32]
PIECE = 32  # rows of logits at a time: each has 4 bytes for every word of the vocabulary


@dataclass(frozen=True)
class Rows:
    """The last hidden states of some ids of a sequence, before the final norm.

    begin: the first one's place in the sequence.   start: its row in the step.   hidden: (ids, hidden).
    logits: of rows of the step: (rows, vocab).
    """

    begin: int
    start: int
    hidden: F32
    model: Any
    logits: Callable[[range], F32]


class Reader(Protocol):
    """Takes the rows of a whole prompt, in order; after blocks were given back, some of them again."""

    def take(self, rows: Rows) -> None:
        """The next rows."""


class Scores:
    """The log probability of each token of a prompt, given those before it, and its likeliest alternatives."""

    def __init__(self, ids: list[int], info: Callable[[int, F32 | None], TokenInfo]) -> None:
        self._ids, self._info = ids, info
        self._tokens = [info(ids[0], None)]  # nothing comes before it

    def take(self, rows: Rows) -> None:
        """Score the ids that follow these rows."""
        last, shift = min(rows.begin + len(rows.hidden), len(self._ids) - 1), rows.start - rows.begin
        while (place := len(self._tokens) - 1) < last:
            for row in rows.logits(range(place + shift, min(place + PIECE, last) + shift)):
                id = self._ids[len(self._tokens)]
                self._tokens.append(self._info(id, log_softmax(row) if id >= 0 else None))

    def event(self) -> PromptRead:
        """What the caller is told, once all is read."""
        return PromptRead(tuple(self._tokens))


class Mean:
    """The mean of the hidden states after the final norm, summed in order in double: whatever the pieces."""

    def __init__(self, n_ids: int) -> None:
        self._n_ids, self._n_summed = n_ids, 0
        self._sum: NDArray[np.float64] | None = None

    def take(self, rows: Rows) -> None:
        """Add those that were not added before."""
        new = rows.hidden[self._n_summed - rows.begin :]
        if not len(new):
            return
        self._sum = np.zeros(new.shape[1]) if self._sum is None else self._sum
        for row in rows.model.normed(new):
            self._sum += row
        self._n_summed += len(new)

    @property
    def vector(self) -> F32:
        """(hidden,)"""
        assert self._sum is not None
        assert self._n_summed == self._n_ids
        return (self._sum / self._n_ids).astype(np.float32)


class EmbedJob(Job):
    """A text that is read and not answered.   vector: (hidden,), once the job has ended."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._mean = Mean(len(task.ids))
        self.live[0].reader = self._mean
        self.vector: F32 | None = None

    def accept(self, sequence: Sequence, logits: F32, cache: Cache) -> None:
        """All is read."""
        self.vector = self._mean.vector
        self.stamp()
        sequence.drop_cache(cache)
        self.live.remove(sequence)
