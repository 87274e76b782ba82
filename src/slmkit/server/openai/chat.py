"""POST /v1/chat/completions"""

from __future__ import annotations

import copy
import secrets
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response

from slmkit.errors import SlmError
from slmkit.events import Chunk, Event, Finished, Started, TokenInfo
from slmkit.request import Request
from slmkit.server.bodies import JsonRoute
from slmkit.server.faults import Fault, openai_body
from slmkit.server.images import with_images
from slmkit.server.openai import conversation, counts
from slmkit.server.openai.logprobs import AnswerTokens, content
from slmkit.server.openai.schema import Chat, FunctionChoice, options
from slmkit.server.replies import DONE, gathered, sse, streamed, whole
from slmkit.server.service import Service, seconds
from slmkit.server.tools import AUTO, Arguments, Opened, Parser, Part, prepare

Json = dict[str, Any]


def routes(service: Service) -> APIRouter:
    """The endpoint that answers conversations."""
    router = APIRouter(route_class=JsonRoute)

    @router.post("/v1/chat/completions")
    async def chat(asked: Chat, http: HttpRequest) -> Response:
        keep_alive_s = None if asked.keep_alive is None else seconds(asked.keep_alive, "keep_alive")
        events = service.answer(asked.model, await request_of(asked, service), keep_alive_s)
        reply = Reply(asked)
        if asked.stream:
            return await streamed(http, events, reply.stream, fault, "text/event-stream")
        return JSONResponse(reply.whole(await whole(http, gathered(events))))

    return router


def fault(error: SlmError) -> str:
    """What a stream ends with where its answer fails."""
    return sse(openai_body(error))


async def request_of(asked: Chat, service: Service) -> Request:
    """What the engine is asked.   Raises RequestError."""
    if asked.top_logprobs is not None and not asked.logprobs:
        raise Fault(400, "top_logprobs needs logprobs to be true", "invalid_value", "top_logprobs")
    if asked.stream_options is not None and not asked.stream:
        raise Fault(
            400, "stream_options is for streams; leave it out, or set stream", "invalid_value", "stream_options"
        )
    limit = asked.max_tokens if asked.max_completion_tokens is None else asked.max_completion_tokens
    if asked.max_tokens not in (None, limit):
        raise Fault(
            400, f"max_tokens is {asked.max_tokens} and max_completion_tokens {limit}; give one of them",
            "invalid_value", "max_tokens",
        )  # fmt: skip
    choice = asked.tool_choice or AUTO
    messages, constraint = prepare(
        conversation.turns(asked.messages),
        conversation.tools(asked.tools),
        choice.function.name if isinstance(choice, FunctionChoice) else choice,
        asked.parallel_tool_calls is not False,
        conversation.constraint(asked, conversation.format_of(asked)),
        has_system=not asked.tools or await service.has_system(asked.model),
    )
    return Request(
        messages=await with_images(messages, service),
        options=options(
            asked,
            max_tokens=limit,
            n=asked.n,
            presence_penalty=asked.presence_penalty,
            frequency_penalty=asked.frequency_penalty,
            logit_bias=asked.logit_bias,
            logprobs=(asked.top_logprobs or 0) if asked.logprobs else None,
        ),
        constraint=constraint,
    )


