"""What a backend is asked: messages or plain text, options, and functions that take part in the sampling."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

from slmkit.errors import RequestError
from slmkit.options import Options

ROLES = ("system", "user", "assistant", "tool")

# (ids so far, prompt included; logits (vocab,) float32) -> logits of the same shape
LogitsProcessor = Callable[[Sequence[int], Any], Any]
# (text, ids of the answer, sum of their log probabilities) -> score; choices are returned best first
Scorer = Callable[[str, Sequence[int], float], float]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise RequestError(f"message role {self.role!r} is not known; use one of {', '.join(ROLES)}")
        if not isinstance(self.content, str):
            raise RequestError(f"message content must be text, not {type(self.content).__name__}")


@dataclass(frozen=True)
class Request:
    """One question to a backend. Exactly one of messages, prompt and ids is set.

    messages: a conversation, rendered by the model's chat template.
    prompt: plain text to continue, no template.
    ids: token ids to continue, as they are.
    parse_special: let text such as `<|end|>` inside messages or prompt become control tokens.
    """

    messages: tuple[Message, ...] | None = None
    prompt: str | None = None
    ids: tuple[int, ...] | None = None
    options: Options = field(default_factory=Options)
    parse_special: bool = False
    processors: tuple[LogitsProcessor, ...] = ()
    scorer: Scorer | None = None

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


def as_messages(messages: str | Sequence[Message | Mapping[str, str]]) -> tuple[Message, ...]:
    """Message tuples from what people write: one string (a user turn), Messages or {"role", "content"} mappings."""
    if isinstance(messages, str):
        return (Message("user", messages),)
    if isinstance(messages, (Mapping, Message)) or not isinstance(messages, Iterable):
        raise RequestError(f"a conversation is a text or a list of messages, not {type(messages).__name__}")
    return tuple(m if isinstance(m, Message) else _message(m) for m in messages)


def _message(mapping: Mapping[str, str]) -> Message:
    if not isinstance(mapping, Mapping) or set(mapping) != {"role", "content"}:
        raise RequestError(f"a message is {{'role': ..., 'content': ...}}; this one is {mapping!r}")
    return Message(mapping["role"], mapping["content"])
