"""An answer of OpenAI's API, streamed or whole, as events.

Source: https://platform.openai.com/docs/api-reference/chat/streaming; the form of a stream: WHATWG HTML, section 9.2.6
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from slmkit.backends.faults import CONTEXT_CODE, is_text_of_context
from slmkit.backends.http import Reply, Server, said
from slmkit.errors import Busy, ContextExceeded, RuntimeFailure, SlmError, UnsupportedFeature
from slmkit.events import Chunk, Event, Finished, Logprob, Started, Timing, TokenInfo, Usage
from slmkit.request import Request

_NO_CHANCE = -9999.0  # how OpenAI writes a log probability of minus infinity
_REASONS = {"eos": "stop", "eos_token": "stop", "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length"}
_DONE = b"[DONE]"
Json = Mapping[str, Any]


class Reading:
    """One answer. Its timing is measured here, from the moment that it is made.

    Where a request has several choices, services tell their tokens together: the first has them all.
    """

    def __init__(self, server: Server, request: Request) -> None:
        self._server, self._began = server, time.perf_counter()
        self._n = request.options.n or 1
        self._most_logprobs = request.options.logprobs
        self._first: dict[int, float] = {}
        self._ends: dict[int, tuple[str, str | None, float]] = {}
        self._usage, self._has_tokens = Usage(0, 0), False

    def events(self, reply: Reply) -> Iterator[Event]:
        """Raises RuntimeFailure for an answer that breaks off or has another form, and what a stream ends with."""
        yield Started(0)
        for part in _parts(reply):
            if part.get("error") or part.get("object") == "error":
                raise self._fault(part)
            try:
                chunks = [*self._chunks(part)]
            except (KeyError, TypeError, ValueError, AttributeError):
                raise RuntimeFailure(
                    f"the server at {self._server} answers in a form that is not OpenAI's; look at what runs there"
                ) from None
            yield from chunks
        if len(self._ends) < self._n:
            raise self._server.broke_off("its answer has no end")
        if self._most_logprobs is not None and self._first and not self._has_tokens:
            raise UnsupportedFeature(f"the server at {self._server} tells no logprobs; leave them out")
        yield from self._finished()

    def _chunks(self, part: Json) -> Iterator[Chunk]:
        if isinstance(part.get("usage"), Mapping):
            self._usage = _usage(part["usage"])
        for choice in part.get("choices") or ():
            index = int(choice.get("index") or 0)
            text = _text(choice)
            tokens = _tokens(choice.get("logprobs"), self._most_logprobs) if self._most_logprobs is not None else ()
            if text or tokens:
                self._first.setdefault(index, self._now())
                self._has_tokens |= bool(tokens)
                yield Chunk(text, index, tokens)
            if choice.get("finish_reason"):
                reason, stop = str(choice["finish_reason"]), choice.get("stop_reason")
                self._ends[index] = _REASONS.get(reason, reason), stop if isinstance(stop, str) else None, self._now()

    def _finished(self) -> Iterator[Finished]:
        for index, (reason, stop, total) in sorted(self._ends.items()):
            usage = self._usage if index == 0 else Usage(self._usage.prompt_tokens, 0)
            yield Finished(index, reason, usage, Timing(self._first.get(index, total), total), stop)

    def _fault(self, part: Json) -> SlmError:
        """What went wrong after the answer had begun."""
        import json

        text, code = said(json.dumps(part).encode())
        text = self._server.without_secret(text) or "it does not say why"
        if code == CONTEXT_CODE or is_text_of_context(text):
            return ContextExceeded(text)
        if "rate_limit" in code or "overloaded" in code:
            return Busy(f"{self._server} has too much to do ({text}); ask again later")
        return RuntimeFailure(f"{self._server} failed ({text}); ask again")

    def _now(self) -> float:
        return time.perf_counter() - self._began


def _parts(reply: Reply) -> Iterator[Json]:
    """The objects of a stream; of a server that does not stream, the one that is all."""
    if reply.headers.get("content-type", "").partition(";")[0].strip() == "application/json":
        yield reply.object()
        return
    data: list[bytes] = []
    for line in reply.lines():
        line = line.rstrip(b"\r")
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif line.startswith(b"{"):
            data.append(line)  # an error, as some servers write it into a stream
        elif not line and data:
            text, data = b"\n".join(data), []
            if text.strip() == _DONE:
                return
            yield reply.parsed(text)
    if data and (text := b"\n".join(data)).strip() != _DONE:
        yield reply.parsed(text)


def _text(choice: Json) -> str:
    """What a choice adds: of a chat in a stream or whole, or of a text."""
    said = choice.get("delta") or choice.get("message") or {}
    text = choice["text"] if "text" in choice else said.get("content")
    if text is not None and not isinstance(text, str):
        raise TypeError
    return text or ""


def _usage(found: Json) -> Usage:
    cached = (found.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return Usage(int(found.get("prompt_tokens") or 0), int(found.get("completion_tokens") or 0), int(cached))


def _tokens(found: Json | None, most: int) -> tuple[TokenInfo, ...]:
    """Of a chat, or in the older form of completions."""
    if not found:
        return ()
    if "tokens" in found:
        return _older_tokens(found, most)
    return tuple(
        TokenInfo(-1, entry["token"], _chance(entry), _top(entry.get("top_logprobs"), most), _data(entry))
        for entry in found.get("content") or ()
    )


def _older_tokens(found: Json, most: int) -> tuple[TokenInfo, ...]:
    texts, chances = found["tokens"] or (), found["token_logprobs"] or ()
    tops = found.get("top_logprobs") or [{}] * len(texts)
    return tuple(
        TokenInfo(-1, text, _chance({"logprob": chance}), _top(_listed(top), most), text.encode())
        for text, chance, top in zip(texts, chances, tops, strict=True)
    )


def _listed(top: Json | None) -> list[Json]:
    return [{"token": text, "logprob": chance} for text, chance in (top or {}).items()]


def _top(entries: Sequence[Json] | None, most: int) -> tuple[Logprob, ...]:
    """The likeliest first; completions put the token that was chosen beside them."""
    found = [Logprob(-1, entry["token"], _chance(entry), _data(entry)) for entry in entries or ()]
    return tuple(sorted(found, key=lambda one: -one.logprob)[:most])


def _chance(entry: Json) -> float:
    logprob = float(entry["logprob"])
    return logprob if logprob > _NO_CHANCE else -math.inf


def _data(entry: Json) -> bytes:
    return bytes(entry.get("bytes") or entry["token"].encode())
