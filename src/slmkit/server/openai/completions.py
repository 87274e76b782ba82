"""POST /v1/completions: texts that are continued without a template, or only scored."""

from __future__ import annotations

import asyncio
import codecs
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response

from slmkit.events import Chunk, Event, Finished, Logprob, PromptRead, Started, TokenInfo
from slmkit.request import Request
from slmkit.server.bodies import JsonRoute
from slmkit.server.faults import Fault
from slmkit.server.openai import conversation, counts
from slmkit.server.openai.chat import fault
from slmkit.server.openai.logprobs import bounded, without_first_space
from slmkit.server.openai.schema import Completion, options
from slmkit.server.replies import DONE, gathered, sse, streamed, whole
from slmkit.server.service import Service, seconds
from slmkit.server.together import together

Json = dict[str, Any]
MAX_TOKENS = 16  # OpenAI's default here
MOST_PROMPTS = 2048


def routes(service: Service) -> APIRouter:
    """The endpoint that continues texts."""
    router = APIRouter(route_class=JsonRoute)

    @router.post("/v1/completions")
    async def completions(asked: Completion, http: HttpRequest) -> Response:
        _check(asked)
        keep_alive_s = None if asked.keep_alive is None else seconds(asked.keep_alive, "keep_alive")
        prompts = as_prompts(asked)
        requests = [request_of(asked, prompt) for prompt in prompts]
        texts = [await _text(asked, prompt, service) for prompt in prompts]
        events = together([service.answer(asked.model, request, keep_alive_s) for request in requests])
        reply = Reply(asked, texts)
        if asked.stream:
            return await streamed(http, events, reply.stream, fault, "text/event-stream")
        return JSONResponse(reply.whole(await whole(http, gathered(events))))

    return router


def as_prompts(asked: Completion) -> list[str | list[int]]:
    """The prompts, each a text or its ids."""
    given: Any = asked.prompt
    if not given and given != "":
        raise Fault(400, "prompt is empty; give a text, ids, or a list of them", "invalid_value", "prompt")
    is_one = isinstance(given, str) or isinstance(given[0], int)
    if not is_one and len(given) > MOST_PROMPTS:
        message = f"prompt has {len(given)} texts, over {MOST_PROMPTS}; send fewer at once"
        raise Fault(400, message, "invalid_value", "prompt")
    return [given] if is_one else list(given)


def request_of(asked: Completion, prompt: str | list[int]) -> Request:
    """What the engine is asked for one prompt."""
    n = asked.best_of or asked.n
    return Request(
        prompt=prompt if isinstance(prompt, str) else None,
        ids=tuple(prompt) if isinstance(prompt, list) else None,
        options=options(
            asked,
            max_tokens=MAX_TOKENS if asked.max_tokens is None else max(asked.max_tokens, 1),
            n=n,
            presence_penalty=asked.presence_penalty,
            frequency_penalty=asked.frequency_penalty,
            logit_bias=asked.logit_bias,
            logprobs=asked.logprobs,
        ),
        scorer=_mean if (n or 1) > (asked.n or 1) else None,
        constraint=conversation.constraint(asked),
        prompt_logprobs=asked.logprobs if asked.echo else None,
    )


class Reply:
    """The answers to all prompts in OpenAI's shape, whole or in chunks.   texts: of the prompts."""

    def __init__(self, asked: Completion, texts: Sequence[str]) -> None:
        self._asked, self._texts = asked, texts
        self._id, self._created = f"cmpl-{secrets.token_hex(12)}", int(time.time())
        self._n, self._made = asked.n or 1, asked.best_of or asked.n or 1

    def whole(self, events: Iterable[tuple[int, Event]]) -> Json:
        """All choices of the first prompt, then those of the next."""
        prompts = self._prompts()
        for number, event in events:
            for choice, piece in self._pieces(prompts[number], event):
                choice.text += piece.text
                choice.tokens += piece.tokens
        ends = [[choice.finished for choice in choices] for choices in prompts]
        best = [choice for choices in prompts for choice in sorted(choices, key=_rank)[: self._n]]
        return {
            **self._head(),
            "choices": [choice.entry(n, choice.whole(), choice.finished.reason) for n, choice in enumerate(best)],
            "usage": counts.usage(ends),
            "timing": counts.timing(ends),
        }

    async def stream(self, events: AsyncIterator[tuple[int, Event]]) -> AsyncIterator[str]:
        """The choices as server-sent events, mixed as they come."""
        prompts = self._prompts()
        include_usage = self._asked.stream_options is not None and self._asked.stream_options.include_usage
        empty = {"usage": None} if include_usage else {}
        async for number, event in events:
            for choice, piece in self._pieces(prompts[number], event):
                reason = choice.finished.reason if isinstance(event, Finished) else None
                at = number * self._n + choice.index
                yield sse({**self._head(), "choices": [choice.entry(at, piece, reason)], **empty})
        if include_usage:
            ends = [[choice.finished for choice in choices] for choices in prompts]
            last = {"choices": [], "usage": counts.usage(ends), "timing": counts.timing(ends)}
            yield sse({**self._head(), **last})
        yield sse(DONE)

    def _prompts(self) -> list[list[Choice]]:
        return [[Choice(index, self._asked, text) for index in range(self._made)] for text in self._texts]

    def _pieces(self, choices: list[Choice], event: Event) -> Iterable[tuple[Choice, Piece]]:
        """What an event adds, and to which choice."""
        echo, with_tokens = self._asked.echo, self._asked.logprobs is not None
        if (isinstance(event, Started) and echo and not with_tokens) or isinstance(event, PromptRead):
            tokens = list(event.tokens) if isinstance(event, PromptRead) else []
            yield from ((choice, choice.prompt(tokens)) for choice in choices)
        elif isinstance(event, Chunk):
            piece = Piece(event.text, list(event.tokens) if with_tokens else [])
            if self._asked.max_tokens != 0 and (piece.text or piece.tokens):
                yield choices[event.index], piece
        elif isinstance(event, Finished):
            if self._asked.max_tokens == 0:
                event = replace(event, reason="length", usage=replace(event.usage, completion_tokens=0))
            choices[event.index].finished = event
            yield choices[event.index], Piece("", [])

    def _head(self) -> Json:
        return {"id": self._id, "object": "text_completion", "created": self._created, "model": self._asked.model}


