"""Several answers of one request to the server, made side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from slmkit.events import Event

AT_ONCE = 16  # answers that one client has under way, so that a long list leaves the queue to others, too


async def together(answers: Sequence[AsyncGenerator[Event, None]]) -> AsyncGenerator[tuple[int, Event], None]:
    """The events of all, each with the number of its answer. Closing it, or a failure of one, cancels all."""
    arrived: asyncio.Queue[tuple[int, Event] | BaseException | None] = asyncio.Queue(maxsize=64)
    at_once = asyncio.Semaphore(AT_ONCE)

    async def run(number: int, events: AsyncGenerator[Event, None]) -> None:
        try:
            async with at_once, aclosing(events):
                async for event in events:
                    await arrived.put((number, event))
            await arrived.put(None)
        except Exception as error:
            await arrived.put(error)

    tasks = [asyncio.create_task(run(number, events)) for number, events in enumerate(answers)]
    try:
        n_running = len(tasks)
        while n_running:
            item = await arrived.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                n_running -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
