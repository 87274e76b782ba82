"""What one job has to tell, between the engine's thread and whoever reads."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING

from slmkit.events import Event

if TYPE_CHECKING:
    from collections.abc import Callable

Item = Event | BaseException | None  # None: the job has ended; an exception: it has failed


class Outbox:
    """A queue that also wakes a reader who cannot wait in it, such as an asyncio loop."""

    def __init__(self) -> None:
        self._items: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._wake: Callable[[], None] | None = None

    def put(self, item: Item) -> None:
        """Add an item, and wake the listener."""
        self._items.put(item)
        if self._wake is not None:
            self._wake()

    def get(self, wait: bool = True) -> Item:
        """The oldest item.   Raises queue.Empty if there is none and wait is not set."""
        return self._items.get(block=wait)

    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake` after every later put, in the thread that puts."""
        self._wake = wake
