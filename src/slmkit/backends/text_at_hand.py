"""What backends of folders tell of a model in the same words; quick to import, unlike the text itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slmkit.backends.folder_text import FolderText
    from slmkit.request import Message
    from slmkit.text.prompt import Prompt


class TextAtHand:
    """What a backend tells of a model whose text is here.   _facts: of it.   _text: its tokenizer and template."""

    _facts: dict[str, Any]
    _text: FolderText

    def describe(self) -> dict[str, Any]:
        """What the folder and the runtime say of it."""
        return dict(self._facts)

    def render(self, messages: Sequence[Message], parse_special: bool = False) -> Prompt:
        """The exact prompt of a conversation without images: text and ids."""
        return self._text.render(messages, parse_special)

    def tokenize(self, text: str) -> tuple[int, ...]:
        """The ids of a text to continue, with what the model's files put before one."""
        from slmkit.text.prompt import text_prompt

        return text_prompt(text, self._text.tokenizer).ids

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of ids; control tokens have none.   Raises OptionError for ids that are none of the model's."""
        self._text.require_ids("ids", ids)
        return self._text.tokenizer.decode(ids)