@dataclass(frozen=True)
class Piece:
    """Some text, and tokens whose log probabilities are told with it."""

    text: str
    tokens: list[TokenInfo]


class Choice:
    """One continuation of one prompt."""

    finished: Finished

    def __init__(self, index: int, asked: Completion, prompt: str) -> None:
        self.index = index
        self._asked, self._prompt = asked, prompt
        self._offset = 0 if asked.echo else len(prompt)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.text, self.tokens = "", list[TokenInfo]()

    def prompt(self, tokens: list[TokenInfo]) -> Piece:
        """The prompt as an echo."""
        first = next((n for n, token in enumerate(tokens) if token.data), None)
        if first is not None:
            tokens[first] = without_first_space(tokens[first], self._prompt)
        return Piece(self._prompt, tokens)

    def whole(self) -> Piece:
        """All that was said."""
        return Piece(self.text, self.tokens)

    def entry(self, index: int, piece: Piece, finish_reason: str | None) -> Json:
        """A choice of the answer or of a chunk; the pieces of a stream are given in their order."""
        logprobs = None if self._asked.logprobs is None else self._table(piece.tokens)
        return {"index": index, "text": piece.text, "logprobs": logprobs, "finish_reason": finish_reason}

    def _table(self, tokens: Sequence[TokenInfo]) -> Json:
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(self._decoder.decode(token.data))
        return {
            "tokens": [_spelled(token) for token in tokens],
            "token_logprobs": [None if token.logprob is None else bounded(token.logprob) for token in tokens],
            "top_logprobs": [_best(token) for token in tokens] if self._asked.logprobs else None,
            "text_offset": offsets,
        }


def _best(token: TokenInfo) -> dict[str, float] | None:
    """The likeliest tokens and the one that stands there; of two that are spelled alike, the likelier."""
    if token.logprob is None:
        return None
    found: dict[str, float] = {}
    told: tuple[Logprob | TokenInfo, ...] = (*token.top, token)
    for each in told:
        found.setdefault(_spelled(each), bounded(each.logprob))
    return found


def _spelled(token: TokenInfo | Logprob) -> str:
    """The token's text; its bytes where they are no whole characters."""
    try:
        return token.data.decode() or token.text
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.data)


def _rank(choice: Choice) -> float:
    return -(choice.finished.score or 0.0)


def _mean(text: str, ids: Sequence[int], logprob: float) -> float:
    """What best_of ranks by."""
    return logprob / max(1, len(ids))


async def _text(asked: Completion, prompt: str | list[int], service: Service) -> str:
    """The text of a prompt, where an answer needs it."""
    if isinstance(prompt, str) or not (asked.echo or asked.logprobs is not None):
        return prompt if isinstance(prompt, str) else ""
    async with service.model(asked.model) as model:
        return await asyncio.to_thread(model.detokenize, prompt)


def _check(asked: Completion) -> None:
    """Raise Fault for fields that do not go together."""
    if asked.max_tokens == 0 and not asked.echo:
        raise Fault(400, "max_tokens is 0, which gives nothing unless echo is true", "invalid_value", "max_tokens")
    if asked.best_of is not None and asked.best_of < (asked.n or 1):
        raise Fault(400, f"best_of is {asked.best_of}, less than n, {asked.n}", "invalid_value", "best_of")
    if asked.best_of is not None and asked.best_of > (asked.n or 1) and asked.stream:
        raise Fault(
            400, "best_of above n cannot be streamed: which is best shows at the end", "invalid_value", "best_of"
        )
    if asked.stream_options is not None and not asked.stream:
        raise Fault(400, "stream_options is for streams; leave it out or set stream", "invalid_value", "stream_options")
