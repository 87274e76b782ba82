"""The small stored phimoe checkpoint (tests/reference/make_phimoe.py), for tests that drive the forward pass."""

from __future__ import annotations

import json
from functools import cache

import numpy as np

from checkpoints import REFERENCE as PHI3
from checkpoints import Runner

REFERENCE = PHI3.parent / "phimoe"
LENGTHS = json.loads((REFERENCE / "made_by.json").read_text())["lengths"]


@cache
def stored() -> dict[str, np.ndarray]:
    with np.load(REFERENCE / "reference.npz") as arrays:
        return dict(arrays)


def prompts() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(ids, positions, logits at those positions) of each stored prompt."""
    arrays = stored()
    return [(arrays[f"prompt_{i}"], arrays[f"positions_{i}"], arrays[f"logits_{i}"]) for i in range(len(LENGTHS))]


@cache
def runner(kernels: str, quantize: str = "none", cache: str = "f32", blocks: int = 128) -> Runner:
    """One for all tests of a run; each test gives back the blocks it takes."""
    return Runner(REFERENCE, kernels, quantize, cache, blocks)