class Reply:
    """One answer in OpenAI's shape, whole or in chunks."""

    def __init__(self, asked: Chat) -> None:
        self._asked = asked
        self._id, self._created = f"chatcmpl-{secrets.token_hex(12)}", int(time.time())

    def whole(self, events: Iterable[Event]) -> Json:
        """The answer that these events are."""
        choices = self._choices()
        for event in events:
            if isinstance(event, (Chunk, Finished)):
                choices[event.index].take(event)
        ends = [[choice.finished for choice in choices]]
        return {
            **self._head("chat.completion"),
            "choices": [choice.whole() for choice in choices],
            "usage": counts.usage(ends),
            "timing": counts.timing(ends),
        }

    async def stream(self, events: AsyncIterator[Event]) -> AsyncIterator[str]:
        """The answer as server-sent events; each choice begins with its role."""
        choices = self._choices()
        async for event in events:
            if isinstance(event, Started):
                for choice in choices:
                    yield self._chunk(choice, {"role": "assistant", "content": ""})
            elif isinstance(event, (Chunk, Finished)):
                choice = choices[event.index]
                for delta in choice.take(event):
                    yield self._chunk(choice, delta)
                if isinstance(event, Finished):
                    yield self._chunk(choice, {}, choice.finish_reason)
        if self._with_usage:
            ends = [[choice.finished for choice in choices]]
            last = {"choices": [], "usage": counts.usage(ends), "timing": counts.timing(ends)}
            yield sse({**self._head("chat.completion.chunk"), **last})
        yield sse(DONE)

    @property
    def _with_usage(self) -> bool:
        return self._asked.stream_options is not None and self._asked.stream_options.include_usage

    def _choices(self) -> list[Choice]:
        has_tools = bool(self._asked.tools) and self._asked.tool_choice != "none"
        return [Choice(index, has_tools, bool(self._asked.logprobs)) for index in range(self._asked.n or 1)]

    def _head(self, kind: str) -> Json:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._asked.model}

    def _chunk(self, choice: Choice, delta: Json, finish_reason: str | None = None) -> str:
        entry = {
            "index": choice.index,
            "delta": delta,
            "logprobs": choice.new_logprobs(),
            "finish_reason": finish_reason,
        }
        empty = {"usage": None} if self._with_usage else {}
        return sse({**self._head("chat.completion.chunk"), "choices": [entry], **empty})


class Choice:
    """One of the answers to a conversation, as it comes."""

    finished: Finished

    def __init__(self, index: int, has_tools: bool, with_logprobs: bool) -> None:
        self.index = index
        self._parser = Parser() if has_tools else None
        self._answer_tokens = AnswerTokens() if with_logprobs else None
        self._text = ""
        self._calls: list[Json] = []
        self._tokens: list[TokenInfo] = []
        self._n_told = 0

    def take(self, event: Chunk | Finished) -> list[Json]:
        """What changes with this event, as deltas."""
        if isinstance(event, Finished):
            self.finished = event
            self._tokens += self._answer_tokens.rest(event) if self._answer_tokens else []
            return [self._delta(part) for part in (self._parser.flush() if self._parser else [])]
        self._tokens += self._answer_tokens.of(event) if self._answer_tokens else []
        parts: list[Part] = self._parser.push(event.text) if self._parser else [event.text] if event.text else []
        return [self._delta(part) for part in parts]

    @property
    def finish_reason(self) -> str:
        """OpenAI's name for why the answer ended."""
        has_calls = self._parser is not None and self._parser.has_calls
        return "tool_calls" if has_calls and self.finished.reason == "stop" else self.finished.reason

    def new_logprobs(self) -> Json | None:
        """Of the tokens since this was asked last."""
        if self._answer_tokens is None:
            return None
        tokens, self._n_told = self._tokens[self._n_told :], len(self._tokens)
        return {"content": content(tokens), "refusal": None} if tokens else None

    def whole(self) -> Json:
        """The complete choice."""
        message: Json = {"role": "assistant", "content": self._text, "refusal": None}
        if self._calls:
            message |= {"content": self._text or None, "tool_calls": self._calls}
        logprobs = {"content": content(self._tokens), "refusal": None} if self._answer_tokens else None
        return {"index": self.index, "message": message, "logprobs": logprobs, "finish_reason": self.finish_reason}

    def _delta(self, part: Part) -> Json:
        if isinstance(part, str):
            self._text += part
            return {"content": part}
        if isinstance(part, Opened):
            call = {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": ""}}
            self._calls.append(copy.deepcopy(call))
            return {"tool_calls": [{"index": part.index, **call}]}
        assert isinstance(part, Arguments)
        self._calls[part.index]["function"]["arguments"] += part.text
        return {"tool_calls": [{"index": part.index, "function": {"arguments": part.text}}]}
