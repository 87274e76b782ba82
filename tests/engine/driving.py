"""An engine without its thread, driven step by step, that writes down the logits it chose from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import tiny
from slmkit.engine.job import Job, Task
from slmkit.engine.step import Engine
from slmkit.engine.worker import new_job
from slmkit.events import Answer, collect
from slmkit.options import FALLBACKS, Options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


BESIDES = ("processors", "scorer", "adapter", "guide", "deadline", "prompt_logprobs", "embeds")


def task(ids: Sequence[int], limit: int = 8, stop_ids: Sequence[int] = (), **given: Any) -> Task:
    """A task for the letters of tiny.py, greedy unless options say otherwise."""
    besides = {name: given.pop(name) for name in BESIDES if name in given}
    options = Options(**given).over(FALLBACKS)
    return Task(
        tuple(int(i) for i in ids), options, limit, frozenset(stop_ids), tiny.tokenizer(), continues=True, **besides
    )


class Recorder:
    """A logits processor that keeps the rows it sees, and may force what comes next.

    rows: length of the sequence -> logits after it.
    """

    def __init__(self, then: Sequence[int] | None = None) -> None:
        self.rows: dict[int, np.ndarray] = {}
        self._then = then

    def __call__(self, ids: Sequence[int], logits: np.ndarray) -> np.ndarray:
        self.rows[len(ids)] = logits.copy()
        if self._then is None:
            return logits
        forced = np.full_like(logits, -np.inf)
        forced[self._then[len(ids)]] = 0
        return forced


def run(engine: Engine, *tasks: Task, after_step: Callable[[Engine], None] = lambda engine: None) -> list[Answer]:
    """The answers of tasks that come at the same time. An error of any of them is raised."""
    jobs = [new_job(each) for each in tasks]
    for job in jobs:
        engine.add(job)
    for _ in range(10_000):
        if not engine.jobs:
            return [answer(job) for job in jobs]
        engine.step()
        after_step(engine)
    raise AssertionError("the engine does not come to an end")


def answer(job: Job) -> Answer:
    """What an ended job told."""
    return collect(iter(events(job)))


def events(job: Job) -> list[Any]:
    """The events of an ended job; its error is raised."""
    found = []
    while (item := job.outbox.get_nowait()) is not None:
        if isinstance(item, BaseException):
            raise item
        found.append(item)
    return found


def held_blocks(engine: Engine) -> list[int]:
    """Every block in the tables of live sequences, with repetition."""
    return [block for job in engine.jobs for s in job.live for block in s.blocks]
