"""The items of a response, and the events that tell how they come about."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Iterator
from typing import Any

from slmkit.events import Chunk, Finished, TokenInfo
from slmkit.server.openai.logprobs import AnswerTokens, content
from slmkit.server.tools import Opened, Parser, Part

Json = dict[str, Any]
Told = tuple[str, Json]  # an event's type, and what it says


class Output:
    """Messages and calls, one after the other; the last one is open until another begins or the answer ends."""

    def __init__(self, has_tools: bool, with_logprobs: bool) -> None:
        self.items: list[Json] = []
        self.finished: Finished | None = None
        self._parser = Parser() if has_tools else None
        self._answer_tokens = AnswerTokens() if with_logprobs else None
        self._tokens: list[TokenInfo] = []

    def take(self, event: Chunk | Finished) -> Iterator[Told]:
        """What follows from an event of the engine."""
        if isinstance(event, Finished):
            self.finished = event
            self._tokens += self._answer_tokens.rest(event) if self._answer_tokens else []
            for part in self._parser.flush() if self._parser else []:
                yield from self._add(part)
            if not self.items:
                yield from self._open_message()
            yield from self._close("incomplete" if event.reason == "length" else "completed")
            return
        self._tokens += self._answer_tokens.of(event) if self._answer_tokens else []
        parts: list[Part] = self._parser.push(event.text) if self._parser else [event.text] if event.text else []
        for part in parts:
            yield from self._add(part)

    def _add(self, part: Part) -> Iterator[Told]:
        if isinstance(part, str):
            if not self.items or self.items[-1]["type"] != "message":
                yield from self._close()
                yield from self._open_message()
            yield from self._add_text(part)
        elif isinstance(part, Opened):
            yield from self._close()
            yield from self._open(
                {"id": _id("fc"), "type": "function_call", "status": "in_progress", "call_id": part.id,
                 "name": part.name, "arguments": ""}
            )  # fmt: skip
        else:
            self.items[-1]["arguments"] += part.text
            yield "response.function_call_arguments.delta", {**self._where, "delta": part.text}

    def _add_text(self, text: str) -> Iterator[Told]:
        said = self.items[-1]["content"][0]
        logprobs, self._tokens = content(self._tokens), []
        said["text"] += text
        said["logprobs"] += logprobs
        yield "response.output_text.delta", {**self._where, "content_index": 0, "delta": text, "logprobs": logprobs}

    def _open(self, item: Json) -> Iterator[Told]:
        self.items.append(item)
        yield "response.output_item.added", {"output_index": len(self.items) - 1, "item": copy.deepcopy(item)}

    def _open_message(self) -> Iterator[Told]:
        yield from self._open(
            {"id": _id("msg"), "type": "message", "status": "in_progress", "role": "assistant", "content": []}
        )
        part: Json = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        self.items[-1]["content"].append(part)
        yield "response.content_part.added", {**self._where, "content_index": 0, "part": copy.deepcopy(part)}

    def _close(self, status: str = "completed") -> Iterator[Told]:
        """Complete the open item, if there is one."""
        if not self.items or self.items[-1]["status"] != "in_progress":
            return
        item = self.items[-1]
        item["status"] = status
        if item["type"] == "message":
            said = item["content"][0]
            place = {**self._where, "content_index": 0}
            yield "response.output_text.done", {**place, "text": said["text"], "logprobs": said["logprobs"]}
            yield "response.content_part.done", {**place, "part": copy.deepcopy(said)}
        else:
            told = {"name": item["name"], "arguments": item["arguments"]}
            yield "response.function_call_arguments.done", {**self._where, **told}
        yield "response.output_item.done", {"output_index": len(self.items) - 1, "item": copy.deepcopy(item)}

    @property
    def _where(self) -> Json:
        """The open item, as events name it."""
        return {"item_id": self.items[-1]["id"], "output_index": len(self.items) - 1}


def _id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(16)}"
