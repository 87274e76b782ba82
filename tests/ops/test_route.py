"""Sparsemixer routing, against worked values and between the definition and the kernels."""

from __future__ import annotations

import numpy as np
import pytest

from checkpoints import KERNELS
from slmkit.ops.choose import choose


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(
    ("scores", "chosen", "weights"),
    [
        # by transformers 4.46.3 and 5.23
        ([1, 0.99, 0.975, 0.2], [0, 1], [0.5025, 0.50375]),
        ([-1, -1.01, -3, -1.5], [0, 1], [0.5025, 1.0]),
        ([2, 1, 0.5, 0.1], [0, 1], [1, 1]),
        ([0.1, 0.5, 1, 2], [3, 2], [1, 1]),
        ([0, 0, 0, 0], [0, 1], [1 / 4, 1 / 3]),  # 0 / 0 drops nothing; of equal ones the first
    ],
)
def test_known_scores_give_known_experts_and_weights(kernels, scores, chosen, weights):
    found, by = choose(kernels, 1).route(np.array([scores], np.float32), 0.01)
    assert found.tolist() == [chosen]
    np.testing.assert_allclose(by[0], weights, rtol=1e-5)


@pytest.mark.parametrize("kernels", KERNELS)
def test_kernels_route_as_the_definition_does(kernels):
    rng = np.random.default_rng(5)
    scores = (rng.standard_normal((500, 16)) * 0.03 + rng.choice([-1, 0, 1], (500, 1))).astype(np.float32)
    chosen, weights = choose("reference").route(scores, 0.01)
    found, by = choose(kernels, 1).route(scores, 0.01)
    np.testing.assert_array_equal(found, chosen)
    np.testing.assert_allclose(by, weights, rtol=2e-6)  # sixteen terms, summed in another order


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_nan_among_the_scores_shows_in_the_weights(kernels):
    for place in range(4):
        scores = np.array([[1, 0.99, 0.98, 0.2]], np.float32)
        scores[0, place] = np.nan
        assert np.isnan(choose(kernels, 1).route(scores, 0.01)[1]).any()
