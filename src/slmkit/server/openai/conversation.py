"""Messages in OpenAI's shape as turns of a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slmkit.request import Constraint, as_messages
from slmkit.server.faults import Fault
from slmkit.server.openai.schema import Asked, Chat, ChatMessage, FunctionTool, Image, JsonFormat, SchemaFormat, Text
from slmkit.server.tools import Call, Tool, Turn


def turns(messages: Sequence[ChatMessage]) -> list[Turn]:
    """The conversation.   Raises Fault for fields that do not go with a role."""
    for n, message in enumerate(messages):
        _check(message, f"messages.{n}")
    plain = as_messages([{"role": _role(m), "content": _content(m)} for m in messages])
    return [
        Turn(
            one,
            tuple(Call(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ()),
            message.tool_call_id or "",
        )
        for one, message in zip(plain, messages, strict=True)
    ]


def tools(given: Sequence[FunctionTool] | None) -> list[Tool]:
    """The functions of a request."""
    return [Tool(each.function.name, each.function.description, each.function.parameters) for each in given or ()]


def format_of(asked: Chat) -> Constraint | None:
    """What `response_format` asks for."""
    if isinstance(asked.response_format, SchemaFormat):
        return Constraint("schema", asked.response_format.json_schema.rules)
    return Constraint("json") if isinstance(asked.response_format, JsonFormat) else None


def constraint(asked: Asked, format: Constraint | None = None) -> Constraint | None:
    """What the answer must match.   Raises Fault where several things are asked for."""
    wanted = [] if format is None else [format]
    if asked.guided_regex is not None:
        wanted.append(Constraint("regex", asked.guided_regex))
    if asked.guided_grammar is not None:
        wanted.append(Constraint("lark", asked.guided_grammar))
    if len(wanted) > 1:
        param = "guided_regex" if asked.guided_grammar is None else "guided_grammar"
        raise Fault(
            400, f"{param} is not the only field that says what the answer is; give one", "invalid_value", param
        )
    return wanted[0] if wanted else None


def _role(message: ChatMessage) -> str:
    return "system" if message.role == "developer" else message.role


def _content(message: ChatMessage) -> Any:
    if not isinstance(message.content, list):
        return message.content or ""
    return [_part(part) for part in message.content]


def _part(part: Text | Image) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    return {"type": "image_url", "image_url": {"url": part.image_url.url}}


def _check(message: ChatMessage, where: str) -> None:
    if message.content is None and not message.tool_calls:
        raise Fault(400, f"{where}.content is missing", "missing_required_parameter", f"{where}.content")
    if message.role == "tool" and message.tool_call_id is None:
        raise Fault(
            400, f"{where}.tool_call_id is missing; say which call it answers", "missing_required_parameter",
            f"{where}.tool_call_id",
        )  # fmt: skip
    places = {"name": ("tool",), "tool_call_id": ("tool",), "tool_calls": ("assistant",)}
    for name, roles in places.items():
        if getattr(message, name) is not None and message.role not in roles:
            raise Fault(
                400, f"{where}.{name} is not for a message of the {message.role}; leave it out",
                "unsupported_parameter", f"{where}.{name}",
            )  # fmt: skip
    is_visual = isinstance(message.content, list) and any(isinstance(part, Image) for part in message.content)
    if is_visual and message.role not in ("user", "tool"):
        raise Fault(400, f"{where} has an image; messages of the user have them", "invalid_value", f"{where}.content")
