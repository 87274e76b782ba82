"""Anthropic's turns and blocks as messages of ours."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from slmkit.request import Message, as_messages
from slmkit.server.anthropic.schema import Block, Conversation, Image, Text, ToolResult, ToolUse, Turn
from slmkit.server.faults import Fault


def messages_of(body: Conversation, image_urls: bool) -> tuple[Message, ...]:
    """The conversation; neighbours of one role are one message, as Anthropic has it.

    image_urls: whether an image may be named by its address.   Raises Fault, RequestError.
    """
    if body.messages[-1].role == "assistant":
        raise Fault(
            400,
            "the last message is the assistant's; answers are not continued here: end with a user's",
            None,
            "messages",
        )
    found: list[dict[str, Any]] = []
    system = body.system if isinstance(body.system, str) else "\n\n".join(block.text for block in body.system)
    if system:
        found.append({"role": "system", "content": system})
    for role, turns in groupby(body.messages, lambda turn: turn.role):
        parts = [part for turn in turns for part in _parts(turn, image_urls)]
        found.append({"role": role, "content": _spaced(parts)})
    return as_messages(found)


def _parts(turn: Turn, image_urls: bool) -> list[dict[str, Any]]:
    blocks = [Text(type="text", text=turn.content)] if isinstance(turn.content, str) else turn.content
    return [_part(block, image_urls) for block in blocks]


def _part(block: Block, image_urls: bool) -> dict[str, Any]:
    if isinstance(block, Text):
        return {"type": "text", "text": block.text}
    if isinstance(block, Image):
        return {"type": "image_url", "image_url": {"url": _url(block, image_urls)}}
    assert isinstance(block, (ToolUse, ToolResult))
    raise Fault(400, f"blocks of type {block.type} are not supported here; leave them out", "unsupported_parameter")


def _url(image: Image, image_urls: bool) -> str:
    source = image.source
    if source.type == "base64":
        return f"data:{source.media_type};base64,{source.data}"
    if not image_urls:
        raise Fault(
            400,
            "images are not fetched from URLs here; send the image as base64, or start the server with --image-urls",
        )
    if not source.url.lower().startswith(("http://", "https://")):
        raise Fault(
            400, "an image's url begins with http:// or https://; send other images as base64", None, "messages"
        )
    return source.url


def _spaced(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The parts, with an end of line between two texts: blocks are apart from each other."""
    found: list[dict[str, Any]] = []
    for part in parts:
        if found and found[-1]["type"] == part["type"] == "text":
            found.append({"type": "text", "text": "\n"})
        found.append(part)
    return found
