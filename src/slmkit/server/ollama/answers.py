"""What /api/generate and /api/chat share: loading, options, streams, and figures in nanoseconds."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response

from slmkit.errors import OptionError, SlmError
from slmkit.events import Chunk, Event, Finished, TokenInfo
from slmkit.request import Request
from slmkit.server.faults import ollama_body
from slmkit.server.ollama.conversation import Calls
from slmkit.server.ollama.logprobs import logprobs
from slmkit.server.ollama.route import NDJSON
from slmkit.server.ollama.schema import Asking
from slmkit.server.replies import gathered, line, streamed, whole
from slmkit.server.service import Service, seconds
from slmkit.weights.ollama.parameters import parameters

Part = Callable[[str], dict[str, Any]]  # a piece of the answer's text, in the words of the endpoint


def now() -> str:
    """The time, as Ollama writes it."""
    return datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")


def keep_alive_of(given: str | float | None) -> float | None:
    """Seconds; None where nothing was said.   Raises OptionError."""
    return None if given is None or given == "" else seconds(given, "keep_alive")


async def prepared(http: HttpRequest, service: Service, id: str, num_ctx: int | None, keep: float | None) -> int:
    """Have the model loaded; nanoseconds that took.   Raises OptionError for a context that it was not loaded with."""
    began = time.perf_counter_ns()

    async def load() -> int:
        async with service.model(id, keep) as model:
            return model.context

    context = await whole(http, load())
    if num_ctx is not None and num_ctx > context:
        raise OptionError(
            f"num_ctx is {num_ctx}, and {id} is loaded with a context of {context}; lower it, or start the server with "
            f"--ctx {num_ctx}"
        )
    return time.perf_counter_ns() - began


async def reply(
    http: HttpRequest, service: Service, body: Asking, request: Request, part: Part, calls: Calls | None = None
) -> Response:
    """The answer, whole or as it is made.

    request: without options, which the body has.   calls: takes calls of tools out of the text.
    """
    began = time.perf_counter_ns()
    options, num_ctx = parameters(body.options or {})
    asked = replace(request, options=replace(options, logprobs=body.n_logprobs))
    keep = keep_alive_of(body.keep_alive)
    load_ns = await prepared(http, service, body.id, num_ctx, keep)
    events = service.answer(body.id, asked, keep)
    wording = _Wording(body, part, calls, began, load_ns)
    if body.stream is False:
        return JSONResponse(wording.whole(await whole(http, gathered(events))))
    return await streamed(http, events, wording.lines, _fault, NDJSON)


async def loaded_or_unloaded(http: HttpRequest, service: Service, body: Asking, part: Part) -> Response:
    """What a request without a prompt does: it loads the model, or unloads it where keep_alive is 0."""
    began = time.perf_counter_ns()
    keep = keep_alive_of(body.keep_alive)
    _, num_ctx = parameters(body.options or {})
    if keep == 0:
        await service.fleet.unload((await service.find(body.id)).name)
        reason = "unload"
    else:
        await prepared(http, service, body.id, num_ctx, keep)
        reason = "load"
    end = {"done": True, "done_reason": reason, "total_duration": time.perf_counter_ns() - began}
    facts = {"model": body.id, "created_at": now(), **part(""), **end}
    if body.stream is False:
        return JSONResponse(facts)
    return Response(line(facts), media_type=NDJSON)


class _Wording:
    """Events -> objects of the API."""

    def __init__(self, body: Asking, part: Part, calls: Calls | None, began: int, load_ns: int) -> None:
        self._id, self._part, self._calls, self._began, self._load_ns = body.id, part, calls, began, load_ns
        self._with_logprobs = bool(body.logprobs)

    async def lines(self, events: AsyncIterator[Event]) -> AsyncIterator[str]:
        async for event in events:
            text, calls = self._said(event)
            tokens = event.tokens if isinstance(event, Chunk) and self._with_logprobs else ()
            if text or calls or tokens:
                yield line(self._object(text, tokens, calls) | {"done": False})
            if isinstance(event, Finished):
                yield line(self._object("") | self._end(event))

    def whole(self, events: list[Event]) -> dict[str, Any]:
        said = [self._said(event) for event in events]
        calls = [call for _, some in said for call in some]
        tokens = tuple(token for event in events if isinstance(event, Chunk) for token in event.tokens)
        finished = next(event for event in events if isinstance(event, Finished))
        return self._object("".join(text for text, _ in said), tokens, calls) | self._end(finished)

    def _said(self, event: Event) -> tuple[str, list[dict[str, Any]]]:
        """What an event adds: text, and calls if there are tools."""
        if isinstance(event, Chunk):
            return self._calls.push(event.text) if self._calls else (event.text, [])
        return self._calls.flush() if isinstance(event, Finished) and self._calls else ("", [])

    def _object(self, text: str, tokens: Sequence[TokenInfo] = (), calls: Sequence[Any] = ()) -> dict[str, Any]:
        facts = {"model": self._id, "created_at": now(), **self._part(text)}
        if calls:
            facts["message"]["tool_calls"] = calls
        return facts | {"logprobs": logprobs(tokens)} if self._with_logprobs and tokens else facts

    def _end(self, event: Finished) -> dict[str, Any]:
        first, total = event.timing.first_token_s, event.timing.total_s
        return {
            "done": True,
            "done_reason": event.reason,
            "total_duration": time.perf_counter_ns() - self._began,
            "load_duration": self._load_ns,
            "prompt_eval_count": event.usage.prompt_tokens,
            "prompt_eval_duration": round(first * 1e9),
            "eval_count": event.usage.completion_tokens,
            "eval_duration": round(max(0.0, total - first) * 1e9),
        }


def _fault(error: SlmError) -> str:
    return line(ollama_body(error))
