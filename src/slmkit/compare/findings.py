"""What two backends' answers to one question have in common: distances, and the first token that differs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slmkit.compare.distance import Distance, Gap, distance, gap, key_of, known, mean, tells_ids

if TYPE_CHECKING:
    from slmkit.compare.questions import Seen
    from slmkit.events import TokenInfo


@dataclass(frozen=True)
class FirstDifference:
    """The first token of the answers that differs; an id is -1 where it is not told, and text "" where one has ended.

    position: in the answer, from 0.
    a_gap: how much a prefers its own token to b's; b_gap: how much b prefers its own. None where it does not tell.
    """

    position: int
    a_id: int
    b_id: int
    a_text: str
    b_text: str
    a_gap: Gap | None
    b_gap: Gap | None


@dataclass
class Finding:
    """Of one question.

    distances: at each place where both tell log probabilities after the same tokens.
    first: the first differing token; None if the answers are the same.   answered: whether there are two answers.
    a_tokens, b_tokens: of the prompt, as each counts them.   error: which one failed, and why.
    """

    name: str
    a_tokens: int = 0
    b_tokens: int = 0
    distances: list[Distance] = field(default_factory=list)
    first: FirstDifference | None = None
    answered: bool = False
    error: str = ""

    @property
    def kl(self) -> float | None:
        """The mean over its places, in nats."""
        return mean(d.kl for d in self.distances) if self.distances else None

    @property
    def most_kl(self) -> float | None:
        """At its worst place."""
        return max((d.kl for d in self.distances), default=None)

    @property
    def tv(self) -> tuple[float, float] | None:
        """The mean total variation, at least and at most."""
        if not self.distances:
            return None
        return mean(d.tv for d in self.distances), mean(d.tv_most for d in self.distances)

    @property
    def agreement(self) -> float | None:
        """The share of places whose likeliest token is the same."""
        return mean(float(d.agree) for d in self.distances) if self.distances else None

    @property
    def most_delta(self) -> float:
        """The largest difference of a log probability."""
        return max((d.most_delta for d in self.distances), default=0.0)

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        first = self.first
        return {
            "question": self.name,
            "prompt_tokens": [self.a_tokens, self.b_tokens],
            "places": len(self.distances),
            "kl": self.kl,
            "most_kl": self.most_kl,
            "total_variation": self.tv,
            "agreement": self.agreement,
            "first_difference": None if first is None else {
                "position": first.position,
                "ids": [first.a_id, first.b_id],
                "texts": [first.a_text, first.b_text],
                "gaps": [None if g is None else {"nats": g.nats, "is_least": g.is_least}
                         for g in (first.a_gap, first.b_gap)],
            },
            "error": self.error,
        }  # fmt: skip


def finding(name: str, a: Seen, b: Seen) -> Finding:
    """What the two have in common."""
    found = Finding(name, a.prompt_tokens, b.prompt_tokens)
    for side, seen in (("A", a), ("B", b)):
        if seen.error:
            found.error = f"{side} failed: {seen.error}"
            return found
    found.answered = True
    by_id = all(tells_ids(token) for token in (*a.answer, *b.answer) if _is_told(token))
    found.first = _first(a, b, by_id)
    found.distances = _distances(a, b, by_id, found.first)
    return found


def _distances(a: Seen, b: Seen, by_id: bool, first: FirstDifference | None) -> list[Distance]:
    """Over prompt and answer where one has scored the other's, else up to where the answers part."""
    if b.forced and a.prompt:
        return _all(zip((*a.prompt, *a.answer), b.forced, strict=False), by_id)
    found = []
    if a.prompt and [token.id for token in a.prompt] == [token.id for token in b.prompt]:
        found = _all(zip(a.prompt, b.prompt, strict=True), by_id)
    common = len(a.answer) if first is None else first.position + 1
    return found + _all(zip(a.answer[:common], b.answer[:common], strict=False), by_id, begin=True)


def _all(places: Iterable[tuple[TokenInfo, TokenInfo]], by_id: bool, begin: bool = False) -> list[Distance]:
    """begin: the first place begins an answer."""
    return [
        distance(known(one, by_id, begin and not i), known(other, by_id, begin and not i))
        for i, (one, other) in enumerate(places)
        if one.top and other.top  # the first token of a prompt has none, nor has an image's
    ]


def _first(a: Seen, b: Seen, by_id: bool) -> FirstDifference | None:
    """None also where one answer goes on from where the other had to stop at its most tokens.

    A token that is not told counts as the same: what comes after it shows whether it was.
    """
    if not a.answer or not b.answer:  # a backend that tells no tokens
        return _first_of_texts(a, b)
    keys = [[key_of(token, by_id, not i) for i, token in enumerate(seen.answer)] for seen in (a, b)]
    both = ((i, one, other) for i, (one, other) in enumerate(zip(a.answer, b.answer, strict=False)))
    told = (i for i, one, other in both if _is_told(one) and _is_told(other))
    places = (i for i in told if keys[0][i] != keys[1][i])
    place = next(places, min(len(a.answer), len(b.answer)))
    if place == len(a.answer) == len(b.answer):
        return None
    if place in (len(a.answer), len(b.answer)) and not _is_real_end(a, b):
        return None
    one, other = _at(a.answer, place), _at(b.answer, place)
    a_gap = b_gap = None
    if one is not None and other is not None:
        a_key, b_key = keys[0][place], keys[1][place]
        a_gap = gap(known(one, by_id, not place), a_key, b_key)
        b_gap = gap(known(other, by_id, not place), b_key, a_key)
    return FirstDifference(
        place, one.id if one else -1, other.id if other else -1, one.text if one else "", other.text if other else "",
        a_gap, b_gap,
    )  # fmt: skip


def _is_told(token: TokenInfo) -> bool:
    """Whether anything is known of a token; llama.cpp keeps those to itself that are a part of a character."""
    return token.id >= 0 or bool(token.data or token.text)


def _is_real_end(a: Seen, b: Seen) -> bool:
    """Whether the shorter answer was ended by its model, and the other says more than the token that ends it.

    Some backends tell the token that ends an answer, others do not.
    """
    shorter, longer = (a, b) if len(a.answer) < len(b.answer) else (b, a)
    rest = longer.answer[len(shorter.answer) :]
    return shorter.ended and not (longer.ended and len(rest) == 1)


def _first_of_texts(a: Seen, b: Seen) -> FirstDifference | None:
    """By the answers' characters, where no tokens are told; one may have been cut where the other goes on."""
    if a.said == b.said:
        return None
    place = next((i for i, (x, y) in enumerate(zip(a.said, b.said, strict=False)) if x != y), None)
    if place is None:
        shorter = a if len(a.said) < len(b.said) else b
        if not shorter.ended:
            return None
        place = len(shorter.said)
    return FirstDifference(place, -1, -1, a.said[place : place + 12], b.said[place : place + 12], None, None)


def _at(tokens: Sequence[TokenInfo], place: int) -> TokenInfo | None:
    return tokens[place] if place < len(tokens) else None
