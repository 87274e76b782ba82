"""The published chat templates of the Phi-3 family, written out.

Each is kept twice: `source`, the Jinja text as checkpoints carry it, by which it is recognised; and `pieces`, the same
thing in Python. So the templates nearly everyone uses need no Jinja (50 to 80 ms to import), cannot run anyone's code,
and say for each character whether it is markup or what somebody typed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slmkit.errors import TemplateError
from slmkit.text.added import Piece
from slmkit.untrusted import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from slmkit.request import Message


@dataclass(frozen=True)
class KnownTemplate:
    """One published template.

    turn: (role, content) -> (markup before, markup after), or None where the template leaves such a message out.
    end: (messages, eos_token, add_generation_prompt) -> markup at the end.
    """

    name: str
    source: str
    turn: Callable[[str, str], tuple[str, str] | None]
    end: Callable[[Sequence[Message], str, bool], str]
    begins_with_bos: bool = False

    def pieces(
        self, messages: Sequence[Message], *, bos_token: str, eos_token: str, add_generation_prompt: bool
    ) -> Iterator[Piece]:
        """The prompt as markup and content by turns; `turn` must have a place for every message."""
        if self.begins_with_bos:
            yield Piece(bos_token, True)
        for message in messages:
            around = self.turn(message.role, message.content)
            if around is None:
                continue
            yield Piece(around[0], True)
            yield Piece(message.content, False)
            yield Piece(around[1], True)
        yield Piece(self.end(messages, eos_token, add_generation_prompt), True)


def _every_role(role: str, content: str) -> tuple[str, str] | None:
    return f"<|{role}|>\n", "<|end|>\n"


def _three_roles(role: str, content: str) -> tuple[str, str] | None:
    return _every_role(role, content) if role in ("system", "user", "assistant") else None


def _no_empty_system(role: str, content: str) -> tuple[str, str] | None:
    return _three_roles(role, content) if content or role != "system" else None


def _header_after_user(role: str, content: str) -> tuple[str, str] | None:
    return {"user": ("<|user|>\n", "<|end|>\n<|assistant|>\n"), "assistant": ("", "<|end|>\n")}.get(role)


def _nothing(messages: Sequence[Message], eos_token: str, add_generation_prompt: bool) -> str:
    return ""


def _header_or_eos(messages: Sequence[Message], eos_token: str, add_generation_prompt: bool) -> str:
    return "<|assistant|>\n" if add_generation_prompt else eos_token


def _header_unless_answered(messages: Sequence[Message], eos_token: str, add_generation_prompt: bool) -> str:
    return "<|assistant|>\n" if add_generation_prompt and messages[-1].role != "assistant" else ""


_MEDIUM = (
    r"{% for message in messages %}{% if (message['role'] == 'user') %}{{'<|user|>' + '\n' + message['content']"
    r" + '<|end|>' + '\n' + '<|assistant|>' + '\n'}}{% elif (message['role'] == 'assistant') %}"
    r"{{message['content'] + '<|end|>' + '\n'}}{% endif %}{% endfor %}"
)
_USER_AND_ASSISTANT = (
    r"{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}"
    r"{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + "
    r"'<|end|>\n'}}{% endif %}{% endfor %}"
)
_SYSTEM = r"{{'<|system|>\n' + message['content'] + '<|end|>\n'}}"
_EVERY_ROLE = (
    r"{% for message in messages %}{{'<|' + message['role'] + '|>' + '\n' + message['content'] + '<|end|>\n'"
    r" }}{% endfor %}"
)
_HEADER_OR_EOS = r"{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"

MINI_APRIL = KnownTemplate(
    "Phi-3-mini, April 2024", "{{ bos_token }}" + _MEDIUM, _header_after_user, _nothing, begins_with_bos=True
)
SMALL = KnownTemplate(
    "Phi-3-small", "{{ bos_token }}" + _EVERY_ROLE + _HEADER_OR_EOS, _every_role, _header_or_eos, begins_with_bos=True
)
MINI = KnownTemplate(
    "Phi-3-mini, July 2024",
    r"{% for message in messages %}{% if message['role'] == 'system' %}"
    + _SYSTEM
    + _USER_AND_ASSISTANT
    + _HEADER_OR_EOS,
    _three_roles,
    _header_or_eos,
)
MINI_35 = KnownTemplate(
    "Phi-3.5-mini",
    r"{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}"
    + _SYSTEM
    + _USER_AND_ASSISTANT
    + _HEADER_OR_EOS,
    _no_empty_system,
    _header_or_eos,
)
MEDIUM = KnownTemplate("Phi-3-medium", _MEDIUM, _header_after_user, _nothing)
VISION = KnownTemplate(
    "Phi-3-vision",
    _EVERY_ROLE + r"{% if add_generation_prompt and messages[-1]['role'] != 'assistant' %}"
    r"{{- '<|assistant|>\n' -}}{% endif %}",
    _every_role,
    _header_unless_answered,
)

ALL = (MINI_APRIL, SMALL, MINI, MINI_35, MEDIUM, VISION)

# For checkpoints that carry no template. The text of Phi-3.5-MoE's was not to be had; its model card shows this form.
_BY_MODEL_TYPE = {"phi3": MINI_35, "phi3small": SMALL, "phi3_v": VISION, "phimoe": MINI_35}


def recognise(source: str) -> KnownTemplate | None:
    """The published template that this Jinja text is, written with `\\n` or with real line breaks in its strings."""
    return _BY_SOURCE.get(_normal(source))


def fallback_template(model_type: str) -> KnownTemplate:
    """The template of a model family, for a checkpoint that has none of its own.

    Raises TemplateError for a family without one.
    """
    found = _BY_MODEL_TYPE.get(model_type)
    if found is None:
        raise TemplateError(
            f"this checkpoint has no chat template, and none is known for model type {shown(model_type)} "
            f"(known: {', '.join(_BY_MODEL_TYPE)}); use `slm complete`, which needs none, or put a "
            f"chat_template.jinja beside the weights"
        )
    return found


def _normal(source: str) -> str:
    # Jinja drops one line break at the very end. One inside a string literal is the same as \n there; one anywhere
    # else becomes a stray \n, which equals no published template.
    return source.removesuffix("\n").replace("\n", "\\n")


_BY_SOURCE = {_normal(template.source): template for template in ALL}
