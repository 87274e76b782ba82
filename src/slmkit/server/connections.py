"""Connections, bounded in number, and each in how long it may keep the server waiting.

uvicorn waits for ever for the head of a connection's first request, and for a client that does not read.
"""

from __future__ import annotations

import asyncio
import sys
from http import HTTPStatus
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from slmkit.server.faults import Fault, openai_body, reply
from slmkit.server.replies import dumps
from slmkit.server.sending import Sending


class Connection(H11Protocol):
    """One client's connection.

    A request's head has to be there within `patience_s` of the connection's beginning, or of the end of the request
    before it; bytes that trickle in do not prolong that. What is sent has to be read in the same time.
    When there are `most` connections, the one that has been without a request longest gives way to a new one.
    """

    most: int
    patience_s: float
    _head_due: asyncio.TimerHandle | None = None  # while no request is under way
    _read_due: asyncio.TimerHandle | None = None  # while the client does not read

    @property
    def is_answering(self) -> bool:
        """Whether a request is under way."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(Sending(transport, self.loop))  # type: ignore[arg-type]
        self._await_head()
        if len(self.connections) <= self.most:
            return
        others = [other for other in self.connections if isinstance(other, Connection) and other is not self]
        idle = [(other._head_due.when(), id(other), other) for other in others if other._head_due is not None]
        if idle:
            min(idle)[2].abort()
        else:
            self.app = _refuse

    def handle_events(self) -> None:
        super().handle_events()
        if self.is_answering and self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.is_answering and not self.transport.is_closing():
            self._await_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._read_due = self.loop.call_later(self.patience_s, self.abort)

    def resume_writing(self) -> None:
        if self._read_due is not None:
            self._read_due.cancel()
            self._read_due = None
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timers()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is answered once, if there is still a place for an answer, and the connection ends."""
        status = getattr(sys.exc_info()[1], "error_status_hint", 400)
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and not self.is_answering:
            fault = Fault(status, f"{HTTPStatus(status).phrase.lower()}: this is no request of HTTP/1.1")
            body = dumps(openai_body(fault)).encode()
            headers = [
                ("content-type", "application/json"),
                ("content-length", str(len(body))),
                ("connection", "close"),
            ]
            head = h11.Response(status_code=status, headers=headers)
            for event in (head, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
            self.transport.close()
        else:
            self.abort()

    def abort(self) -> None:
        """End the connection now; what it asked for is cancelled."""
        self._stop_timers()
        self.transport.abort()

    def _await_head(self) -> None:
        if self._head_due is None:
            self._head_due = self.loop.call_later(self.patience_s, self.abort)

    def _stop_timers(self) -> None:
        for timer in (self._head_due, self._read_due):
            if timer is not None:
                timer.cancel()
        self._head_due = self._read_due = None


def limited(most: int, patience_s: float) -> type[Connection]:
    """The class of a server's connections, for uvicorn's `http`."""
    return type("LimitedConnection", (Connection,), {"most": most, "patience_s": patience_s})


def config(app: ASGIApp, most: int, patience_s: float, **more: Any) -> uvicorn.Config:
    """How uvicorn is set up for a server of ours: our connections, no logs of its own, nobody's word for an address."""
    return uvicorn.Config(
        app,
        http=limited(most, patience_s),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=max(1, int(patience_s)),
        backlog=128,  # connections that are accepted at once, before those beyond the bound are closed
        **more,
    )


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Every connection has a request under way: there is no room for this one."""
    fault = Fault(503, "every connection of this server is in use; ask again in a second")
    answer = reply(fault, scope["path"])
    answer.headers.update({"retry-after": "1", "connection": "close"})
    await answer(scope, receive, send)
