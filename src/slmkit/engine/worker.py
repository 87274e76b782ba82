"""The thread that owns the engine: jobs in, events out."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

from slmkit.engine.job import Job, Task, new_job
from slmkit.engine.step import Engine
from slmkit.errors import RuntimeFailure
from slmkit.events import Event


class Worker:
    """Runs an Engine on a thread of its own, started with the first task. Any thread may call it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, task: Task) -> Iterator[Event]:
        """Start the task now; the iterator gives its events. Closing the iterator, or dropping it, cancels the task."""
        job = new_job(task)
        with self._lock:
            if self._closed:
                raise RuntimeFailure("this model was closed; load it again")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="slmkit-engine", daemon=True)
                self._thread.start()
            self._inbox.put(job)
        return Events(job)

    def close(self) -> None:
        """End every job and the thread."""
        with self._lock:
            thread, self._thread, self._closed = self._thread, None, True
        if thread is not None:
            self._inbox.put(None)
            thread.join()

    def _run(self) -> None:
        engine = self._engine
        while self._take_in():
            try:
                engine.step()
            except Exception as error:  # whoever is waiting must hear of it, and the next request gets its chance
                engine.fail(error)
        engine.fail(RuntimeFailure("the model was closed while it answered; load it again"))

    def _take_in(self) -> bool:
        """Hand new jobs to the engine, waiting for one if it has none.   Returns False to end."""
        while True:
            try:
                job = self._inbox.get(block=not self._engine.jobs)
            except queue.Empty:
                return True
            if job is None:
                return False
            self._engine.add(job)


class Events(Iterator[Event]):
    """The events of one job."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._ended = False

    def __next__(self) -> Event:
        if self._ended:
            raise StopIteration
        event = self._job.events.get()
        if event is None or isinstance(event, BaseException):
            self._ended = True
            raise event or StopIteration
        return event

    def close(self) -> None:
        """Cancel: the job ends with the engine's next step."""
        self._job.cancelled = True
        self._ended = True

    def __del__(self) -> None:
        self.close()
