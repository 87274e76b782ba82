"""Speculation by looking back: when the end of a text occurred before, what followed it then is checked as a draft.

A decode step reads all weights for one token; checking a few more in the same step costs less than a step each. The
draft changes no token of an answer: each of its positions gets the logits it would have had alone (the kernels give
the same bits in any chunk), is shaped, and drawn from with the next random number, as ever. The draft is followed as
far as the choices agree with it, and what else was computed is dropped.

Here is where a draft comes from and how likely it is to come true; drafts.py decides how much of it pays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

I32 = NDArray[np.int32]

LONGEST_DRAFT = 16
LONGEST_MATCH = 16  # longer ones are not told apart


def look_back(ids: I32) -> tuple[int, int]:
    """How many of the last ids, at most LONGEST_MATCH, occurred before in a row, and where what followed begins.

    Of several equally long matches it is the latest.   Returns (0, 0) if even the last id is new.
    """
    last = len(ids) - 1
    ends = np.flatnonzero(ids[:last] == ids[last])
    if not len(ends):
        return 0, 0
    length = 1
    while length < LONGEST_MATCH:
        longer = ends[ends >= length]
        longer = longer[ids[longer - length] == ids[last - length]]
        if not len(longer):
            break
        ends = longer
        length += 1
    return length, int(ends[-1]) + 1


class Trust:
    """How likely the token that followed a match follows again, by the length of the match.

    Starts from what texts in general do, and follows the sequence's own. Every token is evidence, also those before
    which nothing was drafted, so a sequence that begins to repeat itself is noticed without a try.
    """

    # Copied text has long matches, and there 0.9 and more is usual; benchmarks/speculation.py prints the table.
    FIRST = np.interp(np.arange(LONGEST_MATCH + 1), [0, 1, 2, 3, 5, 8, 16], [0, 0.15, 0.4, 0.5, 0.65, 0.8, 0.93])
    WEIGHT = 4.0  # as if so many tokens had been seen
    MEMORY = 0.97  # what is left of the evidence after each token of the same length

    def __init__(self) -> None:
        self._seen = np.full(LONGEST_MATCH + 1, self.WEIGHT)
        self._right = self.FIRST * self.WEIGHT

    def of(self, match: int) -> float:
        """Probability of the next token after a match of this length."""
        n = min(match, LONGEST_MATCH)
        return float(self._right[n] / self._seen[n])

    def note(self, match: int, is_right: bool) -> None:
        """Learn what followed a match of this length."""
        n = min(match, LONGEST_MATCH)
        self._seen[n] = self._seen[n] * self.MEMORY + 1
        self._right[n] = self._right[n] * self.MEMORY + is_right


class Guesser:
    """The guesses for one sequence.   guess: what may follow, LONGEST_DRAFT ids or none."""

    def __init__(self) -> None:
        self.guess: list[int] = []
        self._trust = Trust()
        self._match = 0
        self._n_came = 0  # how many ids came since the guess, all as guessed; beyond its end once one did not
        self._ids = np.empty(1024, np.int32)
        self._n_ids = 0

    def look(self, ids: Sequence[int]) -> None:
        """Guess what follows ids, which have grown since the last look."""
        self._match, start = look_back(self._array(ids))
        circle = len(ids) - start  # what repeats its own end goes on in circles
        self.guess = [ids[start + i % circle] for i in range(LONGEST_DRAFT)] if self._match else []
        self._n_came = 0

    def chances(self, most: int) -> list[float]:
        """The probability that the first 1, 2, ..., `most` ids of the guess all come true."""
        chances, chance = [], 1.0
        for i in range(min(most, len(self.guess))):
            chance *= self._trust.of(self._match + i)
            chances.append(chance)
        return chances

    def note(self, id: int) -> None:
        """Learn which id came next."""
        if self._n_came < len(self.guess):
            is_right = self.guess[self._n_came] == id
            self._trust.note(self._match + self._n_came, is_right)
            self._n_came = self._n_came + 1 if is_right else len(self.guess)

    def _array(self, ids: Sequence[int]) -> I32:
        if len(ids) > len(self._ids):
            self._ids = np.concatenate([self._ids, np.empty(len(ids), np.int32)])
        self._ids[self._n_ids : len(ids)] = ids[self._n_ids :]
        self._n_ids = len(ids)
        return self._ids[: self._n_ids]
