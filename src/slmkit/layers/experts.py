"""The experts of one layer: many gated MLPs, of which each token passes through a few."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slmkit.layers.linear import Linear
from slmkit.layers.lora import rows_of

if TYPE_CHECKING:
    from slmkit.ops.matrix import Matrix
    from slmkit.weights.resident import Resident

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class ExpertWeights:
    """The matrices of one expert, under the checkpoint's names: gate, down, up."""

    w1: Matrix
    w2: Matrix
    w3: Matrix


class Expert:
    """down(silu(gate x) * up x)."""

    def __init__(self, ops: Any, weights: ExpertWeights) -> None:
        self.gate, self.down, self.up = (Linear(ops, m) for m in (weights.w1, weights.w2, weights.w3))
        self.ops = ops

    def __call__(self, x: F32) -> F32:  # (tokens, hidden)
        return self.down(self.ops.silu_mul(np.concatenate((self.gate(x), self.up(x)), axis=1)))


class Experts:
    """Each token's own experts, summed with its weights.

    Tokens are gathered by expert, so that an expert's matrices are read once for all of a step's tokens. A token's
    result depends on itself alone: rows of a product do not know of each other, and the sum is in the order of choice.
    resident: told which experts come next, where memory is bounded (weights/resident.py).
    """

    def __init__(self, ops: Any, weights: Sequence[ExpertWeights], layer: int) -> None:
        self.experts = [Expert(ops, one) for one in weights]
        self.ops, self.weights, self.layer = ops, tuple(weights), layer
        self.resident: Resident[tuple[int, int]] | None = None

    def __call__(self, x: F32, chosen: NDArray[np.int32], weights: F32) -> F32:
        """x: (tokens, hidden).   chosen, weights: (tokens, choices), as `ops.route` gives them."""
        used = np.unique(chosen)
        if self.resident is not None:
            self.resident.use([(self.layer, int(expert)) for expert in used])
        parts = np.empty((*chosen.shape, x.shape[1]), np.float32)
        for expert in used:
            rows, turns = np.nonzero(chosen == expert)
            with rows_of(self.ops, rows):
                parts[rows, turns] = self.experts[expert](x[rows])
        out = weights[:, :1] * parts[:, 0]
        for turn in range(1, chosen.shape[1]):
            out += weights[:, turn, None] * parts[:, turn]
        return out
