"""POST /api/chat: a conversation, answered."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response

from slmkit.request import Message, Request
from slmkit.server.faults import Fault
from slmkit.server.ollama.answers import loaded_or_unloaded, reply
from slmkit.server.ollama.route import JsonRoute
from slmkit.server.ollama.schema import ChatBody, Turn, images_of
from slmkit.server.service import Service


def routes(service: Service) -> APIRouter:
    """The endpoint."""
    router = APIRouter(route_class=JsonRoute)

    @router.post("/api/chat", tags=["ollama"])
    async def chat(http: HttpRequest, body: ChatBody) -> Response:
        body.refuse()
        _refuse_tools(body)
        if not body.messages:
            return await loaded_or_unloaded(http, service, body, _part)
        return await reply(http, service, body, Request(messages_of(body.messages)), _part)

    return router


def messages_of(turns: list[Turn]) -> tuple[Message, ...]:
    """The conversation.   Raises RequestError."""
    return tuple(Message(turn.role, turn.content or "", images_of(turn.images)) for turn in turns)


def _refuse_tools(body: ChatBody) -> None:
    if body.tools:
        raise Fault(400, "tools is not supported here; leave it out", "unsupported_parameter", "tools")
    for turn in body.messages or ():
        for field in ("tool_calls", "tool_name"):
            if getattr(turn, field):
                where = f"messages.{field}"
                raise Fault(400, f"{where} is not supported here; leave it out", "unsupported_parameter", where)


def _part(text: str) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text}}
