"""POST /v1/messages and /v1/messages/count_tokens: Anthropic's API, whole and streamed."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response

from slmkit.errors import SlmError
from slmkit.events import Chunk, Event, Finished, Started, Usage
from slmkit.options import Options
from slmkit.request import Request
from slmkit.server.anthropic.conversation import messages_of
from slmkit.server.anthropic.schema import Body, Conversation
from slmkit.server.faults import Fault, anthropic_body
from slmkit.server.replies import gathered, sse, streamed, whole
from slmkit.server.service import Service


def routes(service: Service) -> APIRouter:
    """The endpoints of Anthropic's API."""
    router = APIRouter()

    @router.post("/v1/messages", response_model=None)
    async def create(body: Body, http: HttpRequest) -> Response:
        request = _request(body, service.options.image_urls)
        answer = service.answer(body.model, request)
        if not body.stream:
            return JSONResponse(_message(body, await whole(http, gathered(answer))))

        def write(events: AsyncIterator[Event]) -> AsyncIterator[str]:
            return _stream(body, events)

        return await streamed(http, answer, write, _failed, "text/event-stream")

    @router.post("/v1/messages/count_tokens")
    async def count(body: Conversation) -> dict[str, int]:
        _refuse_tools(body)
        messages = messages_of(body, service.options.image_urls)
        async with service.model(body.model) as model:
            prompt = await asyncio.to_thread(model.render, messages)
            return {"input_tokens": len(prompt.ids)}

    return router


def _request(body: Body, image_urls: bool) -> Request:
    _refuse_tools(body)
    options = Options(
        max_tokens=body.max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        stop=tuple(body.stop_sequences) or None,
    )
    return Request(messages=messages_of(body, image_urls), options=options)


def _refuse_tools(body: Conversation) -> None:
    for name in ("tools", "tool_choice"):
        if getattr(body, name):
            raise Fault(400, f"{name} is not supported here; leave it out", "unsupported_parameter", name)


def _message(body: Body, events: Sequence[Event]) -> dict[str, Any]:
    """A whole answer."""
    text = "".join(event.text for event in events if isinstance(event, Chunk))
    finished = next(event for event in events if isinstance(event, Finished))
    return _opened(body.model) | {
        "content": [{"type": "text", "text": text}],
        **_ended(body, finished),
        "usage": _usage(finished.usage),
    }


async def _stream(body: Body, events: AsyncIterator[Event]) -> AsyncIterator[str]:
    """The events of one streamed answer, in Anthropic's order."""

    def event(type: str, **data: Any) -> str:
        return sse({"type": type, **data}, type)

    async for happened in events:
        if isinstance(happened, Started):
            usage = _usage(Usage(happened.prompt_tokens, 0))
            yield event("message_start", message=_opened(body.model) | {"usage": usage})
            yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
            yield event("ping")
        elif isinstance(happened, Chunk) and happened.text:
            yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": happened.text})
        elif isinstance(happened, Finished):
            yield event("content_block_stop", index=0)
            yield event("message_delta", delta=_ended(body, happened), usage=_usage(happened.usage))
            yield event("message_stop")


def _failed(error: SlmError) -> str:
    return sse(anthropic_body(error), "error")


def _opened(model: str) -> dict[str, Any]:
    """A message of which nothing was said yet."""
    return {
        "id": f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _ended(body: Body, finished: Finished) -> dict[str, Any]:
    """Why the answer ended."""
    if finished.reason == "length":
        return {"stop_reason": "max_tokens", "stop_sequence": None}
    if finished.stop is not None and finished.stop in body.stop_sequences:
        return {"stop_reason": "stop_sequence", "stop_sequence": finished.stop}
    return {"stop_reason": "end_turn", "stop_sequence": None}


def _usage(usage: Usage) -> dict[str, int]:
    """input_tokens are those that were read now; a prompt's others were read before."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }
