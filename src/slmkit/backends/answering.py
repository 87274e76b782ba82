"""Answers of runtimes that only run: a thread of each answer's makes its events, and stops when nobody wants them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

from slmkit.errors import RuntimeFailure, SlmError
from slmkit.events import Event

Item = Event | BaseException | None  # None: the answer has ended; an exception: it has failed


class Cancelled(Exception):
    """Raised by whoever makes events once nobody wants them; it ends the thread without a word."""


class Cancel:
    """Whether an answer is still wanted. Any thread may ask, or say that it is not."""

    def __init__(self) -> None:
        self._is_set = threading.Event()
        self._wakers: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    @property
    def is_set(self) -> bool:
        """Whether nobody wants the answer any more."""
        return self._is_set.is_set()

    def check(self) -> None:
        """Raise Cancelled if nobody wants the answer any more."""
        if self.is_set:
            raise Cancelled

    def sleep(self, seconds: float) -> None:
        """Wait.   Raises Cancelled as soon as nobody wants the answer any more."""
        if self._is_set.wait(seconds):
            raise Cancelled

    def on(self, wake: Callable[[], None]) -> None:
        """Have `wake` called, once, when that happens: it ends a wait that does not look at `is_set`."""
        with self._lock:
            if not self.is_set:
                return self._wakers.append(wake)
        wake()
        return None

    def set(self) -> None:
        """Nobody wants it any more."""
        with self._lock:
            self._is_set.set()
            wakers, self._wakers = self._wakers, []
        for wake in wakers:
            with suppress(Exception):  # what it would end has ended
                wake()


class Answering(Iterator[Event]):
    """The events of one answer, which begins now.

    make: yields the events, in the thread; it looks at the Cancel it is given between any two tokens.
    turn: held while it runs, by runtimes that answer one request at a time.
    """

    def __init__(self, make: Callable[[Cancel], Iterator[Event]], turn: threading.Lock | None = None) -> None:
        self._cancel, self._ended = Cancel(), False
        self._told: queue.SimpleQueue[Item] = queue.SimpleQueue()
        args = make, self._cancel, self._told, turn
        threading.Thread(target=_run, args=args, name="slmkit-answer", daemon=True).start()

    def __next__(self) -> Event:
        if self._ended:
            raise StopIteration
        item = self._told.get()
        if item is None or isinstance(item, BaseException):
            self._ended = True
            raise item or StopIteration
        return item

    def close(self) -> None:
        """Cancel: the runtime stops before its next token, and nothing more comes of it."""
        self._ended = True
        self._cancel.set()
        self._told.put(None)  # to whoever waits

    def __del__(self) -> None:
        self._cancel.set()


def _run(
    make: Callable[[Cancel], Iterator[Event]],
    cancel: Cancel,
    told: queue.SimpleQueue[Item],
    turn: threading.Lock | None,
) -> None:
    try:
        if turn is None:
            return _make(make, cancel, told)
        while not turn.acquire(timeout=0.1):
            cancel.check()
        try:
            _make(make, cancel, told)
        finally:
            turn.release()
    except Cancelled:
        told.put(None)
    except SlmError as error:
        told.put(error)
    except BaseException as error:
        failure = RuntimeFailure(f"the runtime failed ({type(error).__name__}: {error}); try a smaller request")
        failure.__cause__ = error
        told.put(failure)


def _make(make: Callable[[Cancel], Iterator[Event]], cancel: Cancel, told: queue.SimpleQueue[Item]) -> None:
    cancel.check()
    for event in make(cancel):
        cancel.check()
        told.put(event)
    told.put(None)
