"""The thread that owns the engine: jobs in, events out."""

from __future__ import annotations

import asyncio
import atexit
import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slmkit.engine.beam import BeamJob
from slmkit.engine.job import Job, Task
from slmkit.engine.outbox import Listeners
from slmkit.engine.reading import EmbedJob
from slmkit.engine.sample import SampleJob
from slmkit.errors import Busy, RequestError, RuntimeFailure
from slmkit.events import Event

if TYPE_CHECKING:
    from slmkit.engine.outbox import Item
    from slmkit.engine.step import Engine

F32 = NDArray[np.float32]
MOST_TEXTS = 8  # of one call, under way at the same time
MOST_JOBS = 256  # unless the caller says otherwise
Inbox = queue.SimpleQueue[Job | None]  # None: end every job and the thread


class Worker:
    """Runs an Engine on a thread of its own, started with the first task. Any thread may call it.

    The thread ends with close(), or when nobody holds the worker or any of its events any more.
    """

    def __init__(self, engine: Engine, most: int = MOST_JOBS) -> None:
        """most: jobs under way or waiting."""
        self._engine: Engine | None = engine  # None once closed
        self._counts, self._most, self._n_taken = engine.counts, most, 0
        self._inbox: Inbox = queue.SimpleQueue()
        self.listeners = Listeners()
        self._last_words: list[Exception] = []
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def submit(self, task: Task) -> Events:
        """Start the task now; the iterator gives its events. Closing the iterator, or dropping it, cancels the task."""
        job = new_job(task)
        with self._lock:
            self.require_room()
            if self._engine is None:
                raise RuntimeFailure("this model was closed; load it again")
            if self._thread is threading.current_thread():
                raise RequestError("a processor or scorer asked its own model, which waits for it; use a second model")
            if self._thread is None:
                self._thread = threading.Thread(
                    target=_run,
                    args=(self._engine, self._inbox, self.listeners, self._last_words),
                    name="slmkit-engine",
                    daemon=True,
                )
                self._thread.start()
                _RUNNING.add(self)
            if not self._thread.is_alive():  # a fork copies the model, and not the thread that would answer
                raise RuntimeFailure("this process was forked after its model was loaded; load the model again in it")
            self._n_taken += 1
            self._inbox.put(job)
        return Events(job, self)

    @property
    def n_jobs(self) -> int:
        """Jobs under way or waiting."""
        return self._n_taken - self._counts.ended

    def require_room(self) -> None:
        """Raise Busy if one more job would be too many."""
        if self.n_jobs >= self._most:
            wait = min(max(self._counts.pace, 1.0), 60.0)
            raise Busy(
                f"{self._most} requests are under way or waiting, as many as are allowed; try again in {wait:.0f} s, "
                "or load the model with a larger queue",
                wait,
            )

    def embed(self, tasks: Sequence[Task]) -> list[F32]:
        """The vector of each task's text: (hidden,). A few are under way at a time."""
        started: deque[Events] = deque()
        vectors: list[F32] = []
        waiting = iter(tasks)
        try:
            while True:
                started += [self.submit(task) for task in islice(waiting, MOST_TEXTS - len(started))]
                if not started:
                    return vectors
                events = started.popleft()
                for _ in events:
                    pass
                assert isinstance(events.job, EmbedJob)
                assert events.job.vector is not None
                vectors.append(events.job.vector)
        finally:
            for events in started:
                events.close()

    def close(self) -> None:
        """End every job and the thread, and let go of the engine.   Raises SlmError if its prompts cannot be kept."""
        with self._lock:
            thread, self._thread, self._engine = self._thread, None, None
        if thread is not None:
            self._inbox.put(None)
            if thread is not threading.current_thread():
                thread.join()
                if self._last_words:
                    raise self._last_words[0]

    def __del__(self) -> None:
        self._inbox.put(None)


# A thread that still holds a model while the interpreter is taken down would leave its memory behind.
_RUNNING: weakref.WeakSet[Worker] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for worker in list(_RUNNING):
        worker.close()


def _run(engine: Engine, inbox: Inbox, listeners: Listeners, last_words: list[Exception]) -> None:
    while _take_in(engine, inbox):
        try:
            engine.step()
        except BaseException as error:  # whoever is waiting must hear of it, and the next request gets its chance
            engine.fail(f"a step failed ({type(error).__name__}: {error}); try a smaller request, or report it", error)
        listeners.tell()
    engine.fail("the model was closed while it answered; load it again")
    listeners.tell()
    try:
        engine.close()
    except Exception as error:
        last_words.append(error)


def _take_in(engine: Engine, inbox: Inbox) -> bool:
    """Hand new jobs to the engine, waiting for one if it has none.   Returns False to end."""
    while True:
        if not engine.jobs and inbox.empty():
            engine.rest()
        try:
            job = inbox.get(block=not engine.jobs)
        except queue.Empty:
            return True
        if job is None:
            return False
        engine.add(job)


class Events(Iterator[Event]):
    """The events of one job, for one reader."""

    def __init__(self, job: Job, worker: Worker) -> None:
        self.job = job
        self._worker = worker  # held, so that a model that nobody else holds goes on answering
        self.ended = False

    def __next__(self) -> Event:
        if self.ended:
            raise StopIteration
        return self._event(self.job.outbox.get())

    def ready(self) -> Iterator[Event]:
        """The events that can be had without waiting; `ended` says whether there will be more."""
        while not self.ended:
            try:
                yield self._event(self.job.outbox.get_nowait())
            except (queue.Empty, StopIteration):
                return

    @contextmanager
    def heard(self, wake: Callable[[], None]) -> Iterator[None]:
        """Meanwhile the running asyncio loop calls `wake` after each step that has something more for `ready`."""
        loop = asyncio.get_running_loop()
        self._worker.listeners.add(loop, self.job.outbox, wake)
        try:
            yield
        finally:
            self._worker.listeners.remove(loop, self.job.outbox)

    def close(self) -> None:
        """Cancel: the job ends before the engine's next step, and nothing more comes of it."""
        self.job.cancelled = True
        self.ended = True

    def __del__(self) -> None:
        self.close()

    def _event(self, item: Item) -> Event:
        if item is None or isinstance(item, BaseException):
            self.ended = True
            raise item or StopIteration
        return item


def new_job(task: Task) -> Job:
    """The job for a task: a vector or beams if it asks for them, else samples."""
    if task.embeds:
        return EmbedJob(task)
    return BeamJob(task) if (task.options.beams or 1) > 1 else SampleJob(task)
