"""One process that serves: its socket, its event loop, and how it ends."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

from slmkit.errors import RequestError
from slmkit.server import connections, logs
from slmkit.server.app import create_app
from slmkit.server.service import Service
from slmkit.untrusted import shown

CLOSING_S = 1.0  # for connections to close once nothing is under way


def bind(host: str, port: int) -> socket.socket:
    """The socket, which nobody is let into yet.   Raises RequestError where the address cannot be had."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, _, _, address = found[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that linger from the last run
        listener.bind(address)
    except (OSError, UnicodeError) as error:
        raise RequestError(_why(error, host, port)) from None
    return listener


def url_of(listener: socket.socket) -> str:
    """Where a browser on this machine finds it."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(service: Service, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until a signal ends it.   ready: called once requests are taken."""
    logs.install()
    options, closing_s = service.options, 1 + round(CLOSING_S)
    config = connections.config(
        create_app(service),
        options.max_connections,
        options.client_timeout,
        lifespan="on",
        timeout_graceful_shutdown=closing_s,
    )
    _Server(config, service, ready).run(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn's, but for its end: the first signal lets what is under way finish, a second one does not."""

    def __init__(self, config: uvicorn.Config, service: Service, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._service, self._ready = service, ready
        self._until = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Not uvicorn's, which ends the process by the signal: an end that was asked for is no failure."""
        if self._service.is_draining:
            self.should_exit = self.force_exit = True
        self._service.is_draining = True
        self._until = time.monotonic() + self._service.options.drain

    async def on_tick(self, counter: int) -> bool:
        if self._service.is_draining and (not self._service.n_under_way or time.monotonic() > self._until):
            self.should_exit = True
        return await super().on_tick(counter)


def _why(error: OSError | UnicodeError, host: str, port: int) -> str:
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        return f"port {port} of {host} is in use by another program; stop that one, or take another --port (0: any)"
    if number == errno.EACCES:
        return f"port {port} needs rights that this user does not have; take a --port of 1024 or more"
    reason = getattr(error, "strerror", None) or type(error).__name__
    return f"{shown(host)} is no address of this machine ({reason}); --host takes one, such as 127.0.0.1 or 0.0.0.0"
