"""POST /v1/responses: as OpenAI's, and nothing is kept: each request brings its whole conversation."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response

from slmkit.errors import SlmError
from slmkit.events import Chunk, Event, Finished, Started
from slmkit.request import Constraint, Request, as_messages
from slmkit.server.bodies import JsonRoute
from slmkit.server.faults import Fault, openai_body
from slmkit.server.images import with_images
from slmkit.server.openai import conversation, counts
from slmkit.server.openai.output import Json, Output
from slmkit.server.openai.responses_schema import FlatChoice, FlatSchema, ImagePart, Item, Respond, TextPart
from slmkit.server.openai.schema import JsonFormat, options
from slmkit.server.replies import gathered, sse, streamed, whole
from slmkit.server.service import Service, seconds
from slmkit.server.tools import AUTO, Call, Tool, Turn, prepare


def routes(service: Service) -> APIRouter:
    """The endpoint that makes responses."""
    router = APIRouter(route_class=JsonRoute)

    @router.post("/v1/responses")
    async def responses(asked: Respond, http: HttpRequest) -> Response:
        keep_alive_s = None if asked.keep_alive is None else seconds(asked.keep_alive, "keep_alive")
        events = service.answer(asked.model, await request_of(asked, service), keep_alive_s)
        reply = Reply(asked)
        if asked.stream:
            return await streamed(http, events, reply.stream, reply.fault, "text/event-stream")
        return JSONResponse(reply.whole(await whole(http, gathered(events))))

    return router


async def request_of(asked: Respond, service: Service) -> Request:
    """What the engine is asked.   Raises RequestError."""
    choice = asked.tool_choice or AUTO
    messages, constraint = prepare(
        turns(asked),
        [Tool(tool.name, tool.description, tool.parameters) for tool in asked.tools or ()],
        choice.name if isinstance(choice, FlatChoice) else choice,
        asked.parallel_tool_calls is not False,
        conversation.constraint(asked, _format(asked)),
        has_system=not asked.tools or await service.has_system(asked.model),
    )
    logprobs = (asked.top_logprobs or 0) if wants_logprobs(asked) else None
    return Request(
        messages=await with_images(messages, service),
        options=options(asked, max_tokens=asked.max_output_tokens, logprobs=logprobs),
        constraint=constraint,
    )


def wants_logprobs(asked: Respond) -> bool:
    """Whether each token's log probability is to be told."""
    return asked.top_logprobs is not None or "message.output_text.logprobs" in (asked.include or ())


def turns(asked: Respond) -> list[Turn]:
    """The conversation, instructions first; a call belongs to the assistant's message before it."""
    items = [Item(role="user", content=asked.input)] if isinstance(asked.input, str) else asked.input
    plain: list[Json] = [{"role": "system", "content": asked.instructions}] if asked.instructions else []
    calls: list[list[Call]] = [[] for _ in plain]
    results = ["" for _ in plain]
    for n, item in enumerate(items):
        _check(item, f"input.{n}")
        if item.type == "function_call" and plain and plain[-1]["role"] == "assistant":
            calls[-1].append(_call(item))
            continue
        plain.append(_message(item))
        calls.append([_call(item)] if item.type == "function_call" else [])
        results.append(item.call_id or "" if item.type == "function_call_output" else "")
    return [Turn(m, tuple(c), r) for m, c, r in zip(as_messages(plain), calls, results, strict=True)]


