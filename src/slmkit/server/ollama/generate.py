"""POST /api/generate: one prompt, answered or continued."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response

from slmkit.request import Message, Request
from slmkit.server.ollama.answers import loaded_or_unloaded, reply
from slmkit.server.ollama.route import JsonRoute
from slmkit.server.ollama.schema import GenerateBody, images_of
from slmkit.server.service import Service


def routes(service: Service) -> APIRouter:
    """The endpoint."""
    router = APIRouter(route_class=JsonRoute)

    @router.post("/api/generate", tags=["ollama"])
    async def generate(http: HttpRequest, body: GenerateBody) -> Response:
        body.refuse()
        if not body.prompt and not body.images:
            return await loaded_or_unloaded(http, service, body, _part)
        return await reply(http, service, body, _request(body), _part)

    return router


def _request(body: GenerateBody) -> Request:
    prompt = body.prompt or ""
    if body.raw:  # a prompt with its control tokens, as a template would have written it
        return Request(prompt=prompt, parse_special=True, constraint=body.constraint)
    system = (Message("system", body.system),) if body.system else ()
    return Request((*system, Message("user", prompt, images_of(body.images))), constraint=body.constraint)


def _part(text: str) -> dict[str, Any]:
    return {"response": text}
