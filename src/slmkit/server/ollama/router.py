"""All of Ollama's API.   Source: https://docs.ollama.com/api"""

from __future__ import annotations

from fastapi import APIRouter

from slmkit.server.ollama import blobs, chat, create, embed, generate, pull, root, show, tags
from slmkit.server.service import Service


def routes(service: Service) -> APIRouter:
    """Every endpoint."""
    router = APIRouter()
    router.include_router(root.routes())
    router.include_router(blobs.routes())
    for part in (generate, chat, embed, tags, show, pull, create):
        router.include_router(part.routes(service))
    return router
