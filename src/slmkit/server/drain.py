"""A graceful end: what is under way goes on, what comes anew is told to come back."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from slmkit.server.faults import Fault, reply
from slmkit.server.service import Service

ALWAYS = ("/v1/health/live",)  # whoever watches the process must not take its end for its death


class Draining(Fault):
    """The server is about to end."""

    retry_after_s = 5.0  # another one is up by then, where somebody starts another one

    def __init__(self) -> None:
        super().__init__(503, "the server is being stopped and takes no new requests; try again in a few seconds")


class Drain:
    """Counts the requests under way, and lets no new ones in once `service.is_draining`."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if self._service.is_draining and scope["path"] not in ALWAYS:
            answer = reply(Draining(), scope["path"])
            answer.headers["Connection"] = "close"
            return await answer(scope, receive, send)
        self._service.n_under_way += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._service.n_under_way -= 1
