"""Rows of text from the data folder: read, cleaned, filtered, and a part of them held out by hash.

A row is a tuple of messages (role, text); plain text is one message of the role "text".
"""

from __future__ import annotations

import hashlib
import json
import lzma
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slmkit.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from slmkit.train.recipe import Recipe, Source

MADE = "made-"  # sources with this prefix come from `seeds`, not from a file

# A small vocabulary should not be split between two spellings of one mark.
_PLAIN_MARKS = str.maketrans(
    {
        "‘": "'",
        "’": "'",
        "ʼ": "'",
        "“": '"',
        "”": '"',
        "–": "-",
        "—": "-",
        "…": "...",
        "\u00a0": " ",
        "\t": " ",
        "\r": "\n",
        "\u200b": None,
        "\ufeff": None,
        "\u00ad": None,
    }
)
_SENTENCE_END = re.compile(r"[.!?]+")
_WORD = re.compile(r"[a-z']+")


class DataError(RequestError):
    """The data folder lacks a file that the recipe names, or a file is not what it should be."""


@dataclass(frozen=True)
class Row:
    """One document or conversation: (role, text) pairs."""

    messages: tuple[tuple[str, str], ...]

    @property
    def is_conversation(self) -> bool:
        return self.messages[0][0] != "text"

    @property
    def text(self) -> str:
        return "\n".join(text for _, text in self.messages)


def clean(text: str) -> str:
    """Text with typewriter quotes and dashes, single spaces, and no blank ends."""
    text = re.sub(r" {2,}", " ", text.translate(_PLAIN_MARKS))
    return re.sub(r"\n{3,}", "\n\n", re.sub(r" *\n *", "\n", text)).strip()


def rows(folder: Path, source: Source, seed: int) -> list[Row]:
    """All rows of a source that pass its filters, in a fixed order. Raises DataError."""
    if source.name.startswith(MADE):
        from slmkit.train.seeds import made_rows

        found = [Row(messages) for messages in made_rows(source.name.removeprefix(MADE), seed)]
    else:
        found = [row for raw in _lines(folder / f"{source.name}.jsonl.xz") if (row := row_of(raw, source))]
    if not found:
        raise DataError(f"no row of {source.name} passes the filters of the recipe; loosen lang, tasks or origins")
    return simplest(found, source.simplest_bytes) if source.simplest_bytes else found


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with lzma.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; give the folder of the training data with --data") from None
    except (lzma.LZMAError, EOFError, ValueError) as error:
        raise DataError(f"{path} is not a whole xz file of JSON lines ({error}); fetch it again") from None


def row_of(raw: dict[str, Any], source: Source) -> Row | None:
    """A line of a file as a row, or None where the source's filters or a special token in its text keep it out."""
    if raw["lang"] != source.lang or (source.tasks and raw.get("task") not in source.tasks):
        return None
    if source.origins and not raw["source"].startswith(source.origins):
        return None
    if "text" in raw:
        messages: tuple[tuple[str, str], ...] = (("text", clean(raw["text"])),)
    else:
        messages = tuple((m["role"], clean(m["content"])) for m in raw["messages"])
    # Text that spells a special token would be read as one by the tokenizer: better left out than mistaken.
    usable = all(text and "<|" not in text and "</s>" not in text and "<s>" not in text for _, text in messages)
    return Row(messages) if usable else None


def simplest(found: list[Row], limit_bytes: int) -> list[Row]:
    """The rows with the commonest words and the shortest sentences, up to a size, in their old order."""
    counts: Counter[str] = Counter()
    for row in found[:: max(1, len(found) // 4000)]:
        counts.update(_WORD.findall(row.text.lower()))
    common = {word for word, _ in counts.most_common(1500)}

    def difficulty(row: Row) -> float:
        words = _WORD.findall(row.text.lower())
        rare = sum(word not in common for word in words) / max(1, len(words))
        sentence_length = len(words) / max(1, len(_SENTENCE_END.findall(row.text)))
        return rare + 0.01 * sentence_length

    kept: set[int] = set()
    total = 0
    for index in sorted(range(len(found)), key=lambda i: (difficulty(found[i]), i)):
        total += len(found[index].text.encode())
        if total > limit_bytes:
            break
        kept.add(index)
    return [row for index, row in enumerate(found) if index in kept]


def is_held_out(row: Row, fraction: float) -> bool:
    """True for about `fraction` of all rows, by a hash of how the row's longest text ends.

    The end, because a story recurs with and without a title, as text to tell and as text to find a title for:
    all those rows end alike, and must fall on the same side.
    """
    longest = max((text for _, text in row.messages), key=len)
    key = "".join(c for c in longest.lower() if c.isalnum())[-64:]
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") < fraction * 2**64


def parts(folder: Path, source: Source, recipe: Recipe) -> tuple[list[Row], list[Row]]:
    """(rows to train on, rows held out) of a source.

    Made rows repeat a few answers very often, and a hash would keep some answers from ever being learned; what is
    held out of them are rows made with another seed, less those that came out the same.
    """
    found = rows(folder, source, recipe.seed)
    if source.name.startswith(MADE):
        known = set(found)
        return found, [row for row in rows(folder, source, recipe.seed + 1)[:1000] if row not in known]
    held = [is_held_out(row, recipe.hold_out) for row in found]
    return [r for r, h in zip(found, held, strict=False) if not h], [r for r, h in zip(found, held, strict=False) if h]


def made_version(source: Source) -> str:
    """What distinguishes the made rows of this version of the code from an earlier one's; "" for files."""
    if not source.name.startswith(MADE):
        return ""
    from slmkit.train.seeds import VERSION

    return VERSION
