"""Anthropic's turns, blocks and tools as what any model reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from slmkit.request import Constraint, Message, as_messages
from slmkit.server import tools
from slmkit.server.anthropic.schema import Block, Conversation, Image, Text, ThisTool, ToolResult, ToolUse, Turn
from slmkit.server.faults import Fault
from slmkit.server.replies import dumps

CHOICES = {"auto": tools.AUTO, "any": tools.REQUIRED, "none": tools.NONE}


@dataclass
class _Turn:
    """A message on its way: parts of content, and the calls in it or the call that it answers."""

    role: str
    parts: list[dict[str, Any]] = field(default_factory=list)
    calls: list[tools.Call] = field(default_factory=list)
    result_of: str = ""


def read(body: Conversation, has_system: bool = True) -> tuple[tuple[Message, ...], Constraint | None]:
    """The conversation, and what its answer must match. Neighbours of one role are one message, as Anthropic has it.

    has_system: as `tools.prepare` has it.   Raises RequestError.
    """
    if body.messages[-1].role == "assistant":
        raise Fault(
            400, "the last message is the assistant's, and answers are not continued here; end with one of the user's",
            "unsupported_parameter", "messages",
        )  # fmt: skip
    found = [_Turn("system", [_text(text)])] if (text := _system(body)) else []
    for turn in body.messages:
        found += _turns(turn)
    messages = as_messages([{"role": turn.role, "content": _spaced(turn.parts)} for turn in found])
    turns = [
        tools.Turn(message, tuple(turn.calls), turn.result_of) for message, turn in zip(messages, found, strict=True)
    ]
    choice = body.tool_choice
    prepared, constraint = tools.prepare(
        turns,
        [tools.Tool(tool.name, tool.description, tool.input_schema) for tool in body.tools],
        choice.name if isinstance(choice, ThisTool) else CHOICES[choice.type] if choice else tools.AUTO,
        not getattr(choice, "disable_parallel_tool_use", False),
        _format(body),
        has_system,
    )
    return _joined(prepared), constraint


def _system(body: Conversation) -> str:
    return body.system if isinstance(body.system, str) else "\n\n".join(block.text for block in body.system)


def _format(body: Conversation) -> Constraint | None:
    asked = body.output_config.format if body.output_config else None
    return Constraint("schema", asked.schema_) if asked else None


def _turns(turn: Turn) -> Iterator[_Turn]:
    """A message of each kind that a turn holds, in the order of its blocks."""
    blocks: list[Block] = [Text(type="text", text=turn.content)] if isinstance(turn.content, str) else turn.content
    now = _Turn(turn.role)
    for block in blocks:
        if isinstance(block, ToolResult):
            _only(turn, block, "user")
            if now.parts:
                yield now
            content = [_text(block.content)] if isinstance(block.content, str) else [_part(b) for b in block.content]
            failed = [_text("Error:")] if block.is_error else []
            yield _Turn("tool", failed + content, result_of=block.tool_use_id)
            now = _Turn(turn.role)
        elif isinstance(block, ToolUse):
            _only(turn, block, "assistant")
            now.calls.append(tools.Call(block.id, block.name, dumps(block.input)))
        else:
            now.parts.append(_part(block))
    if now.parts or now.calls or not blocks:
        yield now


def _only(turn: Turn, block: Block, role: str) -> None:
    if turn.role != role:
        raise Fault(400, f"a message of the {turn.role} has a block of type {block.type}; the {role}'s have those")


def _part(block: Text | Image) -> dict[str, Any]:
    if isinstance(block, Text):
        return _text(block.text)
    source = block.source
    url = source.url if source.type == "url" else f"data:{source.media_type};base64,{source.data}"
    return {"type": "image_url", "image_url": {"url": url}}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _spaced(parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The parts, with an end of line between two texts: blocks are apart from each other."""
    found: list[dict[str, Any]] = []
    for part in parts:
        if found and found[-1]["type"] == part["type"] == "text":
            found.append(_text("\n"))
        found.append(part)
    return found


def _joined(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Neighbours of one role as one message."""
    found: list[Message] = []
    for message in messages:
        if found and found[-1].role == message.role:
            content = f"{found[-1].content}\n{message.content}"
            message = replace(message, content=content, images=found.pop().images + message.images)
        found.append(message)
    return tuple(found)
