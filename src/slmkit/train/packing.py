"""Rows to blocks of tokens: what the model reads, and on which tokens its guesses are scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from slmkit.train.data import Row


@dataclass(frozen=True)
class Document:
    """Token ids of one row, and which of them count in the loss. may_split: it can go on in the next block."""

    ids: NDArray[np.uint16]
    scored: NDArray[np.bool_]
    may_split: bool


def encode(row: Row, tokenizer: Tokenizer) -> Document:
    """A row as tokens: text as it is, a conversation as the chat template renders it; then <|endoftext|>.

    In a conversation only the assistant's words and its <|end|> are scored. The line break that the template puts
    after each special token is swallowed by the tokenizer, so it has no id here either.
    """
    end_of_text, end = tokenizer.token_to_id("<|endoftext|>"), tokenizer.token_to_id("<|end|>")
    if not row.is_conversation:
        ids = [*tokenizer.encode(row.messages[0][1]).ids, end_of_text]
        return Document(np.array(ids, np.uint16), np.ones(len(ids), np.bool_), may_split=True)
    ids, scored = [], []
    for role, text in row.messages:
        content = tokenizer.encode(text).ids
        ids += [tokenizer.token_to_id(f"<|{role}|>"), *content, end]
        scored += [False] + [role == "assistant"] * (len(content) + 1)
    return Document(np.array([*ids, end_of_text], np.uint16), np.array([*scored, False], np.bool_), may_split=False)


def interleave(sources: list[list[Document]], shares: list[float], seed: int) -> Iterator[Document]:
    """Documents without end, each source giving its share of the tokens; the same seed gives the same order."""
    streams = [_shuffled_for_ever(documents, seed + i) for i, documents in enumerate(sources)]
    given = np.zeros(len(sources))
    weights = np.array(shares) / sum(shares)
    while True:
        i = int(np.argmin(given / weights))  # the source furthest behind its share
        document = next(streams[i])
        given[i] += len(document.ids)
        yield document


def _shuffled_for_ever(documents: list[Document], seed: int) -> Iterator[Document]:
    random = np.random.default_rng(seed)
    while True:
        for index in random.permutation(len(documents)):
            yield documents[index]


def blocks(documents: Iterator[Document], length: int) -> Iterator[tuple[NDArray[np.uint16], NDArray[np.bool_]]]:
    """Blocks of exactly `length` ids, and which of them are scored.

    A text that does not fit goes on in the next block. A conversation is cut, and the next block starts with the
    whole of it again: so blocks begin where conversations do, as at inference, and no block has padding.
    """
    ids = np.empty(length, np.uint16)
    scored = np.empty(length, np.bool_)
    used = 0
    for document in documents:
        start = 0
        while start < len(document.ids):
            starts_block = used == 0
            taken = min(length - used, len(document.ids) - start)
            ids[used : used + taken] = document.ids[start : start + taken]
            scored[used : used + taken] = document.scored[start : start + taken]
            used += taken
            start += taken
            is_cut = start < len(document.ids)
            if used == length:
                yield ids.copy(), scored.copy()
                used = 0
            if is_cut and not document.may_split:
                if starts_block:
                    break  # longer than a block: its rest is left out
                start = 0
