"""How much one client may ask for: requests a minute, bytes of a request, and time to send them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slmkit.server.faults import Fault, reply

MOST_CALLERS = 10_000  # whose rate is remembered
SLOWEST = 10_000  # bytes a second that a body must keep up, once the first wait is over
STREAMED = "/api/blobs/"  # files, which go to the disk as they come


class TooMany(Fault):
    """A caller's requests of this minute are used up."""

    def __init__(self, limit: int, retry_after_s: float) -> None:
        super().__init__(
            429, f"this key or address has {limit} requests a minute, and used them; ask again in {retry_after_s:.0f} s"
        )
        self.retry_after_s = retry_after_s


@dataclass
class _Bucket:
    tokens: float
    at: float


class Rate:
    """A bucket of tokens for each caller, which a request takes one of, and which fills up within a minute."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        """per_minute: 0 is no limit."""
        self.per_minute, self._clock = per_minute, clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, caller: str) -> TooMany | None:
        """One request of the caller's; what to tell it if there is none left."""
        if not self.per_minute:
            return None
        now, each_s = self._clock(), 60 / self.per_minute
        bucket = self._buckets.pop(caller, None) or _Bucket(self.per_minute, now)
        bucket.tokens = min(self.per_minute, bucket.tokens + (now - bucket.at) / each_s)
        bucket.at = now
        self._buckets[caller] = bucket  # the last of them: the first has waited longest
        while len(self._buckets) > MOST_CALLERS:
            del self._buckets[next(iter(self._buckets))]
        if bucket.tokens < 1:
            return TooMany(self.per_minute, max(1.0, (1 - bucket.tokens) * each_s))
        bucket.tokens -= 1
        return None


class Bodies:
    """Bounds the body of each request: 413 for one that is too large, 408 for one that does not arrive.

    most: bytes; of files (`/api/blobs/`) any number is taken.
    patience_s: after that time a body must have come at 10 kB a second, from its beginning.
    """

    def __init__(self, app: ASGIApp, most: int, patience_s: float) -> None:
        self.app, self._most, self._patience_s = app, most, patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self.app
        if scope["type"] == "http":
            most = None if scope["path"].startswith(STREAMED) else self._most
            headers = Headers(scope=scope)
            length = headers.get("content-length", "")
            if length and "transfer-encoding" in headers:  # a proxy may take it for another body than we do
                refusal = Fault(
                    400, "a request says its length by Content-Length or Transfer-Encoding, and not by both"
                )
                answer = closing = reply(refusal, scope["path"])
                closing.headers["connection"] = "close"
            elif most is not None and length.isdecimal() and int(length) > most:
                answer = reply(Fault(413, _too_large(most)), scope["path"])
            else:
                receive = _bounded(receive, most, self._patience_s)
        await answer(scope, receive, send)


def _bounded(receive: Receive, most: int | None, patience_s: float) -> Receive:
    began, n_bytes, is_whole = time.monotonic(), 0, False

    async def bounded() -> Message:
        nonlocal n_bytes, is_whole
        if is_whole:  # what still comes is that the client has gone
            return await receive()
        left_s = began + patience_s + n_bytes / SLOWEST - time.monotonic()
        try:
            message = await asyncio.wait_for(receive(), max(0.0, left_s))
        except asyncio.TimeoutError:
            late = "the body of the request did not arrive in time; send it again"
            raise HTTPException(408, late, {"connection": "close"}) from None
        n_bytes += len(message.get("body", b""))
        is_whole = not message.get("more_body", False)
        if most is not None and n_bytes > most:
            raise HTTPException(413, _too_large(most))
        return message

    return bounded


def _too_large(most: int) -> str:
    return f"the request has more than the {most // 1_000_000} MB that are read of one; --max-body-mb sets that"
