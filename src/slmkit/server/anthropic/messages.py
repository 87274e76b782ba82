"""POST /v1/messages and /v1/messages/count_tokens: Anthropic's API."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response

from slmkit.errors import SlmError
from slmkit.options import Options
from slmkit.request import Constraint, Message, Request
from slmkit.server.anthropic import conversation
from slmkit.server.anthropic.answer import Answer
from slmkit.server.anthropic.schema import Body, Conversation
from slmkit.server.bodies import JsonRoute
from slmkit.server.faults import anthropic_body
from slmkit.server.images import with_images
from slmkit.server.replies import gathered, sse, streamed, whole
from slmkit.server.service import Service


def routes(service: Service) -> APIRouter:
    """The endpoints of Anthropic's API."""
    router = APIRouter(route_class=JsonRoute)

    @router.post("/v1/messages")
    async def create(body: Body, http: HttpRequest) -> Response:
        events, answer = service.answer(body.model, await _request(body, service)), Answer(body)
        if body.stream:
            return await streamed(http, events, answer.stream, _fault, "text/event-stream")
        return JSONResponse(answer.whole(await whole(http, gathered(events))))

    @router.post("/v1/messages/count_tokens")
    async def count(body: Conversation) -> dict[str, int]:
        messages, _ = await _read(body, service)
        async with service.model(body.model) as model:
            prompt = await asyncio.to_thread(model.render, messages)
            return {"input_tokens": len(prompt.ids)}

    return router


async def _read(body: Conversation, service: Service) -> tuple[tuple[Message, ...], Constraint | None]:
    """The conversation with its images, and what its answer must match."""
    has_system = not body.tools or await service.has_system(body.model)
    messages, constraint = conversation.read(body, has_system)
    return await with_images(messages, service), constraint


async def _request(body: Body, service: Service) -> Request:
    messages, constraint = await _read(body, service)
    options = Options(
        max_tokens=body.max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        stop=tuple(body.stop_sequences) or None,
    )
    return Request(messages=messages, options=options, constraint=constraint)


def _fault(error: SlmError) -> str:
    """What a stream ends with where its answer fails."""
    return sse(anthropic_body(error), "error")
