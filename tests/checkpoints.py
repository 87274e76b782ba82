"""Opening the small stored checkpoints without the worker, for tests that drive the forward pass themselves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slmkit.backends.adapters import adapted
from slmkit.engine.cache import Cache
from slmkit.engine.images import PromptImages
from slmkit.engine.memory import layout_of
from slmkit.engine.scheduler import Work
from slmkit.engine.step import assemble, forward
from slmkit.models.registry import architecture
from slmkit.ops.choose import available, choose
from slmkit.ops.segments import BLOCK
from slmkit.weights.checkpoint import Checkpoint
from slmkit.weights.load import load_weights
from slmkit.weights.lora.adapter import open_adapter

if TYPE_CHECKING:
    from collections.abc import Mapping

REFERENCE = Path(__file__).parent / "reference" / "phi3"
CASES: dict[str, Any] = {case["name"]: case for case in json.loads((REFERENCE / "cases.json").read_text())["cases"]}
KERNELS = available()
NATIVE = [name for name in KERNELS if name != "reference"]


@cache
def stored(name: str) -> dict[str, np.ndarray]:
    """The arrays of a case, by the names that tests/reference/README.md gives."""
    with np.load(REFERENCE / CASES[name]["reference"]) as arrays:
        return dict(arrays)


def prompts(name: str) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(ids, positions, logits at those positions) of each stored prompt."""
    arrays = stored(name)
    keys = [prompt["key"] for prompt in CASES[name]["prompts"]]
    return [(arrays[f"prompt_{k}"], arrays[f"positions_{k}"], arrays[f"logits_{k}"]) for k in keys]


def relative_errors(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a - b| / |b| of each row."""
    return np.linalg.norm(a - b, axis=-1) / np.linalg.norm(b, axis=-1)


@dataclass(eq=False)
class Line:
    """A sequence as the forward pass sees it: no text, no sampling."""

    ids: list[int]
    blocks: list[int]
    n_cached: int = 0
    images: PromptImages | None = None
    adapter: str = ""
    reader: None = None


class Runner:
    """A checkpoint, a kernel set and a cache; logits of prompts in any pieces and any company."""

    def __init__(
        self,
        folder: Path,
        kernels: str,
        quantize: str = "none",
        cache: str = "f32",
        blocks: int = 512,
        adapters: Mapping[str, Path] | None = None,
    ) -> None:
        checkpoint = Checkpoint.open(folder)
        family = architecture(checkpoint.config)
        c = self.config = family.Config.from_dict(checkpoint.config)
        ops = choose(kernels, 2)
        weights = load_weights(checkpoint, family.expected_tensors(c), quantize, ops=ops)
        expected = family.expected_tensors(c)
        expected.setdefault("lm_head.weight", expected["model.embed_tokens.weight"])
        opened = {name: open_adapter(path, expected, "it", "") for name, path in (adapters or {}).items()}
        self.model = family.MODEL(c, weights, adapted(ops, opened, weights, c))
        layout = layout_of(c)
        blocks *= len(layout.strands)
        self.cache = Cache(blocks, layout.layers, layout.kv_heads, layout.head_dim, cache, layout.strands)

    def line(self, ids: Any, adapter: str = "") -> Line:
        """A sequence with blocks for all its ids."""
        ids = [int(i) for i in ids]
        return Line(ids, self.cache.take(-(-len(ids) // BLOCK) * self.cache.n_strands), adapter=adapter)

    def run(self, *work: tuple[Line, int]) -> np.ndarray:
        """One step; logits of the sequences that it completes."""
        return forward(self.model, self.cache, [Work(line, count) for line, count in work])  # type: ignore[arg-type]

    def last_logits(self, ids: Any, piece: int | None = None, adapter: str = "") -> np.ndarray:
        """Logits after the last id, the prompt read in pieces of `piece` tokens."""
        line = self.line(ids, adapter)
        logits = np.empty(0)
        while line.n_cached < len(line.ids):
            logits = self.run((line, min(piece or len(line.ids), len(line.ids) - line.n_cached)))
        self.cache.release(line.blocks)
        return logits[0]

    def all_logits(self, ids: Any, positions: Any = slice(None)) -> np.ndarray:
        """Logits at the positions of a prompt, from one step."""
        line = self.line(ids)
        ids, step = assemble([Work(line, len(line.ids))], self.cache)  # type: ignore[arg-type]
        logits = self.model.logits(self.model.hidden(ids, step)[positions])
        self.cache.release(line.blocks)
        return logits


@cache
def runner(name: str, kernels: str, quantize: str = "none", cache: str = "f32") -> Runner:
    """One for all tests of a run; each test gives back the blocks it takes."""
    return Runner(REFERENCE / CASES[name]["folder"], kernels, quantize, cache)
