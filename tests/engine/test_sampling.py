"""Each step of sampling against a plain definition in float64, its edges, and the distribution of the draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmkit.engine.sampling import (
    biased,
    choose,
    count_penalized,
    likeliest,
    log_softmax,
    probabilities,
    processed,
    random_numbers,
    repetition_penalized,
    shape_logits,
    softmax,
)
from slmkit.errors import RequestError
from slmkit.options import Options

# Multiples of 1/8, so that ties are common and sums exact
rows = st.lists(st.integers(-40, 40), min_size=1, max_size=12).map(lambda r: np.array(r, np.float32) / 8)


def plain_candidates(logits, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
    """The definition, one token at a time."""
    order = sorted((i for i in range(len(logits)) if logits[i] > -math.inf), key=lambda i: (-logits[i], i))
    order = order[: top_k or len(order)]
    weights = [math.exp((float(logits[i]) - float(logits[order[0]])) / temperature) for i in order]
    p = [w / math.fsum(weights) for w in weights]
    kept = [i for i in range(len(order)) if math.fsum(p[:i]) < top_p or i == 0]
    kept = [i for i in kept if p[i] >= min_p * p[0]]
    return [order[i] for i in kept], [p[i] / math.fsum(p[j] for j in kept) for i in kept]


def candidates(row, options):
    p = probabilities(row, options)
    return likeliest(row, len(p)), p


@given(rows, st.sampled_from([0.1, 0.7, 1.0, 3.0]), st.integers(0, 13), st.sampled_from([0.0, 0.3, 0.55, 0.95, 1.0]),
       st.sampled_from([0.0, 0.03, 0.21, 1.0]))  # fmt: skip
def test_temperature_top_k_top_p_and_min_p_keep_what_their_definitions_keep(row, temperature, top_k, top_p, min_p):
    options = Options(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    ids, p = candidates(row, options)
    expected, expected_p = plain_candidates(row, temperature, top_k, top_p, min_p)
    # a sum that meets top_p to the last bit may fall on either side
    assert (
        ids.tolist() == expected
        or abs(math.fsum(plain_candidates(row, temperature, top_k)[1][: len(ids)]) - top_p) < 1e-9
    )
    if ids.tolist() == expected:
        np.testing.assert_allclose(p, expected_p, rtol=1e-12)


@given(rows, st.integers(1, 14))
def test_likeliest_orders_by_logit_and_then_by_id(row, k):
    assert likeliest(row, k).tolist() == sorted(range(len(row)), key=lambda i: (-row[i], i))[:k]


def test_top_k_keeps_the_lowest_ids_among_equals():
    assert candidates(np.array([1, 2, 2, 2], np.float32), Options(temperature=1.0, top_k=2))[0].tolist() == [1, 2]


@pytest.mark.parametrize(("top_p", "kept"), [(0.0, 1), (0.5, 1), (0.5001, 2), (0.75, 2), (0.76, 3), (1.0, 3)])
def test_the_token_that_reaches_top_p_is_the_last_one_kept(top_p, kept):
    row = np.log(np.array([0.5, 0.25, 0.25])).astype(np.float32)
    row[2] -= 1e-6
    assert len(candidates(row, Options(temperature=1.0, top_p=top_p))[0]) == kept


def test_a_banned_token_is_never_drawn_and_one_that_is_left_always():
    row = np.full(5, -np.inf, np.float32)
    row[3] = -1000
    rng = np.random.default_rng(0)
    for options in (Options(), Options(temperature=1.0), Options(temperature=0.01, top_k=3, top_p=0.9, min_p=0.5)):
        assert choose(row, options, rng) == 3
    assert candidates(row, Options(temperature=1.0))[1].tolist() == [1.0]


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 5e-324])
def test_the_smallest_temperatures_take_the_likeliest_token(temperature):
    row = np.array([0.1, 0.3, 0.2], np.float32)
    assert choose(row, Options(temperature=temperature), np.random.default_rng(0)) == 1


def test_the_largest_logits_do_not_overflow():
    row = np.array([3e38, -3e38, 3e38], np.float32)
    np.testing.assert_array_equal(softmax(row.astype(np.float64)), [0.5, 0, 0.5])


@given(rows)
def test_log_softmax_is_its_definition(row):
    x = row.astype(np.float64)
    np.testing.assert_allclose(log_softmax(row), x - np.log(np.exp(x).sum()), atol=1e-6)  # float32 of up to 12


def test_temperature_0_takes_the_lowest_id_among_the_likeliest():
    assert choose(np.array([0, 7, 7], np.float32), Options(temperature=0.0), np.random.default_rng(0)) == 1


@given(rows, st.lists(st.integers(0, 11), max_size=20), st.sampled_from([0.5, 1.0, 1.3]))
def test_the_repetition_penalty_divides_positive_and_multiplies_negative_logits_once(row, ids, penalty):
    expected = [
        (x / penalty if x > 0 else x * penalty) if i in ids else x for i, x in enumerate(row.astype(np.float64))
    ]
    np.testing.assert_allclose(repetition_penalized(row, ids, penalty), expected, rtol=1e-6)


@given(rows, st.lists(st.integers(0, 11), max_size=20))
def test_presence_counts_once_and_frequency_each_time(row, answer):
    answer = [i for i in answer if i < len(row)]
    expected = [x - 0.5 * (i in answer) - 0.25 * answer.count(i) for i, x in enumerate(row.astype(np.float64))]
    np.testing.assert_allclose(count_penalized(row, answer, 0.5, 0.25), expected, rtol=1e-6)


def test_presence_and_frequency_look_at_the_answer_only_and_repetition_at_the_prompt_too():
    row, ids = np.ones(4, np.float32), [0, 1]
    assert shape_logits(row, ids, 1, Options(presence_penalty=1.0)).tolist() == [1, 0, 1, 1]
    assert shape_logits(row, ids, 1, Options(repetition_penalty=2.0)).tolist() == [0.5, 0.5, 1, 1]


@pytest.mark.parametrize(
    ("window", "expected"), [(None, [0.5, 0.5, 1]), (0, [0.5, 0.5, 1]), (1, [1, 0.5, 1]), (2, [0.5, 0.5, 1])]
)
def test_the_repetition_penalty_looks_back_over_its_window(window, expected):
    options = Options(repetition_penalty=2.0, repetition_window=window)
    assert shape_logits(np.ones(3, np.float32), [0, 1], 1, options).tolist() == expected


def test_the_steps_come_in_their_documented_order():
    seen = []

    def double(ids, logits):
        seen.append((ids, logits.tolist()))
        return logits * 2

    def add_one(ids, logits):
        return logits + 1

    options = Options(logit_bias={0: 3.0}, repetition_penalty=2.0, presence_penalty=1.0)
    out = shape_logits(np.zeros(2, np.float32), [0], 0, options, (double, add_one))
    assert seen == [((0,), [3.0, 0.0])]  # the bias comes before the processors
    assert out.tolist() == [((3 * 2) + 1) / 2 - 1, 1.0]  # processors in order, then repetition, then presence


def test_no_step_changes_the_row_it_was_given():
    row = np.arange(4, dtype=np.float32)
    before = row.copy()

    def greedy_writer(ids, logits):
        logits[:] = 9
        return logits

    options = Options(logit_bias={0: 3.0}, repetition_penalty=2.0, presence_penalty=1.0, temperature=1.0, top_k=2)
    choose(shape_logits(row, [1, 2], 1, options, (greedy_writer,)), options, np.random.default_rng(0))
    np.testing.assert_array_equal(row, before)


def test_a_bias_of_minus_infinity_bans_and_zero_leaves_alone():
    assert biased(np.ones(3, np.float32), {1: -math.inf, 2: 0.0}).tolist() == [1, -math.inf, 1]


def test_banning_every_token_is_refused():
    with pytest.raises(RequestError, match="no token to choose; allow at least one"):
        shape_logits(np.zeros(2, np.float32), [0], 1, Options(logit_bias={0: -math.inf, 1: -math.inf}))


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (np.zeros(3), r"shape \(3,\); return \(2,\)"),
        (np.zeros((1, 2)), r"shape \(1, 2\); return \(2,\)"),
        (None, "NaN|no array of numbers|shape"),
        ("no", "no array of numbers"),
        ([math.nan, 1], r"NaN or \+inf; return numbers"),
        ([math.inf, 1], r"NaN or \+inf; return numbers"),
    ],
)
def test_what_a_processor_may_not_return_is_refused_with_its_name(result, message):
    def bad(ids, logits):
        return result

    with pytest.raises(RequestError, match=message) as raised:
        processed(np.zeros(2, np.float32), [0], bad)
    assert "processor bad" in str(raised.value)


@pytest.mark.parametrize(
    "options",
    [
        Options(temperature=1.0),
        Options(temperature=0.5, top_k=6),
        Options(temperature=2.0, top_p=0.8),
        Options(temperature=1.0, min_p=0.2),
        Options(temperature=1.5, top_k=9, top_p=0.9, min_p=0.05),
    ],
)
def test_draws_follow_the_probabilities(options):
    """Chi-square over 5,000 draws of a fixed generator: 99.9 % of right samplers stay below the quantile."""
    row = np.random.default_rng(5).normal(0, 1.5, 12).astype(np.float32)
    rng = random_numbers(7, 0)
    n = 5000
    counts = np.bincount([choose(row, options, rng) for _ in range(n)], minlength=len(row))
    ids, p = plain_candidates(
        row,
        options.temperature,
        options.top_k or 0,
        1.0 if options.top_p is None else options.top_p,
        options.min_p or 0.0,
    )
    assert counts.sum() == counts[ids].sum()
    expected = n * np.array(p)
    chi_square = ((counts[ids] - expected) ** 2 / expected).sum()
    freedom = len(ids) - 1
    quantile = freedom * (1 - 2 / (9 * freedom) + 3.09 * math.sqrt(2 / (9 * freedom))) ** 3  # Wilson and Hilferty
    assert chi_square < quantile


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1, 2**63, 2**64 - 2])
def test_equal_seeds_draw_equally_and_neighbouring_seeds_and_choices_do_not(seed):
    def draws(seed, index):
        rng = random_numbers(seed, index)
        return [rng.random() for _ in range(4)]

    assert draws(seed, 0) == draws(seed, 0)
    assert draws(seed, 0) != draws(seed + 1, 0)  # beyond 2**53 these are one number in float64
    assert draws(seed, 0) != draws(seed, 1)
