"""Answers of runtimes that only run: a thread of each answer's own makes its events, and stops once nobody wants it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from weakref import WeakSet

from slmkit.errors import RequestError, RuntimeFailure, SlmError
from slmkit.events import Event

Item = Event | BaseException | None  # None: the answer has ended; an exception: it has failed
Tell = Callable[[Event], None]
_HELD = threading.local()  # `turn`: that of the answer which this thread makes


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
        self._begin(partial(_make, make), turn)

    @classmethod
    def of_calls(cls, run: Callable[[Cancel, Tell], None], turn: threading.Lock | None = None) -> Answering:
        """One whose runtime calls back: `run` tells each event as it comes, and returns when the answer is complete.

        Telling raises Cancelled once nobody wants the answer.
        """
        answering = cls.__new__(cls)
        answering._begin(run, turn)
        return answering

    def _begin(self, run: Callable[[Cancel, Tell], None], turn: threading.Lock | None) -> None:
        self._cancel, self._ended = Cancel(), False
        self._told: queue.SimpleQueue[Item] = queue.SimpleQueue()
        args = run, self._cancel, self._told, turn
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

    def fail(self, error: SlmError) -> None:
        """Cancel, and have whoever reads be told why."""
        self._cancel.set()
        self._told.put(error)

    def __del__(self) -> None:
        self._cancel.set()


class Turns:
    """The answers of a runtime that gives one at a time; the others wait for their turn."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._answers: WeakSet[Answering] = WeakSet()
        self._is_closed = False

    def require_open(self) -> None:
        """Raise RuntimeFailure if the model was closed."""
        if self._is_closed:
            raise RuntimeFailure("this model was closed; load it again")

    def answer(self, run: Callable[[Cancel, Tell], None]) -> Answering:
        """One more; `run` is that of Answering.of_calls.   Raises RequestError where it would wait for itself."""
        self.require_open()
        if getattr(_HELD, "turn", None) is self._turn:
            raise RequestError("a processor or scorer asked its own model, which waits for it; use a second model")
        answering = Answering.of_calls(run, self._turn)
        self._answers.add(answering)
        return answering

    def close(self) -> None:
        """End them all and wait until the runtime is at rest; later ones are refused."""
        self._is_closed = True
        for answering in tuple(self._answers):
            answering.fail(RuntimeFailure("the model was closed while it answered; load it again"))
        with self._turn:
            pass


def _run(
    run: Callable[[Cancel, Tell], None],
    cancel: Cancel,
    told: queue.SimpleQueue[Item],
    turn: threading.Lock | None,
) -> None:
    def tell(event: Event) -> None:
        cancel.check()
        told.put(event)

    try:
        if turn is None:
            return _complete(run, cancel, tell, told)
        while not turn.acquire(timeout=0.1):
            cancel.check()
        try:
            _HELD.turn = turn
            _complete(run, cancel, tell, told)
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


def _complete(run: Callable[[Cancel, Tell], None], cancel: Cancel, tell: Tell, told: queue.SimpleQueue[Item]) -> None:
    cancel.check()
    run(cancel, tell)
    told.put(None)


def _make(make: Callable[[Cancel], Iterator[Event]], cancel: Cancel, tell: Tell) -> None:
    for event in make(cancel):
        tell(event)
