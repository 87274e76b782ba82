"""A checkpoint's chat template: conversation in, prompt out, with typed text told apart from markup."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmkit.errors import RequestError, TemplateError
from slmkit.text import sandbox
from slmkit.text.added import Piece
from slmkit.text.known import KnownTemplate, fallback_template, recognise
from slmkit.text.tokenizer_files import optional_json, token_text
from slmkit.untrusted import is_there, read_text, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from slmkit.request import Message


@dataclass(frozen=True)
class ChatTemplate:
    """Renders conversations for one model.

    source: Jinja text, or a KnownTemplate.   tokens: bos_token, eos_token and the like, by name.
    A published template is rendered by known.py; any other by sandbox.py, in a process of its own.
    """

    source: str | KnownTemplate
    tokens: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_folder(cls, path: str | Path, model_type: str = "") -> ChatTemplate:
        """The template of a checkpoint: chat_template.jinja, or tokenizer_config.json, or the family's own.

        Raises TemplateError if there is none and the family (config.json's model_type) has none either.
        """
        folder = Path(path)
        config = optional_json(folder / "tokenizer_config.json", TemplateError)
        names = ("bos_token", "eos_token", "unk_token", "pad_token")
        tokens = {name: token_text(config[name]) for name in names if token_text(config.get(name))}
        file = folder / "chat_template.jinja"
        found = read_text(file, 4 * sandbox.LARGEST_SOURCE, TemplateError) if is_there(file, TemplateError) else None
        source = _from_config(config.get("chat_template")) if found is None else found
        return cls(source if source is not None else fallback_template(model_type), tokens)

    @property
    def text(self) -> str:
        """The Jinja text, whoever renders it."""
        return self.source if isinstance(self.source, str) else self.source.source

    def render(
        self,
        messages: Sequence[Message],
        controls_in: Callable[[str], list[str]],
        *,
        add_generation_prompt: bool = True,
    ) -> list[Piece]:
        """The prompt, as trusted markup and untrusted content.

        controls_in: Tokenizer.controls_in, asked where a template changes content before it writes it.
        Raises RequestError when the template leaves a message out or refuses the conversation, TemplateError when
        the template itself is at fault.
        """
        if not messages:
            raise RequestError("a conversation needs at least one message; this one is empty")
        known = recognise(self.source) if isinstance(self.source, str) else self.source
        if known is None:
            return self._render_unknown(messages, controls_in, add_generation_prompt)
        require_all(messages, [known.turn(message.role, message.content) is not None for message in messages])
        return _joined(
            known.pieces(
                messages,
                bos_token=self.tokens.get("bos_token", ""),
                eos_token=self.tokens.get("eos_token", ""),
                add_generation_prompt=add_generation_prompt,
            )
        )

    def _render_unknown(
        self, messages: Sequence[Message], controls_in: Callable[[str], list[str]], add_generation_prompt: bool
    ) -> list[Piece]:
        """Render twice: with the real contents, and with a marker in place of each.

        Putting the contents back at the markers must give the real text again; then every other character is the
        template's own. Templates that trim contents are met by trying trimmed ones. Where neither fits, the template
        does something else to contents, and it is unknown who wrote what: if the real text holds the same control
        tokens as the marked one, contents brought none in, and the whole can be trusted; if not, it is refused.
        """
        markers = markers_for(messages)
        source = self.source
        assert isinstance(source, str)
        contents = [message.content for message in messages]
        marked_contents = [marker if content else "" for content, marker in zip(contents, markers, strict=True)]
        real, marked = sandbox.render(
            source, [self._variables(messages, texts, add_generation_prompt) for texts in (contents, marked_contents)]
        )
        require_all(messages, [marker in marked for marker in markers])
        for candidate in (contents, [content.strip() for content in contents]):
            pieces = _put_back(marked, dict(zip(markers, candidate, strict=True)))
            if "".join(piece.text for piece in pieces) == real:
                return pieces
        if controls_in(real) != controls_in(marked):
            raise RequestError(
                "a message contains a control token such as `<|end|>` as text, and this model's chat template rewrites "
                "messages, so it cannot be kept as text; remove it, or ask for parse_special to let it act as a token"
            )
        return [Piece(real, True)]

    def _variables(
        self, messages: Sequence[Message], contents: Sequence[str], add_generation_prompt: bool
    ) -> dict[str, Any]:
        turns = [
            {"role": message.role, "content": content} for message, content in zip(messages, contents, strict=True)
        ]
        return {
            "messages": turns,
            "tools": None,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            **self.tokens,
        }


def _from_config(value: Any) -> str | None:
    """tokenizer_config.json's chat_template: a text, or a list of named ones of which "default" is for plain chats."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
        named = {str(entry.get("name")): entry.get("template") for entry in value}
        if isinstance(named.get("default"), str):
            return str(named["default"])
        raise TemplateError(
            f"tokenizer_config.json has chat templates named {shown(sorted(named))} and none named "
            f"'default'; put the one to use beside it as chat_template.jinja"
        )
    raise TemplateError(
        f"tokenizer_config.json has a chat_template of type {type(value).__name__}; a text or a list "
        f"of {{name, template}} is accepted; put the right one beside it as chat_template.jinja"
    )


def require_all(messages: Sequence[Message], are_shown: Sequence[bool]) -> None:
    """Raise RequestError for the first message with a text that the template leaves out."""
    for message, is_shown in zip(messages, are_shown, strict=True):
        if message.content and not is_shown:
            way_out = (
                "put its text at the beginning of the first user message"
                if message.role == "system"
                else "leave it out, or send its text as a user message"
            )
            raise RequestError(
                f"this model's chat template has no place for a {message.role} message and would drop "
                f"it silently; {way_out}"
            )


def markers_for(messages: Sequence[Message]) -> list[str]:
    """One text per message that nobody typed, that `trim`, `upper` and `lower` leave alone."""
    typed = "".join(message.content for message in messages)
    while True:
        # Private-use characters around digits: no letter to change case, no space to trim.
        run = f"{secrets.randbelow(10**16):016d}"
        if run not in typed:
            return [f"\ue000{run}{n:06d}\ue001" for n in range(len(messages))]


def _put_back(marked: str, contents: Mapping[str, str]) -> list[Piece]:
    between = re.split("(" + "|".join(map(re.escape, contents)) + ")", marked)
    return _joined(Piece(contents[text], False) if text in contents else Piece(text, True) for text in between)


def _joined(pieces: Iterable[Piece]) -> list[Piece]:
    """Neighbouring pieces of the same trust as one, empty ones gone."""
    joined: list[Piece] = []
    for piece in pieces:
        if joined and joined[-1].trusted == piece.trusted:
            joined[-1] = Piece(joined[-1].text + piece.text, piece.trusted)
        elif piece.text:
            joined.append(piece)
    return joined
