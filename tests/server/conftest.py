"""A real server on a port of its own, with the bundled model."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
import uvicorn

from slmkit.options import LoadOptions
from slmkit.server.app import create_app
from slmkit.server.service import Service
from slmkit.server.settings import ServeOptions


@contextmanager
def running(service: Service) -> Iterator[str]:
    """The base URL of a server that runs in a thread of this process."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(service), log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def base_url() -> Iterator[str]:
    with running(Service(("tiny",), ServeOptions(), LoadOptions(ctx=1024))) as url:
        yield url


@pytest.fixture
def http(base_url) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=base_url, timeout=60) as client:
        yield client


@pytest.fixture
def serve() -> Iterator[Callable[[Service], httpx.Client]]:
    """Starts a server for a service of the test's own and gives a client for it."""
    with ExitStack() as running_now:

        def start(service: Service) -> httpx.Client:
            url = running_now.enter_context(running(service))
            return running_now.enter_context(httpx.Client(base_url=url, timeout=60))

        yield start
