"""The definitions themselves, against formulas written another way."""

from __future__ import annotations

import numpy as np

from slmkit.ops import reference
from slmkit.ops.segments import Segments


def test_inputs_are_rounded_by_groups_of_32():
    x = np.zeros((1, 70), np.float32)
    x[0, 0], x[0, 1], x[0, 33] = 127, 1.5, -2
    q, scale = reference.quantize_rows(x)
    assert q.shape == (1, 3, 32)
    assert scale.tolist() == [[1, np.float32(2) / np.float32(127), 0]]
    assert q[0, 0, :2].tolist() == [127, 2]  # 1.5 is a tie and goes to even
    assert q[0, 1, 1] == -127


def test_a_group_with_a_nan_is_marked_and_holds_no_integers():
    x = np.ones((1, 64), np.float32)
    x[0, 3] = np.nan
    q, scale = reference.quantize_rows(x)
    assert np.isnan(scale[0, 0])
    assert (q[0, 0] == 0).all()
    assert (q[0, 1] == 127).all()


def test_attention_is_softmax_over_the_past_of_one_sequence():
    rng = np.random.default_rng(0)
    k, v, q = (rng.standard_normal((40, 1, 8), np.float32) for _ in range(3))
    cache = np.full((3, 1, 2, 1, 32 * 8), np.nan, np.float32)
    table = np.array([[2, 0]], np.int32)
    slots = np.concatenate((np.arange(64, 96), np.arange(8)))
    reference.write_cache(cache, 0, k, v, slots)
    segments = Segments(np.array([0, 40], np.int32), np.zeros(1, np.int32), table)
    out = reference.attention(q, cache, 0, segments, 0.5)
    for i in (0, 31, 39):
        p = np.exp(0.5 * k[: i + 1, 0] @ q[i, 0])
        np.testing.assert_allclose(out[i], (p / p.sum()) @ v[: i + 1, 0], rtol=2e-5)


def test_a_window_of_one_sees_itself_alone():
    v = np.arange(24, dtype=np.float32).reshape(3, 1, 8)
    cache = np.zeros((1, 1, 2, 1, 32 * 8), np.float32)
    reference.write_cache(cache, 0, v, v, np.arange(3))
    segments = Segments(np.array([0, 3], np.int32), np.zeros(1, np.int32), np.zeros((1, 1), np.int32))
    assert (reference.attention(v, cache, 0, segments, 1.0, window=1) == v[:, 0]).all()
