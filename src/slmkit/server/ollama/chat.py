"""POST /api/chat: a conversation, answered, or with calls of tools."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response

from slmkit.request import Request
from slmkit.server.ollama import conversation
from slmkit.server.ollama.answers import loaded_or_unloaded, reply
from slmkit.server.ollama.conversation import Calls
from slmkit.server.ollama.route import JsonRoute
from slmkit.server.ollama.schema import ChatBody
from slmkit.server.service import Service


def routes(service: Service) -> APIRouter:
    """The endpoint."""
    router = APIRouter(route_class=JsonRoute)

    @router.post("/api/chat", tags=["ollama"])
    async def chat(http: HttpRequest, body: ChatBody) -> Response:
        body.refuse()
        if not body.messages:
            return await loaded_or_unloaded(http, service, body, _part)
        has_system = not body.tools or await service.has_system(body.id)
        messages, constraint = conversation.read(body, has_system)
        return await reply(
            http, service, body, Request(messages, constraint=constraint), _part, Calls() if body.tools else None
        )

    return router


def _part(text: str) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text}}
