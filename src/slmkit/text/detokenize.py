"""Text from ids as they come, never half a character."""

from __future__ import annotations

import codecs
import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slmkit.text.tokenizer import Tokenizer


class Detokenizer:
    """Turns ids into text one at a time.

    The pushes and the flush together are `tokenizer.decode` of all ids, whatever the ids. A push costs the same
    however long the text is: at most three bytes wait for the rest of their character.

    show_special: also write `<|end|>` and the like.
    continues: the ids continue a text, so a first space is text (`decode`'s keep_first_space).
    """

    def __init__(self, tokenizer: Tokenizer, *, show_special: bool = False, continues: bool = False) -> None:
        self._tokenizer = tokenizer
        self._show_special = show_special
        self._bytes_to_text = codecs.getincrementaldecoder("utf-8")(tokenizer.decode_errors)
        self._first_space_goes = tokenizer.strips_first_space and not continues

    def push(self, token_id: int) -> str:
        """The complete characters that this token adds; "" while one is unfinished."""
        return self._emit(self._tokenizer.bytes_of(token_id, show_special=self._show_special), final=False)

    def flush(self) -> str:
        """What still waits, unfinished characters as U+FFFD."""
        return self._emit(b"", final=True)

    def fork(self) -> Detokenizer:
        """A second one with the same past."""
        twin = copy.copy(self)
        twin._bytes_to_text = copy.copy(self._bytes_to_text)
        return twin

    def _emit(self, data: bytes, *, final: bool) -> str:
        text = self._bytes_to_text.decode(data, final)
        if text and self._first_space_goes:
            self._first_space_goes = False
            return text.removeprefix(" ")
        return text
