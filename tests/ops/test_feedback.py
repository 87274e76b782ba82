"""Rounding with error feedback: against a plain formulation, and by what it is for, the error of the outputs."""

from __future__ import annotations

import numpy as np
import pytest

from slmkit.ops.feedback import DAMPING, pack_with_feedback, round_with_feedback
from slmkit.ops.pack import pack, unpack

SHAPES = [(9, 16), (16, 17), (1, 255), (20, 256), (17, 272), (33, 600)]


def case(n, k, tokens=2000):
    """Weights, and inputs whose features go together, as those of layers do."""
    rng = np.random.default_rng(n * k)
    x = rng.standard_normal((tokens, max(4, k // 4)), np.float32) @ rng.standard_normal((max(4, k // 4), k), np.float32)
    return rng.standard_normal((n, k), np.float32), x + 0.3 * rng.standard_normal((tokens, k), np.float32)


def output_error(w, matrix, x):
    return np.linalg.norm(x @ (unpack(matrix) - w).T) / np.linalg.norm(x @ w.T)


@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_outputs_are_nearer_than_without_feedback(n, k):
    w, x = case(n, k)
    plain, ours = (output_error(w, m, x) for m in (pack(w, "q4_s"), pack_with_feedback(w, x.T @ x)))
    assert ours < 0.85 * plain


@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_inputs_that_do_not_go_together_leave_nothing_to_feed_back(n, k):
    w, _ = case(n, k)
    assert pack_with_feedback(w, np.eye(k, dtype=np.float32)).data.tobytes() == pack(w, "q4_s").data.tobytes()


@pytest.mark.parametrize(("n", "k"), [(4, 16), (6, 48), (3, 300)])
def test_each_column_takes_up_what_the_optimal_surgeon_gives_it(n, k):
    """Optimal brain surgeon, one column at a time in float64: after column i is rounded by e, the others move by
    -e H^-1[i, j] / H^-1[i, i], and column i leaves H^-1."""
    w, x = case(n, k)
    d, scale, q = round_with_feedback(w, x.T @ x)
    steps = (d.astype(np.float64)[..., None] * scale).repeat(16, -1).reshape(len(d), -1)[:n, :k]
    ours = q.reshape(len(d), -1)[:n, :k]
    h = (x.T @ x).astype(np.float64)
    inverse = np.linalg.inv(h + DAMPING * h.diagonal().mean() * np.eye(k))
    left, same = w.astype(np.float64), 0
    for i in range(k):
        same += int((np.clip(np.rint(left[:, i] / steps[:, i]), -8, 7) == ours[:, i]).sum())
        error = left[:, i] - steps[:, i] * ours[:, i]
        left -= np.outer(error, inverse[i] / inverse[i, i])
        inverse -= np.outer(inverse[:, i], inverse[i]) / inverse[i, i]
    assert same >= 0.995 * n * k  # a number half way between two, by float32's last bits


def test_inputs_never_seen_and_rows_of_zeros_are_numbers():
    w, x = case(20, 256)
    x[:, 7:90] = 0
    w[3] = 0
    for gram in (x.T @ x, np.zeros((256, 256), np.float32)):
        found = unpack(pack_with_feedback(w, gram))
        assert np.isfinite(found).all()
        assert not found[3].any()
        assert np.linalg.norm(found - w) < 0.4 * np.linalg.norm(w)
