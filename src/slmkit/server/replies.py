"""Answers as HTTP carries them: whole, as server-sent events, or as lines of JSON.

Whatever can be refused is refused before the first byte, with the status that it deserves; who goes away cancels.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi import Request as HttpRequest
from fastapi.responses import StreamingResponse

from slmkit.errors import SlmError

T = TypeVar("T")
DONE = "[DONE]"  # how OpenAI's streams end


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


async def whole(http: HttpRequest, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled when the client goes away.   Raises ClientGone then."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_gone(http))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        for each in (task, watch):
            each.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def gathered(events: AsyncGenerator[T, None]) -> list[T]:
    """All events of an answer."""
    async with aclosing(events):
        return [event async for event in events]


async def streamed(
    http: HttpRequest,
    events: AsyncGenerator[T, None],
    write: Callable[[AsyncIterator[T]], AsyncIterator[str]],
    fault: Callable[[SlmError], str],
    media_type: str,
) -> StreamingResponse:
    """A response that is written while the answer is made.

    write: events -> texts to send.   fault: what is sent if the answer fails on its way.
    Raises what ends the answer before its first event.
    """
    first = await whole(http, anext(events))

    async def again() -> AsyncIterator[T]:
        yield first
        async for event in events:
            yield event

    async def texts() -> AsyncIterator[str]:
        async with aclosing(events):
            try:
                async for text in write(again()):
                    yield text
            except SlmError as error:
                yield fault(error)

    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(texts(), media_type=media_type, headers=headers)


def sse(data: Any, event: str = "") -> str:
    """One server-sent event; `data` a text as it is, or anything that is JSON."""
    text = data if isinstance(data, str) else dumps(data)
    return (f"event: {event}\n" if event else "") + f"data: {text}\n\n"


def line(data: Any) -> str:
    """One line of JSON."""
    return dumps(data) + "\n"


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def dumps(data: Any) -> str:
    return _ENCODER.encode(data)


async def _gone(http: HttpRequest) -> None:
    """Until the client has gone. The body was read: what still comes tells of that alone."""
    while (await http.receive())["type"] != "http.disconnect":
        pass
