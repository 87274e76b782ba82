"""What jobs have to tell, between the engine's thread and whoever reads."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING

from slmkit.events import Event

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

Item = Event | BaseException | None  # None: the job has ended; an exception: it has failed
Outbox = queue.SimpleQueue[Item]


class Listeners:
    """Readers that cannot wait in an outbox, as they share an asyncio loop: a step wakes all of a loop by one call.

    One call each would have the loop's thread and the engine's take the interpreter from each other all the time.
    """

    def __init__(self) -> None:
        self._by_loop: dict[AbstractEventLoop, dict[Outbox, Callable[[], None]]] = {}

    def add(self, loop: AbstractEventLoop, outbox: Outbox, wake: Callable[[], None]) -> None:
        """Have the loop, which is the caller's, call `wake` after every step that left something in the outbox."""
        self._by_loop.setdefault(loop, {})[outbox] = wake

    def remove(self, loop: AbstractEventLoop, outbox: Outbox) -> None:
        """Undo `add`."""
        readers = self._by_loop.get(loop, {})
        readers.pop(outbox, None)
        if not readers:
            self._by_loop.pop(loop, None)

    def tell(self) -> None:
        """In the engine's thread: a step is over."""
        for loop, readers in tuple(self._by_loop.items()):
            try:
                loop.call_soon_threadsafe(_wake, readers)
            except RuntimeError:  # the loop was closed: nobody reads any more
                self._by_loop.pop(loop, None)


def _wake(readers: dict[Outbox, Callable[[], None]]) -> None:
    for outbox, wake in tuple(readers.items()):
        if not outbox.empty():
            wake()
