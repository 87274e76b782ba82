from __future__ import annotations

import math

import numpy as np
import pytest

from slmkit.compare.distance import Known, distance, gap, known, tells_ids
from slmkit.events import Logprob, TokenInfo


def row(logprobs):
    return Known(logprobs, min(logprobs.values()))


def top(p, k, followed=None):
    """The k likeliest of a distribution, and the token that followed, as a backend tells them."""
    best = {int(i): math.log(p[i]) for i in np.argsort(-p)[:k]}
    return Known(best if followed is None else {**best, followed: math.log(p[followed])}, min(best.values()))


def test_with_all_tokens_known_kl_and_total_variation_are_exact():
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.35, 0.45, 0.2])
    found = distance(top(p, 3), top(q, 3))
    assert found.kl == pytest.approx(float(np.sum(p * np.log(p / q))), rel=1e-6)
    assert found.tv == pytest.approx(0.15, abs=1e-8)
    assert found.tv_most == pytest.approx(0.15, abs=1e-8)
    assert found.most_delta == pytest.approx(math.log(0.45 / 0.3))
    assert not found.agree


def test_equal_distributions_are_at_0():
    p = np.array([0.6, 0.3, 0.1])
    found = distance(top(p, 2), top(p, 2))
    assert (found.kl, found.tv, found.most_delta, found.agree) == (0.0, 0.0, 0.0, True)
    assert found.tv_most == pytest.approx(0.1)  # what is not known may differ


@pytest.mark.parametrize("k", [1, 2, 5, 20])
@pytest.mark.parametrize("apart", [0.01, 0.5, 3.0])
def test_what_is_said_of_the_likeliest_tokens_is_a_bound_of_the_whole(k, apart):
    rng = np.random.default_rng(7)
    for _ in range(50):
        logits = rng.normal(0, 2, 60)
        p, q = (np.exp(x) / np.exp(x).sum() for x in (logits, logits + rng.normal(0, apart, 60)))
        followed = int(p.argmin())  # which is told however unlikely it is
        found = distance(top(p, k, followed), top(q, k, followed))
        assert found.kl <= np.sum(p * np.log(p / q)) + 1e-9
        total = np.abs(p - q).sum() / 2
        assert found.tv - 1e-9 <= total <= found.tv_most + 1e-9


def test_lists_with_nothing_in_common_are_far_apart():
    p, q = row({1: math.log(0.9), 2: math.log(0.09)}), row({3: math.log(0.9), 4: math.log(0.09)})
    # neither token of p can have more than 0.09 in q, and both together not more than all that q leaves, 1
    assert distance(p, q).kl > 1.0
    assert distance(p, q).most_delta == math.inf


def test_a_token_that_cannot_be_is_no_infinity():
    even = TokenInfo(1, "a", math.log(0.5), (Logprob(1, "a", math.log(0.5)), Logprob(2, "b", math.log(0.5))))
    sure = TokenInfo(1, "a", 0.0, (Logprob(1, "a", 0.0), Logprob(2, "b", -math.inf)))
    assert 5 < distance(known(even, by_id=True), known(sure, by_id=True)).kl < 50


def test_a_gap_is_the_difference_of_two_logits_or_a_bound_of_it():
    told = row({1: -0.1, 2: -2.6, 3: -4.0})
    assert gap(told, 1, 2).nats == pytest.approx(2.5)
    assert (gap(told, 1, 9).nats, gap(told, 1, 9).is_least) == (pytest.approx(3.9), True)
    assert gap(row({1: -0.1}), 1, 2) is None


def test_tokens_without_ids_are_known_by_their_bytes_and_spellings_count_together():
    told = TokenInfo(7, "▁dog", -0.5, (Logprob(7, "▁dog", -0.5, b" dog"), Logprob(8, "<0x64>", -2.0, b"d"),
                                       Logprob(9, "d", -2.0, b"d")), b" dog")  # fmt: skip
    served = TokenInfo(-1, " dog", -0.5, (Logprob(-1, " dog", -0.5, b" dog"),), b" dog")
    assert tells_ids(told)
    assert not tells_ids(served)
    (begun,) = known(TokenInfo(-1, "dog", -0.5, (), b"dog"), by_id=False, begins=True).logprobs
    assert begun in known(told, by_id=False, begins=True).logprobs  # the first space of an answer, which some leave out
    found = known(told, by_id=False).logprobs
    assert found[b" dog"] == known(served, by_id=False).logprobs[b" dog"] == -0.5
    assert found[b"d"] == pytest.approx(-2.0 + math.log(2))
