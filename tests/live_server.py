"""A real server on a port of its own, for tests of the server and of those that talk to it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from slmkit.server import connections
from slmkit.server.app import create_app
from slmkit.server.service import Service


@contextmanager
def running(service: Service) -> Iterator[str]:
    """The base URL of a server that runs in a thread of this process."""
    listener = socket.create_server(("127.0.0.1", 0))
    options = service.options
    config = connections.config(create_app(service), options.max_connections, options.client_timeout, lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
