"""How far 8-bit and 4-bit weights, and caches of 16 and 8 bits, take the logits from float32."""

from __future__ import annotations

import numpy as np
import pytest

from checkpoints import CASES, KERNELS, prompts, relative_errors, runner

# Mean and largest relative error of a row over the cases of up to 64 tokens, and about 1.6 times that as the bound.
# Random weights are the worst case: nothing in them is redundant, and the stored ones have sharp attention.
#
#              measured: mean of the worst case, largest row
# f16 cache    0.0006    0.0018     half precision has 11 bits: 2.4e-4 for each number in the cache
# q8 cache     0.013     0.037      a key or value is rounded to the largest of its head / 127
# q8           0.042     0.087      inputs and weights are rounded to max / 127 by groups of 32: 0.5 % each
# q4           0.36      0.86       a weight is rounded to max / 8: 8 % in each product; a wrong matrix gives 1.4
BOUNDS = {
    ("none", "f16"): (0.001, 0.003),
    ("none", "q8"): (0.021, 0.06),
    ("q8", "f16"): (0.065, 0.14),
    ("q4", "f16"): (0.55, 1.3),
}
SHORT = [name for name, case in CASES.items() if case["prompts"][-1]["length"] < 100]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(("quantize", "cache"), BOUNDS)
def test_quantized_logits_stay_within_the_bounds(quantize, cache, kernels):
    mean, largest = BOUNDS[quantize, cache]
    for name in SHORT:
        run = runner(name, kernels, quantize, cache)
        errors = np.concatenate([relative_errors(run.all_logits(i, at), row) for i, at, row in prompts(name)])
        assert errors.mean() < mean, name
        assert errors.max() < largest, name


@pytest.mark.parametrize("quantize", ["q8", "q4"])
def test_kernels_follow_the_definition_of_quantized_products(quantize):
    """Native and NumPy round the same numbers; a sum's last bit tips a rounding now and then, 3 % at the worst row."""
    for name in ("gqa", "odd-sizes", "tied"):
        for ids, at, _ in prompts(name)[:3]:
            reference = runner(name, "reference", quantize).all_logits(ids, at)
            for kernels in KERNELS:
                assert relative_errors(runner(name, kernels, quantize).all_logits(ids, at), reference).max() < 0.06
