"""What is known of one HTTP request, gathered while it is answered: logs and metrics are made of it."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SANE = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass
class Record:
    """One request.

    id: the client's own x-request-id where it is sane, else made up.   route: the pattern that matched, "" for none.
    caller: which key, or the address.   model, prompt_tokens, completion_tokens, finish: of the answer, if any.
    status: 0 if none was sent.   texts: prompt and answer, kept only where they are logged.
    """

    id: str = ""
    method: str = ""
    path: str = ""
    route: str = ""
    caller: str = ""
    status: int = 0
    model: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish: str = ""
    seconds: float = 0.0
    texts: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)


_CURRENT: ContextVar[Record] = ContextVar("slmkit_request")


def current() -> Record:
    """The record of the request that is being answered; outside of one, a record that nobody reads."""
    return _CURRENT.get(None) or Record()


class Recorder:
    """Stands before everything else, so that what is refused is recorded too. Answers carry the request's id."""

    def __init__(self, app: ASGIApp, done: Iterable[Callable[[Record], None]]) -> None:
        """done: called with each record when its request has ended."""
        self.app, self._done = app, tuple(done)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        record = Record(_id(Headers(scope=scope)), scope["method"], scope["path"])
        token = _CURRENT.set(record)

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = headers["request-id"] = record.id  # OpenAI's name, and Anthropic's
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except Exception:
            record.status = record.status or 500
            raise
        finally:
            _CURRENT.reset(token)
            record.seconds = time.perf_counter() - record.began
            record.route = getattr(scope.get("route"), "path", "")
            for tell in self._done:
                tell(record)


def _id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _SANE.fullmatch(given) else f"req_{secrets.token_hex(12)}"
