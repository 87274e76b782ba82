"""How far two next-token distributions are from each other, where of each only its likeliest tokens are known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slmkit.events import Logprob, TokenInfo

Key = int | bytes

FLOOR = -50.0  # what a log probability of minus infinity counts as
LEAST_REST = 1e-9  # a rest of less is the rounding of float32


@dataclass(frozen=True)
class Known:
    """What a backend tells of one distribution: natural-log probabilities by token.

    least: of its list of likeliest tokens; one that is not told has no more. The token that followed is told too, be it
    as unlikely as it may.
    """

    logprobs: Mapping[Key, float]
    least: float


@dataclass(frozen=True)
class Distance:
    """Of two distributions p and q over the same vocabulary.

    kl: KL(p || q) in nats, at least.   tv: total variation, 0 to 1, at least; tv_most: at most.
    most_delta: the largest difference of a log probability that both tell.
    agree: whether the likeliest token is the same.
    """

    kl: float
    tv: float
    tv_most: float
    most_delta: float
    agree: bool


@dataclass(frozen=True)
class Gap:
    """How much a model prefers its own token to the other's: the difference of their logits, in nats.

    is_least: the other token is not among those it tells, so that the gap is this or more.
    """

    nats: float
    is_least: bool = False


def tells_ids(token: TokenInfo) -> bool:
    """Whether ids are known of a token and its rivals."""
    return token.id >= 0 and all(other.id >= 0 for other in token.top)


def key_of(token: TokenInfo | Logprob, by_id: bool, begins: bool = False) -> Key:
    """What a token is known by in both models: its id, else its bytes, else its spelling.

    begins: an answer, whose first space some servers leave out.
    """
    if by_id:
        return token.id
    data = token.data or token.text.encode()
    return data.removeprefix(b" ") if begins else data


def known(token: TokenInfo, by_id: bool, begins: bool = False) -> Known:
    """The log probabilities that come with a token: its rivals', and its own. Ids of one spelling count together."""
    found: dict[Key, float] = {}
    for other in token.top:
        key = key_of(other, by_id, begins)
        found[key] = _sum(found[key], other.logprob) if key in found else max(FLOOR, other.logprob)
    if token.logprob is not None:
        found.setdefault(key_of(token, by_id, begins), max(FLOOR, token.logprob))
    return Known(found, max(FLOOR, min((other.logprob for other in token.top), default=0.0)))


def distance(a: Known, b: Known) -> Distance:
    """Of what is known of p (a) and of q (b), neither of them empty.

    Let S be the tokens known of both, T those known of p alone, m the least probability of q's list, and for either
    p_r = 1 - sum_S p_i, q_r likewise. No token of T has more than m in q, or q's list would have it, so T has at most
    c = min(|T| m, q_r) there. With x = min(c, q_r p_T / p_r), where x / q_r = p_T / p_r makes the sum smallest,

        KL >= sum_S p_i log(p_i / q_i) + p_T log(p_T / x) + (p_r - p_T) log((p_r - p_T) / (q_r - x))

    by the log sum inequality; what is missing is KL within T and within the rest. With T empty it is the KL of the
    known tokens and one token that stands for all others. Total variation is between
    (sum_S |p_i - q_i| + |p_r - q_r|) / 2 and (sum_S |p_i - q_i| + p_r + q_r) / 2.
    """
    a_log, b_log = a.logprobs, b.logprobs
    both = a_log.keys() & b_log.keys()
    p, q = ({key: math.exp(value) for key, value in one.items()} for one in (a_log, b_log))
    kl = sum(p[key] * (a_log[key] - b_log[key]) for key in both)
    apart = sum(abs(p[key] - q[key]) for key in both)
    p_rest, q_rest = (max(LEAST_REST, 1 - sum(one[key] for key in both)) for one in (p, q))
    only = [p[key] for key in a_log.keys() - both]
    p_only = min(sum(only), p_rest)
    share = q_rest * p_only / p_rest
    x = min(share, len(only) * math.exp(b.least)) if only else 0.0
    kl += _term(p_only, x) + _term(p_rest - p_only, q_rest - x)
    deltas = [abs(a_log[key] - b_log[key]) for key in both]
    return Distance(
        kl=max(0.0, kl),
        tv=min(1.0, (apart + abs(p_rest - q_rest)) / 2),
        tv_most=min(1.0, (apart + p_rest + q_rest) / 2),
        most_delta=max(deltas, default=math.inf),
        agree=_first(a_log) == _first(b_log),
    )


def gap(row: Known, own: Key, other: Key) -> Gap | None:
    """Of one model's row, between what it chose and what the other one chose; None where it tells no rivals."""
    told = row.logprobs
    if own not in told or len(told) < 2:
        return None
    return Gap(told[own] - told[other]) if other in told else Gap(told[own] - row.least, is_least=True)


def mean(values: Iterable[float]) -> float:
    """Of at least one."""
    found = [*values]
    return sum(found) / len(found)


def _term(p: float, q: float) -> float:
    return 0.0 if p <= LEAST_REST else p * math.log(p / max(q, LEAST_REST))


def _sum(a: float, b: float) -> float:
    return max(FLOOR, math.log(math.exp(a) + math.exp(b)))


def _first(row: Mapping[Key, float]) -> Key:
    return max(row, key=lambda key: row[key])
