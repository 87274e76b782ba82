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
    processed,
    random_numbers,
    repetition_penalized,
    shape_logits,
)
from slmkit.errors import RequestError
from slmkit.ops.reference import draw
from slmkit.options import Options

# Multiples of 1/8, so that ties are common and sums exact
rows = st.lists(st.integers(-40, 40), min_size=1, max_size=12).map(lambda r: np.array(r, np.float32) / 8)


@given(rows, st.integers(1, 14))
def test_likeliest_orders_by_logit_and_then_by_id(row, k):
    assert likeliest(row, k).tolist() == sorted(range(len(row)), key=lambda i: (-row[i], i))[:k]


@given(rows)
def test_log_softmax_is_its_definition(row):
    x = row.astype(np.float64)
    np.testing.assert_allclose(log_softmax(row), x - np.log(np.exp(x).sum()), atol=1e-6)  # float32 of up to 12


def test_temperature_0_takes_the_lowest_id_among_the_likeliest():
    assert choose(np.array([0, 7, 7], np.float32), Options(temperature=0.0), np.random.default_rng(0), draw) == 1


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
    choose(shape_logits(row, [1, 2], 1, options, (greedy_writer,)), options, np.random.default_rng(0), draw)
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


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1, 2**63, 2**64 - 2])
def test_equal_seeds_draw_equally_and_neighbouring_seeds_and_choices_do_not(seed):
    def draws(seed, index):
        rng = random_numbers(seed, index)
        return [rng.random() for _ in range(4)]

    assert draws(seed, 0) == draws(seed, 0)
    assert draws(seed, 0) != draws(seed + 1, 0)  # beyond 2**53 these are one number in float64
    assert draws(seed, 0) != draws(seed, 1)
