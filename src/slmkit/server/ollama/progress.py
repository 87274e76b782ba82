"""Long work in a thread, told in lines of JSON as it goes on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response

from slmkit.errors import SlmError
from slmkit.server.faults import ollama_body
from slmkit.server.ollama.route import NDJSON
from slmkit.server.replies import gathered, line, streamed, whole
from slmkit.weights.telling import Progress

EVERY_S = 0.1  # at most so often; a file of gigabytes comes in pieces of a megabyte
Work = Callable[[Progress], object]
Status = dict[str, Any]


class _Abandoned(BaseException):
    """Nobody waits for the work any more."""


async def reply(
    http: HttpRequest, work: Work, first: str, stream: bool | None, then: Callable[[], Awaitable[object]] | None = None
) -> Response:
    """Statuses as the work goes on, "success" at its end; alone where no stream is wanted.

    then: awaited once the work is done.
    Raises what `work` raises before it has told of any progress; later that is the last line.
    """
    statuses = _statuses(work, first, then)
    if stream is False:
        return JSONResponse((await whole(http, gathered(statuses)))[-1])
    return await streamed(http, statuses, _lines, lambda error: line(ollama_body(error)), NDJSON)


async def _statuses(
    work: Work, first: str, then: Callable[[], Awaitable[object]] | None
) -> AsyncGenerator[Status, None]:
    queue: asyncio.Queue[Status | None] = asyncio.Queue()
    loop, gone, told_at = asyncio.get_running_loop(), threading.Event(), 0.0

    def progress(what: str, done: int, total: int) -> None:
        nonlocal told_at
        if gone.is_set():
            raise _Abandoned
        if done >= total or time.monotonic() - told_at >= EVERY_S:
            told_at = time.monotonic()
            loop.call_soon_threadsafe(queue.put_nowait, {"status": what, "total": total, "completed": done})

    def run() -> SlmError | None:
        try:
            work(progress)
        except SlmError as error:
            return error
        except _Abandoned:
            return None
        return None

    task = asyncio.ensure_future(asyncio.to_thread(run))
    task.add_done_callback(lambda _: queue.put_nowait(None))
    try:
        status = await queue.get()
        if status is not None or task.result() is None:
            yield {"status": first}
        while status is not None:
            yield status
            status = await queue.get()
        if error := task.result():
            raise error
        if then is not None:
            await then()
        yield {"status": "success"}
    finally:
        gone.set()


async def _lines(statuses: AsyncIterator[Status]) -> AsyncIterator[str]:
    async for status in statuses:
        yield line(status)
