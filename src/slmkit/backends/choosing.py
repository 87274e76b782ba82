"""Answers of runtimes that hand over logits: each token is chosen here, just as our own engine chooses it.

So options, seeds, stop texts, constraints and log probabilities mean the same whoever runs the model, and two runtimes
that give the same logits give the same answer, drawn or not.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slmkit.backends.room import answer_limit
from slmkit.engine.constrain import Guide, Vocabulary
from slmkit.engine.job import Task
from slmkit.engine.sample import SampleJob
from slmkit.engine.sampling import log_softmax
from slmkit.errors import DeadlineExceeded, OptionError, RequestError
from slmkit.events import Event, PromptRead

if TYPE_CHECKING:
    from slmkit.backends.answering import Tell
    from slmkit.options import Options
    from slmkit.request import Request
    from slmkit.text.tokenizer import Tokenizer

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Asking:
    """What a request becomes with one model.

    defaults: how the model is meant to be sampled.   stop_ids: all that end its answers.
    context, most: the one it was loaded with, and the one it could be.
    """

    tokenizer: Tokenizer
    vocab_size: int
    defaults: Options
    stop_ids: frozenset[int]
    context: int
    most: int

    def task(self, request: Request, ids: Sequence[int], came: float) -> Task:
        """The request whose prompt has these ids, and which came at a time of time.perf_counter.

        Raises RequestError where it cannot be run.
        """
        self._check_ids(ids)
        options = self._options(request)
        own = frozenset() if options.ignore_eos else self.stop_ids
        asked, default = request.options.max_tokens, self.defaults.max_tokens
        return Task(
            ids=tuple(ids),
            options=options,
            limit=answer_limit(len(ids), asked, default, self.context, self.most),
            stop_ids=own | frozenset(options.stop_ids or ()),
            tokenizer=self.tokenizer,
            continues=request.messages is None,
            processors=request.processors,
            scorer=request.scorer,
            guide=self._guide(request),
            prompt_logprobs=request.prompt_logprobs,
            deadline=came + request.deadline_s if request.deadline_s is not None else None,
        )

    def _check_ids(self, ids: Sequence[int]) -> None:
        if not ids:
            raise RequestError("the prompt is empty; give at least one token to continue")
        for id in ids:
            if not 0 <= id < self.vocab_size:
                raise RequestError(f"token id {id} is none of this model's: 0 to {self.vocab_size - 1}")

    def _options(self, request: Request) -> Options:
        options = request.options.over(self.defaults)
        for name, ids in (("logit_bias", options.logit_bias or {}), ("stop_ids", options.stop_ids or ())):
            for id in ids:
                if id >= self.vocab_size:
                    raise OptionError(f"{name} names token {id}; this model's ids end at {self.vocab_size - 1}")
        return options

    def _guide(self, request: Request) -> Guide | None:
        if request.constraint is None:
            return None
        return self._vocabulary.guide(request.constraint, continues=request.messages is None)

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary(self.tokenizer, self.vocab_size)


class _NoCache:
    """What the lines here hold of our own engine's cache: nothing, which they give back."""

    def release(self, blocks: Sequence[int]) -> None:
        """Take back nothing."""


_NO_CACHE: Any = _NoCache()


class Choosing:
    """The choices of one task, a token each at a time; what happens is told as it happens.

    n: of its lines, which all begin with the task's ids.
    """

    def __init__(self, task: Task, tell: Tell) -> None:
        self._task, self._tell = task, tell
        self._job = SampleJob(task)
        self.n = self._job.n_opened = task.options.n or 1
        (first,) = self._job.live
        self._lines = [first, *(first.fork(i, self._job.rng(i)) for i in range(1, self.n))]
        self._job.live = [*self._lines]
        self._deliver()

    @property
    def is_done(self) -> bool:
        """Whether every line is complete."""
        return not self._job.live

    @property
    def done(self) -> list[bool]:
        """Of each line, whether it is complete."""
        return [line not in self._job.live for line in self._lines]

    def read(self, rows: Iterable[F32]) -> None:
        """Tell the log probabilities of the prompt.   rows: (vocab,) logits after each of its ids."""
        ids, n_best = self._task.ids, self._task.prompt_logprobs
        first = self._job.info(ids[0], None)  # nothing comes before it
        scored = [self._job.info(id, log_softmax(row), n_best) for id, row in zip(ids[1:], rows, strict=False)]
        self._tell(PromptRead((first, *scored)))

    def take(self, rows: F32) -> list[int]:
        """The token that follows each line, by its row of the logits (n, vocab); 0 for one that was complete before.

        Raises DeadlineExceeded, and RequestError where the caller's own functions are at fault.
        """
        self._require_time()
        live = [*self._job.live]
        for line, row in zip(self._lines, rows, strict=True):
            if line in live:
                self._job.accept(line, row, _NO_CACHE)
        self._deliver()
        return [line.ids[-1] if line in live else 0 for line in self._lines]

    def _require_time(self) -> None:
        deadline = self._task.deadline
        if deadline is not None and time.perf_counter() > deadline:
            raise DeadlineExceeded(
                f"the deadline passed after {self._job.n_generated} tokens of the answer, which is not complete; "
                "allow more time with deadline_s, or lower max_tokens"
            )

    def _deliver(self) -> None:
        while not self._job.outbox.empty():
            event = self._job.outbox.get()
            assert isinstance(event, Event)
            self._tell(event)
