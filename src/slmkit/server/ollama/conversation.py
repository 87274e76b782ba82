"""Ollama's turns and tools as what any model reads, and calls as Ollama writes them.

The result of a call names it by an id or by its function, or not at all; then results come in the order of the calls.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from slmkit.errors import RequestError
from slmkit.request import Constraint, Message
from slmkit.server import tools
from slmkit.server.ollama.schema import ChatBody, Turn, images_of
from slmkit.server.replies import dumps
from slmkit.server.tools import Call, Opened, Parser, Part
from slmkit.untrusted import shown


def read(body: ChatBody, has_system: bool = True) -> tuple[tuple[Message, ...], Constraint | None]:
    """The conversation, and what its answer must match.

    has_system: as `tools.prepare` has it.   Raises RequestError.
    """
    given = [tools.Tool(t.function.name, t.function.description, t.function.parameters) for t in body.tools or ()]
    return tools.prepare(_turns(body.messages or ()), given, answer=body.constraint, has_system=has_system)


def messages_of(turns: Sequence[Turn]) -> tuple[Message, ...]:
    """The conversation of a Modelfile, without calls.   Raises RequestError."""
    return tuple(Message(turn.role, turn.content or "", images_of(turn.images)) for turn in turns)


def _turns(given: Sequence[Turn]) -> list[tools.Turn]:
    found: list[tools.Turn] = []
    waiting: list[tuple[str | None, Call]] = []  # calls without a result as yet, each with the id that it came with
    for at, turn in enumerate(given):
        (message,) = messages_of([turn])
        for name, value, role in (
            ("tool_calls", turn.tool_calls, "assistant"),
            ("tool_name", turn.tool_name, "tool"),
            ("tool_call_id", turn.tool_call_id, "tool"),
        ):
            if value and turn.role != role:
                raise RequestError(f"messages.{at}.{name} is for messages of the {role}; leave it out")
        calls = [
            (call.id, Call(f"{at}.{n}", call.function.name, dumps(call.function.arguments)))
            for n, call in enumerate(turn.tool_calls or ())
        ]
        waiting += calls
        result_of = waiting.pop(_answered(turn, waiting, at))[1].id if turn.role == "tool" else ""
        found.append(tools.Turn(message, tuple(call for _, call in calls), result_of))
    return found


def _answered(turn: Turn, waiting: Sequence[tuple[str | None, Call]], at: int) -> int:
    """Which of the calls a tool's message is the result of.   Raises RequestError."""
    for n, (id, call) in enumerate(waiting):
        if turn.tool_call_id in (None, "", id) and turn.tool_name in (None, "", call.name):
            return n
    named = "".join(f" {shown(name)}" for name in (turn.tool_name, turn.tool_call_id) if name)
    raise RequestError(
        f"messages.{at} is the result of a tool, and no call{named} before it waits for one; give the assistant's "
        "message with its tool_calls, too"
    )


class Calls:
    """Takes an answer apart as it comes: its text, and each call once it is whole.

    A call that the end of the answer cut off stays text.
    """

    def __init__(self) -> None:
        self._parser = Parser()
        self._name, self._id, self._arguments = "", "", ""  # of the call that is under way

    def push(self, text: str) -> tuple[str, list[dict[str, Any]]]:
        """What is certain by now: text, and calls in Ollama's shape."""
        return self._sorted(self._parser.push(text))

    def flush(self) -> tuple[str, list[dict[str, Any]]]:
        """What is left at the end of the answer."""
        text, calls = self._sorted(self._parser.flush())
        if self._name:
            text = f'{tools.OPEN}{{"name": {dumps(self._name)}, "arguments": {self._arguments}{text}'
        return text, calls

    def _sorted(self, parts: Sequence[Part]) -> tuple[str, list[dict[str, Any]]]:
        text, calls = "", list[dict[str, Any]]()
        for part in parts:
            if isinstance(part, str):
                text += part
            elif isinstance(part, Opened):
                self._name, self._id, self._arguments = part.name, part.id, ""
            else:
                self._arguments += part.text
                if part.is_last:
                    calls.append(self._call(part.index))
        return text, calls

    def _call(self, index: int) -> dict[str, Any]:
        function = {"index": index, "name": self._name, "arguments": json.loads(self._arguments)}
        self._name = ""
        return {"id": self._id, "function": function}
