"""A real server on a port of its own, with the bundled model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from scripted import ScriptedBackend, ScriptedService

import slmkit
from live_server import running
from slmkit.options import LoadOptions
from slmkit.server.service import Service
from slmkit.server.settings import ServeOptions


@pytest.fixture(scope="session")
def base_url() -> Iterator[str]:
    with running(Service(("tiny",), ServeOptions(), LoadOptions(ctx=1024))) as url:
        yield url


@pytest.fixture(scope="module")
def tiny() -> Iterator[slmkit.Model]:
    """The bundled model in this process."""
    with slmkit.load("tiny", ctx=1024) as model:
        yield model


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


@pytest.fixture
def scripted(serve: Callable[[Service], httpx.Client]) -> Iterator[Callable[..., Any]]:
    """OpenAI's own client for a server whose one model, `scripted`, runs on the given backend."""
    openai = pytest.importorskip("openai")
    with ExitStack() as open_now:

        def client(backend: ScriptedBackend, options: ServeOptions | None = None) -> Any:
            url = f"{serve(ScriptedService(backend, options)).base_url}/v1"
            return open_now.enter_context(openai.OpenAI(base_url=url, api_key="none", max_retries=0))

        yield client
