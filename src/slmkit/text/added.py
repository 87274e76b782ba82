"""Added tokens (control tokens and the like): where they stand in a text, and who may write them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from slmkit.errors import TokenizerError
from slmkit.untrusted import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

# Unicode White_Space, as the reference's \s; Python's own \s also takes U+001C to U+001F.
WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_SPACES_AFTER = re.compile(f"[{WHITE_SPACE}]*")


class Piece(NamedTuple):
    """Part of a prompt. Trusted text (template markup) may hold control tokens; untrusted text (what people
    typed) stays text whatever it says."""

    text: str
    trusted: bool


class Span(NamedTuple):
    """Characters start to end of a text, to be encoded by the model's own vocabulary."""

    start: int
    end: int


@dataclass(frozen=True)
class AddedToken:
    """A token that is matched as a whole before anything else.

    special: hidden when decoding.   lstrip, rstrip: swallows white space before or after itself.
    normalized: matched after the normalizer has run rather than before.
    """

    id: int
    content: str
    special: bool = True
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False

    @classmethod
    def from_json(cls, entry: Mapping[str, Any], token_id: Any) -> AddedToken:
        content = entry.get("content")
        if type(token_id) is not int or not 0 <= token_id < 2**31 or not isinstance(content, str) or not content:
            raise TokenizerError(
                f"added token {shown(token_id)}: {shown(content)} needs an id from 0 up and a text; "
                "download the checkpoint again"
            )
        if entry.get("single_word"):
            raise TokenizerError(
                f"added token {shown(content)} has single_word, which is not supported; set it to false"
            )
        flags = {name: bool(entry.get(name, False)) for name in ("special", "lstrip", "rstrip", "normalized")}
        return cls(token_id, content, **flags)


class AddedTokens:
    """Finds added tokens in a text the way the `tokenizers` package does: leftmost, then longest."""

    def __init__(self, tokens: Iterable[AddedToken]) -> None:
        self.by_id = {token.id: token for token in tokens}
        self._by_content = {token.content: token for token in self.by_id.values()}
        if len(self._by_content) != len(self.by_id):
            raise TokenizerError("two added tokens have the same text; download the checkpoint again")
        # Raw text is searched first, what is left of it afterwards. With no normalizer both see the same text
        # (the Tokenizer refuses `normalized` tokens beside a normalizer).
        stages = ([t.content for t in self.by_id.values() if t.normalized is late] for late in (False, True))
        self._patterns = [_longest_first(contents) for contents in stages if contents]

    def split(self, pieces: Sequence[Piece]) -> tuple[str, list[int | Span]]:
        """The whole text, and its parts in order: ids of added tokens, and spans of text between them.

        A token counts only where all its characters are trusted. The white space that it swallows may be anyone's:
        the reference does not know whose it is, and ids of harmless content must equal the reference's.
        """
        text = "".join(piece.text for piece in pieces)
        trusted = _trusted_runs(pieces)
        parts: list[int | Span] = [Span(0, len(text))] if text else []
        for pattern in self._patterns:
            parts = [
                found
                for part in parts
                for found in ([part] if isinstance(part, int) else self._split(pattern, text, part, trusted))
            ]
        return text, parts

    def written_in(self, text: str) -> list[str]:
        """The added tokens that `text` would hold if it were trusted, in order."""
        _, parts = self.split([Piece(text, True)])
        return [self.by_id[part].content for part in parts if isinstance(part, int)]

    def _split(self, pattern: re.Pattern[str], text: str, span: Span, trusted: list[Span]) -> Iterator[int | Span]:
        done = span.start
        for run in trusted:
            for match in pattern.finditer(text, max(run.start, span.start), min(run.end, span.end)):
                token = self._by_content[match.group()]
                start, end = match.span()
                if token.lstrip:
                    start = _first_space_before(text, done, start)
                if token.rstrip:
                    end = _end(_SPACES_AFTER.match(text, end, span.end))
                if done < start:
                    yield Span(done, start)
                yield token.id
                done = end
        if done < span.end:
            yield Span(done, span.end)


def _longest_first(contents: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(content) for content in sorted(contents, key=len, reverse=True)))


def _trusted_runs(pieces: Sequence[Piece]) -> list[Span]:
    """Neighbouring trusted pieces as one span each, so that a token may be written by two of them together."""
    runs: list[Span] = []
    at = 0
    for piece in pieces:
        if piece.trusted and piece.text:
            if runs and runs[-1].end == at:
                runs[-1] = Span(runs[-1].start, at + len(piece.text))
            else:
                runs.append(Span(at, at + len(piece.text)))
        at += len(piece.text)
    return runs


def _first_space_before(text: str, lowest: int, at: int) -> int:
    while at > lowest and _SPACES_AFTER.fullmatch(text[at - 1]):
        at -= 1
    return at


def _end(match: re.Match[str] | None) -> int:
    assert match is not None  # the pattern matches the empty string
    return match.end()
