"""One answer in Anthropic's shape: blocks of text and of calls, whole or as server-sent events."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from slmkit.events import Chunk, Event, Finished, Started, Usage
from slmkit.server.anthropic.schema import Body
from slmkit.server.replies import sse
from slmkit.server.tools import Arguments, Opened, Parser, Part

Json = dict[str, Any]
CALLS = "toolu_"  # what the ids of calls begin with


class Answer:
    """The answer to one request."""

    def __init__(self, body: Body) -> None:
        self._body = body
        has_tools = bool(body.tools) and (body.tool_choice is None or body.tool_choice.type != "none")
        self._parser = Parser(CALLS) if has_tools else None
        self._n_blocks, self._kind = 0, ""  # of those opened so far, and of the one that is open

    def whole(self, events: Sequence[Event]) -> Json:
        """The answer that these events are."""
        blocks: list[Json] = []
        for event in events:
            for part in self._parts(event):
                if isinstance(part, Opened):
                    blocks.append({"type": "tool_use", "id": part.id, "name": part.name, "input": ""})
                elif isinstance(part, Arguments):
                    blocks[-1]["input"] += part.text
                elif blocks and blocks[-1]["type"] == "text":
                    blocks[-1]["text"] += part
                else:
                    blocks.append({"type": "text", "text": part})
        for block in blocks:
            if block["type"] == "tool_use":
                block["input"] = _input(block["input"])
        finished = next(event for event in events if isinstance(event, Finished))
        return {**self._head(), "content": blocks, **self._end(finished), "usage": _usage(finished.usage)}

    async def stream(self, events: AsyncIterator[Event]) -> AsyncIterator[str]:
        """The events of the answer, in Anthropic's order."""
        async for event in events:
            if isinstance(event, Started):
                usage = _usage(Usage(event.prompt_tokens, 0))
                yield _sse("message_start", message={**self._head(), "usage": usage})
                yield _sse("ping")
            for part in self._parts(event):
                for line in self._delta(part):
                    yield line
            if isinstance(event, Finished):
                for line in self._close():
                    yield line
                yield _sse("message_delta", delta=self._end(event), usage=_usage(event.usage))
                yield _sse("message_stop")

    def _parts(self, event: Event) -> list[Part]:
        """What an event adds: text, and calls if there are tools."""
        if isinstance(event, Chunk) and event.text:
            return self._parser.push(event.text) if self._parser else [event.text]
        return self._parser.flush() if isinstance(event, Finished) and self._parser else []

    def _delta(self, part: Part) -> Iterator[str]:
        if isinstance(part, Opened):
            yield from self._open({"type": "tool_use", "id": part.id, "name": part.name, "input": {}})
            return
        if isinstance(part, str) and self._kind != "text":
            yield from self._open({"type": "text", "text": ""})
        delta = (
            {"type": "text_delta", "text": part}
            if isinstance(part, str)
            else {"type": "input_json_delta", "partial_json": part.text}
        )
        yield _sse("content_block_delta", index=self._n_blocks - 1, delta=delta)

    def _open(self, block: Json) -> Iterator[str]:
        yield from self._close()
        yield _sse("content_block_start", index=self._n_blocks, content_block=block)
        self._kind = block["type"]
        self._n_blocks += 1

    def _close(self) -> Iterator[str]:
        if self._kind:
            yield _sse("content_block_stop", index=self._n_blocks - 1)
        self._kind = ""

    def _head(self) -> Json:
        """A message of which nothing was said yet."""
        return {
            "id": f"msg_{secrets.token_hex(12)}",
            "type": "message",
            "role": "assistant",
            "model": self._body.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }

    def _end(self, finished: Finished) -> Json:
        """Why the answer ended."""
        if finished.reason == "length":
            return {"stop_reason": "max_tokens", "stop_sequence": None}
        if finished.stop is not None and finished.stop in self._body.stop_sequences:
            return {"stop_reason": "stop_sequence", "stop_sequence": finished.stop}
        has_calls = self._parser is not None and self._parser.has_calls
        return {"stop_reason": "tool_use" if has_calls else "end_turn", "stop_sequence": None}


def _input(text: str) -> Any:
    """The arguments of a call; none where max_tokens or a stop sequence cut them off, as stop_reason says."""
    try:
        return json.loads(text)
    except ValueError:
        return {}


def _sse(type: str, **data: Any) -> str:
    return sse({"type": type, **data}, type)


def _usage(usage: Usage) -> dict[str, int]:
    """input_tokens are those that were read now; a prompt's others were read before."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }
