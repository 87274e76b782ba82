"""Opening the small stored checkpoints without the worker, for tests that drive the forward pass themselves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slmkit.engine.cache import Cache
from slmkit.engine.scheduler import Work
from slmkit.engine.step import forward
from slmkit.models.registry import architecture
from slmkit.ops.segments import BLOCK
from slmkit.weights.checkpoint import Checkpoint
from slmkit.weights.load import load_weights

REFERENCE = Path(__file__).parent / "reference" / "phi3"
CASES = json.loads((REFERENCE / "cases.json").read_text()) if (REFERENCE / "cases.json").exists() else {}


@dataclass(eq=False)
class Line:
    """A sequence as the forward pass sees it: no text, no sampling."""

    ids: list[int]
    blocks: list[int]
    n_cached: int = 0


class Runner:
    """A checkpoint, a kernel set and a cache; logits of prompts in any pieces and any company."""

    def __init__(self, folder: Path, ops: Any, quantize: str = "none", cache: str = "float32", blocks: int = 512):
        checkpoint = Checkpoint.open(folder)
        family = architecture(checkpoint.config)
        c = self.config = family.Config.from_dict(checkpoint.config)
        weights = load_weights(checkpoint, family.expected_tensors(c), quantize, ops=ops)
        self.model = family.MODEL(c, weights, ops)
        self.cache = Cache(blocks, c.num_hidden_layers, c.num_key_value_heads, c.head_dim, cache)

    def line(self, ids: Any) -> Line:
        """A sequence with blocks for all its ids."""
        ids = [int(i) for i in ids]
        return Line(ids, self.cache.take(-(-len(ids) // BLOCK)))

    def run(self, *work: tuple[Line, int]) -> np.ndarray:
        """One step; logits of the sequences that it completes."""
        return forward(self.model, self.cache, [Work(line, count) for line, count in work])

    def last_logits(self, ids: Any, piece: int | None = None) -> np.ndarray:
        """Logits after the last id, the prompt read in pieces of `piece` tokens."""
        line = self.line(ids)
        logits = np.empty(0)
        while line.n_cached < len(line.ids):
            logits = self.run((line, min(piece or len(line.ids), len(line.ids) - line.n_cached)))
        self.cache.release(line.blocks)
        return logits[0]

    def all_logits(self, ids: Any) -> np.ndarray:
        """Logits at every position of a prompt, from one step."""
        from slmkit.engine.step import assemble

        line = self.line(ids)
        ids, step = assemble([Work(line, len(line.ids))], self.cache)
        logits = self.model.logits(self.model.hidden(ids, step))
        self.cache.release(line.blocks)
        return logits
