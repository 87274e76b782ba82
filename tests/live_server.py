"""A real server on a port of its own, for tests of the server and of those that talk to it."""

from __future__ import annotations

import socket
import subprocess
import sys
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


@contextmanager
def serving(*argv: str, env: dict[str, str] | None = None) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server and its URL, as it printed it."""
    command = [sys.executable, "-m", "slmkit", "serve", "--quiet", "--port", "0", "--ctx", "512", *argv]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.startswith("listening on http://127.0.0.1:"), first + str(process.poll())
        yield process, first.split()[-1]
    finally:
        process.kill()
        process.communicate()
