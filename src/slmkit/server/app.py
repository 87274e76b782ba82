"""The application: one service behind the routes of several APIs, and a page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import FastAPI

import slmkit
from slmkit.server import faults, health, logs, metrics, pages, security
from slmkit.server.anthropic import messages
from slmkit.server.drain import Drain
from slmkit.server.ollama import router as ollama
from slmkit.server.openai import chat, completions, embeddings, models, responses
from slmkit.server.record import Recorder
from slmkit.server.service import Service


def create_app(service: Service) -> FastAPI:
    """The ASGI application of a service, which it closes when it ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # one that waits long, such as a pull, has a thread to itself: Python's few would soon all be taken
        threads = ThreadPoolExecutor(service.options.max_connections, "slmkit-server")
        asyncio.get_running_loop().set_default_executor(threads)
        sweeper = asyncio.create_task(service.fleet.sweep())
        try:
            yield
        finally:
            sweeper.cancel()
            await service.fleet.close()

    # FastAPI's own pages of documents run scripts of another address, here, where the playground holds the key.
    app = FastAPI(title="slmkit", version=slmkit.__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.service = service
    faults.install(app)
    app.add_middleware(Drain, service=service)
    security.install(app, service.options)
    app.add_middleware(Recorder, done=(service.metrics.note, logs.write))
    app.include_router(health.routes(service))
    app.include_router(metrics.routes(service.metrics))
    pages.playground(app)  # before Ollama's greeting at the same place
    openai = (models.routes, chat.routes, completions.routes, embeddings.routes, responses.routes)
    for routes in (*openai, messages.routes, ollama.routes):
        app.include_router(routes(service))
    return app