class Reply:
    """One response, whole or as the events that make it."""

    def __init__(self, asked: Respond) -> None:
        self._asked = asked
        self._id, self._created = f"resp_{secrets.token_hex(16)}", int(time.time())
        has_tools = bool(asked.tools) and asked.tool_choice != "none"
        self._output = Output(has_tools, wants_logprobs(asked))
        self._n_sent = 0

    def whole(self, events: Iterable[Event]) -> Json:
        """The response that these events are."""
        for event in events:
            if isinstance(event, (Chunk, Finished)):
                for _ in self._output.take(event):
                    pass
        return self._response()

    async def stream(self, events: AsyncIterator[Event]) -> AsyncIterator[str]:
        """Server-sent events, numbered from 0."""
        async for event in events:
            if isinstance(event, Started):
                yield self._sse("response.created", {"response": self._response()})
                yield self._sse("response.in_progress", {"response": self._response()})
            elif isinstance(event, (Chunk, Finished)):
                for name, data in self._output.take(event):
                    yield self._sse(name, data)
        response = self._response()
        yield self._sse(f"response.{response['status']}", {"response": response})

    def fault(self, error: SlmError) -> str:
        """What a stream ends with where its answer fails."""
        body = openai_body(error)["error"]
        return self._sse("error", {name: body[name] for name in ("code", "message", "param")})

    def _sse(self, name: str, data: Json) -> str:
        self._n_sent += 1
        return sse({"type": name, "sequence_number": self._n_sent - 1, **data}, name)

    def _response(self) -> Json:
        asked, finished = self._asked, self._output.finished
        is_cut = finished is not None and finished.reason == "length"
        told = asked.model_dump(by_alias=True, exclude_none=True)
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": "in_progress" if finished is None else "incomplete" if is_cut else "completed",
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "model": asked.model,
            "output": self._output.items,
            "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "previous_response_id": None,
            "store": False,
            "temperature": asked.temperature,
            "text": {"format": {"type": "text"}, **told.get("text", {})},
            "tool_choice": told.get("tool_choice", AUTO),
            "tools": told.get("tools", []),
            "top_p": asked.top_p,
            "truncation": "disabled",
            "usage": None if finished is None else _usage(finished),
            "user": asked.user,
            "metadata": asked.metadata or {},
            **({} if finished is None else {"timing": counts.timing([[finished]])}),
        }


def _usage(finished: Finished) -> Json:
    usage = finished.usage
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _format(asked: Respond) -> Constraint | None:
    form = asked.text.format if asked.text else None
    if isinstance(form, FlatSchema):
        return Constraint("schema", form.rules)
    return Constraint("json") if isinstance(form, JsonFormat) else None


def _call(item: Item) -> Call:
    return Call(item.call_id or "", item.name or "", item.arguments or "")


def _message(item: Item) -> Json:
    if item.type == "function_call":
        return {"role": "assistant", "content": ""}
    if item.type == "function_call_output":
        return {"role": "tool", "content": _content(item.output)}
    return {"role": "system" if item.role == "developer" else item.role, "content": _content(item.content)}


def _content(given: str | Sequence[TextPart | ImagePart] | None) -> Any:
    if given is None or isinstance(given, str):
        return given or ""
    return [
        {"type": "image_url", "image_url": {"url": part.image_url}}
        if isinstance(part, ImagePart)
        else {"type": "text", "text": part.text}
        for part in given
    ]


_FIELDS = {
    "message": ("role", "content"),
    "function_call": ("call_id", "name", "arguments"),
    "function_call_output": ("call_id", "output"),
}


def _check(item: Item, where: str) -> None:
    """Raise Fault unless an item has the fields of its type and no others."""
    for name in ("role", "content", "call_id", "name", "arguments", "output"):
        is_given, is_due = getattr(item, name) is not None, name in _FIELDS[item.type]
        if is_due and not is_given:
            raise Fault(400, f"{where}.{name} is missing", "missing_required_parameter", f"{where}.{name}")
        if is_given and not is_due:
            message = f"{where}.{name} is not for an item of type {item.type}; leave it out"
            raise Fault(400, message, "unsupported_parameter", f"{where}.{name}")
    is_visual = isinstance(item.content, list) and any(isinstance(part, ImagePart) for part in item.content)
    if is_visual and item.role != "user":
        raise Fault(400, f"{where} has an image; messages of the user have them", "invalid_value", f"{where}.content")
