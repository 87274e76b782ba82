"""Whether two backends read the same text as the same tokens: their templates, tokenizers and vocabularies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slmkit.errors import SlmError

if TYPE_CHECKING:
    from slmkit.compare.questions import Seen
    from slmkit.model import Model

# Where tokenizers go apart: spaces, lines, digits, accents written in two ways, scripts, joined emoji.
PROBES = (
    "Hello world", " leading space", "trailing space ", "two  spaces   three", "a\nb\n\nc\r\nd", "\ttab\t\ttabs",
    "1234567890 3.14159 1,000,000", "don't can't I'll", "naïve café ﬁne", "nai\u0308ve cafe\u0301", "Привет, мир!",
    "你好，世界。", "こんにちは世界", "مرحبا بالعالم", "नमस्ते दुनिया",
    "🙂 👩\u200d👩\u200d👧\u200d👦 🇩🇪", "zero\u200bwidth\ufeffmark\u00a0space",
    "def f(x):\n    return x**2  # ok", "<html><body class=\"a\"></body></html>", "▁ ▁▁word",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "ﷺ \u0000 \x1b[0m",
)  # fmt: skip
BATCH = 8  # entries of the vocabulary in one text
MOST_VOCABULARY = 500_000
_AROUND = 24  # characters of context in a report


@dataclass(frozen=True)
class Difference:
    """The first place where two backends read otherwise.

    what: "template", "tokenizer" or "vocabulary".   where: the prompt or text.   position: of a character of a
    template's text, of a token, or the id.   a_id, b_id: None where one ends earlier.   a_text, b_text: theirs there.
    """

    what: str
    where: str
    position: int
    a_id: int | None = None
    b_id: int | None = None
    a_text: str = ""
    b_text: str = ""


@dataclass
class Reading:
    """How one backend reads.   vocabulary: the text of each id.   ids: of each probe; None where it was refused."""

    vocabulary: list[str | None] | None = None
    probes: list[str] | None = None
    ids: list[tuple[int, ...] | None] | None = None


def read(model: Model, probes: Sequence[str] | None = None) -> Reading:
    """What the backend shows of its tokenizer.

    probes: the other backend's, of which this one's ids are wanted; made here if there are none, of PROBES and the
    whole vocabulary.
    """
    reading = Reading(vocabulary=_vocabulary(model))
    made = [*PROBES, *_batches(reading.vocabulary or [])] if probes is None else [*probes]
    try:
        model.tokenize(PROBES[0])
    except SlmError:
        return reading
    reading.probes, reading.ids = made, [_ids(model, text) for text in made]
    return reading


def reading_differences(a: Reading, b: Reading) -> list[Difference]:
    """The first entry of the vocabulary that differs, and the first text that is read as other tokens."""
    found = []
    if (entry := _entry(a.vocabulary or (), b.vocabulary or ())) is not None:
        found.append(entry)
    if a.ids is not None and b.ids is not None and a.ids != b.ids:
        place = next(i for i, (one, other) in enumerate(zip(a.ids, b.ids, strict=True)) if one != other)
        assert a.probes is not None
        found.append(_token("tokenizer", a.probes[place], a.ids[place] or (), b.ids[place] or (), a, b))
    return found


def prompt_difference(where: str, a: Seen, b: Seen, readings: tuple[Reading, Reading]) -> Difference | None:
    """Where the prompt of a conversation differs; of the template if its text does, else of the tokenizer."""
    if a.ids is None or b.ids is None or a.ids == b.ids:
        return None
    if a.text != b.text and a.text is not None and b.text is not None:
        token = _token("template", where, a.ids, b.ids, *readings)
        place = _first(a.text, b.text)
        begin = max(0, place - _AROUND)
        around = a.text[begin : place + _AROUND], b.text[begin : place + _AROUND]
        return Difference("template", where, place, token.a_id, token.b_id, *around)
    return _token("tokenizer", where, a.ids, b.ids, *readings)


def _token(what: str, where: str, a: Sequence[int], b: Sequence[int], own: Reading, other: Reading) -> Difference:
    place = _first(a, b)
    a_id, b_id = (ids[place] if place < len(ids) else None for ids in (a, b))
    return Difference(what, where, place, a_id, b_id, _spelled(own, a_id), _spelled(other, b_id))


def _entry(a: Sequence[str | None], b: Sequence[str | None]) -> Difference | None:
    """The first id that both spell, and otherwise.

    Control tokens have no text, parts of characters none of their own, and sizes are padded as each backend likes.
    """
    for id, (one, other) in enumerate(zip(a, b, strict=False)):
        if one and other and one != other and "\ufffd" not in one + other:
            return Difference("vocabulary", f"{len(a):,} and {len(b):,} entries", id, id, id, one, other)
    return None


def _spelled(reading: Reading, id: int | None) -> str:
    if id is None:
        return ""
    words = reading.vocabulary
    text = words[id] if words is not None and 0 <= id < len(words) else None
    return "" if text is None else text


def _first(a: Sequence[object], b: Sequence[object]) -> int:
    """The first place that differs; the end of the shorter if there is none."""
    places = (i for i, (one, other) in enumerate(zip(a, b, strict=False)) if one != other)
    return next(places, min(len(a), len(b)))


def _vocabulary(model: Model) -> list[str | None] | None:
    """The text of each id, behind another token, where a first space shows; None where the backend does not tell."""
    size = model.describe().get("vocabulary")
    if not isinstance(size, int) or not 0 < size <= MOST_VOCABULARY or not hasattr(model.backend, "detokenize"):
        return None
    before = _letter(model)
    return [_text(model, before, id) for id in range(size)]


def _letter(model: Model) -> tuple[int, ...]:
    """A token that ids can stand behind."""
    try:
        return tuple(model.tokenize("a"))[-1:]
    except SlmError:
        return ()


def _text(model: Model, before: tuple[int, ...], id: int) -> str | None:
    try:
        return model.detokenize((*before, id)).removeprefix("a")
    except SlmError:
        return None


def _batches(vocabulary: Sequence[str | None]) -> list[str]:
    """Texts that have every entry of the vocabulary, a line each, so that each merge is gone through."""
    words = [word for word in vocabulary if word and "\ufffd" not in word]
    return ["\n".join(words[i : i + BATCH]) for i in range(0, len(words), BATCH)]


def _ids(model: Model, text: str) -> tuple[int, ...] | None:
    try:
        return tuple(model.tokenize(text))
    except SlmError:
        return None
