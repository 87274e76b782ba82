"""One token drawn from a row, against a plain definition, and between the definition and the kernels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoints import KERNELS
from slmkit.ops.choose import choose

BELOW_1 = 1 - 2**-53
EDGE = 1e-9  # so far from a border of two ids that rounding cannot move it over
# Multiples of 1/8, so that ties are common and sums exact
rows = st.lists(st.integers(-40, 40), min_size=1, max_size=12).map(lambda r: np.array(r, np.float32) / 8)


def kept(logits, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
    """The ids that may be drawn and their probabilities: the definition, one token at a time."""
    order = sorted((i for i in range(len(logits)) if logits[i] > -math.inf), key=lambda i: (-logits[i], i))
    order = order[: top_k or len(order)]
    weights = [math.exp((float(logits[i]) - float(logits[order[0]])) / temperature) for i in order]
    p = [w / math.fsum(weights) for w in weights]
    within = [i for i in range(len(order)) if top_p >= 1 or math.fsum(p[:i]) < top_p or i == 0]
    within = [i for i in within if p[i] >= min_p * p[0]]
    found = {order[i]: p[i] / math.fsum(p[j] for j in within) for i in within}
    return sorted(found), [found[id] for id in sorted(found)]


def drawn(kernels, row, u, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
    return choose(kernels, 1).draw(row, temperature, top_k, top_p, min_p, u)


@pytest.mark.parametrize("kernels", KERNELS)
@given(rows, st.sampled_from([0.1, 0.7, 1.0, 3.0]), st.integers(0, 13), st.sampled_from([0.0, 0.3, 0.55, 0.95, 1.0]),
       st.sampled_from([0.0, 0.03, 0.21, 1.0]))  # fmt: skip
def test_each_id_has_the_numbers_that_its_definition_gives_it(kernels, row, temperature, top_k, top_p, min_p):
    settings = temperature, top_k, top_p, min_p
    sums = np.cumsum(sorted(kept(row, temperature, top_k)[1], reverse=True))
    if np.abs(sums - top_p).min() < EDGE and top_p < 1:
        return  # a sum that meets top_p to the last bit may fall on either side
    ids, p = kept(row, *settings)
    ends = np.cumsum(p)
    for id, begin, end in zip(ids, [0, *ends], ends, strict=False):
        if end - begin > 3 * EDGE:
            assert drawn(kernels, row, begin + EDGE, *settings) == id
            assert drawn(kernels, row, end - EDGE, *settings) == id
    assert drawn(kernels, row, 0.0, *settings) == ids[0]
    assert drawn(kernels, row, BELOW_1, *settings) in ids


@pytest.mark.parametrize("kernels", KERNELS)
def test_top_k_keeps_the_lowest_ids_among_equals(kernels):
    row = np.array([1, 2, 2, 2], np.float32)
    assert [drawn(kernels, row, u, top_k=2) for u in (0, 0.49, 0.51, BELOW_1)] == [1, 1, 2, 2]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(("top_p", "last"), [(0.0, 0), (0.5, 0), (0.5001, 1), (0.75, 1), (0.76, 2), (1.0, 2)])
def test_the_token_that_reaches_top_p_is_the_last_one_kept(kernels, top_p, last):
    row = np.log(np.array([0.5, 0.25, 0.25])).astype(np.float32)
    row[2] -= 1e-6
    assert drawn(kernels, row, BELOW_1, top_p=top_p) == last


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_banned_token_is_never_drawn_and_one_that_is_left_always(kernels):
    row = np.full(5, -np.inf, np.float32)
    assert drawn(kernels, row, 0.5) == -1
    row[3] = -1000
    for u in (0.0, 0.5, BELOW_1):
        assert drawn(kernels, row, u) == drawn(kernels, row, u, 0.01, 3, 0.9, 0.5) == 3


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 5e-324])
def test_the_smallest_temperatures_take_the_likeliest_token(kernels, temperature):
    row = np.array([0.1, 0.3, 0.2], np.float32)
    assert [drawn(kernels, row, u, temperature, top_p=top_p) for u in (1e-30, BELOW_1) for top_p in (0.5, 1)] == [1] * 4


@pytest.mark.parametrize("kernels", KERNELS)
def test_the_largest_logits_do_not_overflow(kernels):
    row = np.array([3e38, -3e38, 3e38], np.float32)
    assert [drawn(kernels, row, u) for u in (0, 0.49, 0.51, BELOW_1)] == [0, 0, 2, 2]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("vocab", [1, 2, 31, 4096, 32064])
@pytest.mark.parametrize("spread", [0.0, 0.3, 6.0])
def test_kernels_draw_as_the_definition_does(kernels, vocab, spread):
    rng = np.random.default_rng(vocab)
    row = (rng.standard_normal(vocab) * spread).astype(np.float32)
    row[rng.integers(0, vocab, vocab // 8)] = row[0]  # equals
    row[rng.integers(0, vocab, vocab // 8)] = -np.inf
    row[0] = max(row[0], -9)
    for settings in [(1.0, 0, 1.0, 0.0), (0.6, 0, 0.9, 0.0), (0.6, 40, 0.9, 0.05), (1.5, 0, 1.0, 0.1), (0.1, 7, 1, 0)]:
        for u in [*rng.random(20), 0.0]:
            assert drawn(kernels, row, u, *settings) == drawn("reference", row, u, *settings)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("settings", [(1.0,), (0.5, 6), (2.0, 0, 0.8), (1.0, 0, 1.0, 0.2), (1.5, 9, 0.9, 0.05)])
def test_draws_follow_the_probabilities(kernels, settings):
    """Chi-square over 5,000 draws of a fixed generator: 99.9 % of right samplers stay below the quantile."""
    row = np.random.default_rng(5).normal(0, 1.5, 12).astype(np.float32)
    rng, n = np.random.default_rng(7), 5000
    counts = np.bincount([drawn(kernels, row, rng.random(), *settings) for _ in range(n)], minlength=len(row))
    ids, p = kept(row, *settings)
    assert counts.sum() == counts[ids].sum()
    expected = n * np.array(p)
    chi_square = ((counts[ids] - expected) ** 2 / expected).sum()
    freedom = len(ids) - 1
    quantile = freedom * (1 - 2 / (9 * freedom) + 3.09 * math.sqrt(2 / (9 * freedom))) ** 3  # Wilson and Hilferty
    assert chi_square < quantile
