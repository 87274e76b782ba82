"""How much two answers have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

ORDERS = 6  # the longest run of characters that is counted


@dataclass(frozen=True)
class Pair:
    """Two models over the prompts that both have answered.

    a, b: their places.   prompts: how many.   same: the share of answers that are equal.   chrf: the mean, 0 to 1.
    """

    a: int
    b: int
    prompts: int
    same: float
    chrf: float


def chrf(a: str, b: str) -> float:
    """chrF1 of two texts, 0 to 1; which of them comes first does not matter.

    For n = 1 to 6, runs of n characters without white space: P_n is the share of a's runs that b has too (each counted
    as often as both have it), R_n the share of b's that a has. P and R are the means over those n that both texts are
    long enough for, and chrF1 = 2 P R / (P + R). It needs no words, so it is fair to Chinese, too.
    Source: Popović, chrF: character n-gram F-score for automatic MT evaluation, WMT 2015, with beta = 1.
    """
    first, second = "".join(a.split()), "".join(b.split())
    if not first or not second:
        return float(first == second)
    orders = range(1, min(ORDERS, len(first), len(second)) + 1)
    found = [_shares(_runs(first, n), _runs(second, n)) for n in orders]
    precision = sum(p for p, _ in found) / len(found)
    recall = sum(r for _, r in found) / len(found)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def pairs(answers: Sequence[Mapping[int, str]]) -> list[Pair]:
    """Every pair of models that have answered some prompt both.   answers: of each model, by the prompt's place."""
    found = []
    for a, b in combinations(range(len(answers)), 2):
        both = [case for case in answers[a] if case in answers[b]]
        if both:
            same = [answers[a][case].strip() == answers[b][case].strip() for case in both]
            alike = [chrf(answers[a][case], answers[b][case]) for case in both]
            found.append(Pair(a, b, len(both), sum(same) / len(both), sum(alike) / len(both)))
    return found


def _runs(text: str, n: int) -> Counter[str]:
    return Counter(text[i : i + n] for i in range(len(text) - n + 1))


def _shares(a: Counter[str], b: Counter[str]) -> tuple[float, float]:
    common = (a & b).total()
    return common / a.total(), common / b.total()
