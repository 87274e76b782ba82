"""What a backend is asked: messages or plain text, options, and functions that take part in the sampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

from slmkit.errors import RequestError
from slmkit.options import MOST_LOGPROBS, Options
from slmkit.untrusted import shown

ROLES = ("system", "user", "assistant", "tool")

CONSTRAINTS: dict[str, Any] = {"json": type(None), "schema": Mapping, "regex": str, "lark": str}
WANTED = {"json": "nothing", "schema": "a JSON schema", "regex": "a pattern as text", "lark": "a grammar as text"}

# (ids so far, prompt included, below 0 where an image stands; logits (vocab,) float32) -> logits of the same shape
LogitsProcessor = Callable[[Sequence[int], Any], Any]
# (text, ids of the answer, sum of their log probabilities) -> score; choices are returned best first
Scorer = Callable[[str, Sequence[int], float], float]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    images: each a path, an http(s) or data URL, bytes, or an image of Pillow. Where they stand, tags in the content
    say: `<|image_1|>` is the first one of the conversation. Without tags they come before the text.
    """

    role: str
    content: str
    images: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise RequestError(f"message role {self.role!r} is not known; use one of {', '.join(ROLES)}")
        if not isinstance(self.content, str):
            raise RequestError(f"message content must be text, not {type(self.content).__name__}")
        if isinstance(self.images, (str, bytes)) or not isinstance(self.images, Iterable):
            raise RequestError(f"the images of a message are a list, not {type(self.images).__name__}")
        object.__setattr__(self, "images", tuple(self.images))


@dataclass(frozen=True)
class Constraint:
    """What an answer must match, from its first token to its last.

    kind: "json", any JSON object; "schema", a JSON schema; "regex"; "lark", a grammar in llguidance's dialect of Lark.
    value: the schema (a mapping), pattern or grammar; None for "json".
    """

    kind: str
    value: Any = None

    def __post_init__(self) -> None:
        if self.kind not in CONSTRAINTS:
            raise RequestError(f"constraint {shown(self.kind)} is not known; use one of {', '.join(CONSTRAINTS)}")
        wanted = CONSTRAINTS[self.kind]
        if not isinstance(self.value, wanted):
            raise RequestError(f"a constraint of kind {self.kind} takes {WANTED[self.kind]}, not {shown(self.value)}")


@dataclass(frozen=True)
class Request:
    """One question to a backend. Exactly one of messages, prompt and ids is set.

    messages: a conversation, rendered by the model's chat template.
    prompt: plain text to continue, no template.
    ids: token ids to continue, as they are.
    parse_special: let text such as `<|end|>` inside messages or prompt become control tokens.
    constraint: what the answer must match.
    deadline_s: seconds from now after which the request ends unfinished.
    prompt_logprobs: report each prompt token's log probability and so many alternatives.
    """

    messages: tuple[Message, ...] | None = None
    prompt: str | None = None
    ids: tuple[int, ...] | None = None
    options: Options = field(default_factory=Options)
    parse_special: bool = False
    processors: tuple[LogitsProcessor, ...] = ()
    scorer: Scorer | None = None
    constraint: Constraint | None = None
    deadline_s: float | None = None
    prompt_logprobs: int | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("messages", "prompt", "ids") if getattr(self, name) is not None]
        if len(given) != 1:
            raise RequestError(f"a request has exactly one of messages, prompt and ids; this one has {given or 'none'}")
        if self.messages is not None and not self.messages:
            raise RequestError("a conversation needs at least one message; this one is empty")
        if self.prompt is not None and not isinstance(self.prompt, str):
            raise RequestError(f"a prompt to continue is text, not {type(self.prompt).__name__}")
        if not all(isinstance(i, Integral) and not isinstance(i, bool) for i in self.ids or ()):
            raise RequestError("ids are whole numbers, the model's token ids; encode text with its tokenizer")
        if self.constraint is not None and not isinstance(self.constraint, Constraint):
            raise RequestError(f"constraint is {shown(self.constraint)}; it takes a Constraint of kind and value")
        if self.deadline_s is not None and not (_is_number(self.deadline_s, Real) and 0 < self.deadline_s < math.inf):
            raise RequestError(f"deadline_s is {shown(self.deadline_s)}; it takes a number of seconds above 0")
        n = self.prompt_logprobs
        if n is not None and not (_is_number(n, Integral) and 0 <= n <= MOST_LOGPROBS):
            raise RequestError(f"prompt_logprobs is {shown(n)}; it takes a whole number from 0 to {MOST_LOGPROBS}")


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def as_messages(messages: str | Sequence[Message | Mapping[str, Any]]) -> tuple[Message, ...]:
    """Message tuples from what people write: one string (a user turn), Messages or {"role", "content"} mappings.

    A mapping's content is a text, or a list of parts: {"type": "text", "text": ...}, {"type": "image", "image": ...}
    and {"type": "image_url", "image_url": {"url": ...}}; the last takes http(s) and data URLs alone, no paths.
    """
    if isinstance(messages, str):
        return (Message("user", messages),)
    if isinstance(messages, (Mapping, Message)) or not isinstance(messages, Iterable):
        raise RequestError(f"a conversation is a text or a list of messages, not {type(messages).__name__}")
    found: list[Message] = []
    n_images = 0
    for message in messages:
        found.append(message if isinstance(message, Message) else _message(message, n_images))
        n_images += len(found[-1].images)
    return tuple(found)


def _message(mapping: Mapping[str, Any], n_images: int) -> Message:
    if not isinstance(mapping, Mapping) or not {"role", "content"} <= set(mapping) <= {"role", "content", "images"}:
        raise RequestError(f"a message is {{'role': ..., 'content': ...}}; this one is {shown(mapping)}")
    content, images = mapping["content"], mapping.get("images", ())
    if isinstance(content, (list, tuple)) and not images:
        return _joined(mapping["role"], content, n_images)
    return Message(mapping["role"], content, images)


def _joined(role: str, parts: Sequence[Any], n_images: int) -> Message:
    """Parts in their order, with a tag where an image stands.   n_images: of the messages before."""
    text, images = "", []
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part.get("text"), str):
            text += part["text"]
        elif kind == "image" and part.get("image") is not None:
            images.append(part["image"])
            text += f"<|image_{n_images + len(images)}|>\n"
        elif kind == "image_url" and isinstance(part.get("image_url"), Mapping):
            images.append(_url(part["image_url"].get("url")))
            text += f"<|image_{n_images + len(images)}|>\n"
        else:
            raise RequestError(
                f"a part of a message is of type text, image or image_url, with that under its name, not {shown(part)}"
            )
    return Message(role, text, tuple(images))


def _url(url: Any) -> str:
    if not isinstance(url, str) or not url.lower().startswith(("http://", "https://", "data:")):
        raise RequestError(f"an image_url is an http, https or data URL, not {shown(url)}; a file is of type image")
    return url
