"""GET and HEAD /, and /api/version: how clients of Ollama see whether it is there."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

import slmkit
from slmkit.server.ollama.route import ClientRoute


def routes() -> APIRouter:
    """The endpoints. At / a browser, which asks for HTML, is left to whoever has a page there."""
    router = APIRouter(route_class=ClientRoute, tags=["ollama"])

    @router.get("/", response_class=PlainTextResponse)
    @router.head("/", response_class=PlainTextResponse, include_in_schema=False)
    async def root() -> str:
        return "Ollama is running"

    @router.get("/api/version")
    @router.head("/api/version", include_in_schema=False)
    async def version() -> dict[str, str]:
        return {"version": slmkit.__version__}

    return router
