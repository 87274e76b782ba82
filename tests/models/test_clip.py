"""The tower against `transformers` in float32 (tests/reference/make_clip.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slmkit.models import clip
from slmkit.ops.choose import available, choose
from slmkit.ops.matrix import Matrix

SMALL = clip.Config(hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4)


def run(work):
    pieces = 0
    while True:
        try:
            next(work)
            pieces += 1
        except StopIteration as end:
            return end.value, pieces


@pytest.mark.parametrize("kernels", available())
def test_features_are_those_of_transformers(kernels):
    stored = np.load(Path(__file__).parents[1] / "reference" / "clip.npz")
    held = {n: Matrix("f32", *stored[n].shape, stored[n]) if stored[n].ndim == 2 else stored[n]
            for n in clip.expected_tensors(SMALL, "")}  # fmt: skip
    tower = clip.Tower(SMALL, held, choose(kernels, 2), "")
    views = np.random.default_rng(7).standard_normal((2, 3, 336, 336)).astype(np.float32)
    found, pieces = run(tower.run(views))
    assert pieces == SMALL.used_layers == 3
    found = found.reshape(2, 576, 32)[:, stored["rows"]]
    errors = np.linalg.norm(found - stored["expected"], axis=-1) / np.linalg.norm(stored["expected"], axis=-1)
    assert errors.max() < 1e-5  # both float32; 7.4e-7 when it was stored, and at the published shape 6.6e-7
    if kernels != "reference":
        alone, _ = run(tower.run(views[1:]))
        np.testing.assert_array_equal(alone.reshape(576, 32)[stored["rows"]], found[1])  # a batch changes no bit
