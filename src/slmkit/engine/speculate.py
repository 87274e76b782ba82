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
MOST_PLACES = 256  # so that a long text of few words takes no longer


def look_back(ids: I32) -> tuple[int, int]:
    """How many of the last ids, at most LONGEST_MATCH, occurred before in a row, and where what followed begins.

    Of several equally long matches it is the latest. Of more than MOST_PLACES only the latest are looked at.
    Returns (0, 0) if even the last id is new.
    """
    last = len(ids) - 1
    ends = np.flatnonzero(ids[:last] == ids[last])
    if len(ends) > MOST_PLACES:
        before = ends[ends > 0] - 1
        pairs = before[ids[before] == ids[last - 1]] + 1
        ends = (pairs if len(pairs) else ends)[-MOST_PLACES:]
    if not len(ends):
        return 0, 0
    back = np.arange(min(LONGEST_MATCH, last))
    agree = ids[ends[:, None] - back] == ids[last - back]
    # negative places have gone round the array: a match has no more ids than there are up to its end
    lengths = np.minimum(np.logical_and.accumulate(agree, axis=1).sum(1), ends + 1)
    best = len(ends) - 1 - int(lengths[::-1].argmax())
    return int(lengths[best]), int(ends[best]) + 1


class Trust:
    """How likely the token that followed a match follows again, by the length of the match.

    Starts from what texts in general do, and follows the sequence's own. Every token is evidence, also those before
    which nothing was drafted, so a sequence that begins to repeat itself is noticed without a try.
    """

    # Between what stories and what summaries do, in tokens of Phi-3; in edits it is more for every length.
    FIRST = np.interp(
        np.arange(LONGEST_MATCH + 1), [0, 1, 2, 3, 5, 8, 16], [0, 0.15, 0.4, 0.5, 0.65, 0.8, 0.93]
    ).tolist()
    WEIGHT = 4.0  # as if so many tokens had been seen
    MEMORY = 0.97  # what is left of the evidence after each token of the same length

    def __init__(self) -> None:
        self._seen = [self.WEIGHT] * len(self.FIRST)  # lists: single numbers of an array are slow to get at
        self._right = [first * self.WEIGHT for first in self.FIRST]

    def of(self, match: int) -> float:
        """Probability of the next token after a match of this length."""
        n = min(match, LONGEST_MATCH)
        return self._right[n] / self._seen[n]

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
        self._match = self._start = 0
        self._n_came = 0  # how many ids came since the guess, all as guessed; LONGEST_DRAFT once one did not
        self._ids = np.empty(1024, np.int32)
        self._n_ids = 0

    def look(self, ids: Sequence[int]) -> None:
        """Guess what follows ids, which have grown since the last look."""
        self._match, start = self._found(self._array(ids))
        if self._match:
            circle = list(ids[start : start + LONGEST_DRAFT])  # what repeats its own end goes on in circles
            self.guess = (circle * LONGEST_DRAFT)[:LONGEST_DRAFT]
        if not self._match or min(self.guess) < 0:  # an image does not follow from what came before it
            self.guess = []
        self._start, self._n_came = start, 0

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
            self._n_came = self._n_came + 1 if is_right else LONGEST_DRAFT

    def _found(self, ids: I32) -> tuple[int, int]:
        """look_back, or what it would find anyway: while all comes as guessed, the longest match only grows longer."""
        if 0 < self._n_came < LONGEST_DRAFT and self._start + self._n_came < len(ids):
            return min(self._match + self._n_came, LONGEST_MATCH), self._start + self._n_came
        return look_back(ids)

    def _array(self, ids: Sequence[int]) -> I32:
        if len(ids) > len(self._ids):
            self._ids = np.concatenate([self._ids, np.empty(len(ids), np.int32)])
        self._ids[self._n_ids : len(ids)] = ids[self._n_ids :]
        self._n_ids = len(ids)
        return self._ids[: self._n_ids]
