"""The application: one service behind the routes of several APIs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

import slmkit
from slmkit.server import faults
from slmkit.server.openai import chat, completions, embeddings, models, responses
from slmkit.server.service import Service


def create_app(service: Service) -> FastAPI:
    """The ASGI application of a service, which it closes when it ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        sweeper = asyncio.create_task(service.fleet.sweep())
        try:
            yield
        finally:
            sweeper.cancel()
            await service.fleet.close()

    app = FastAPI(title="slmkit", version=slmkit.__version__, lifespan=lifespan)
    app.state.service = service
    faults.install(app)
    app.include_router(models.routes(service))
    app.include_router(chat.routes(service))
    app.include_router(completions.routes(service))
    app.include_router(embeddings.routes(service))
    app.include_router(responses.routes(service))
    return app
