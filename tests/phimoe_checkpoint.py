"""The small stored phimoe checkpoint (tests/reference/make_phimoe.py), for tests that drive the forward pass."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

import tiny
from checkpoints import REFERENCE as PHI3
from checkpoints import Runner

if TYPE_CHECKING:
    from pathlib import Path

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


def write_folder(out: Path) -> Path:
    """The model as the hub lays it out, with a tokenizer."""
    out.mkdir()
    for file in REFERENCE.iterdir():
        if file.suffix != ".npz" and file.name != "made_by.json":
            (out / file.name).write_bytes(file.read_bytes())
    (out / "tokenizer.json").write_text(json.dumps(tiny.spec()))
    told = {"bos_token": "<s>", "eos_token": "<|endoftext|>", "chat_template": tiny.TEMPLATE}
    (out / "tokenizer_config.json").write_text(json.dumps(told))
    return out


@cache
def runner(kernels: str, quantize: str = "none", cache: str = "f32", blocks: int = 128) -> Runner:
    """One for all tests of a run; each test gives back the blocks it takes."""
    return Runner(REFERENCE, kernels, quantize, cache, blocks)
