"""Norms: rows brought to one size, then scaled by a learned weight for each feature."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmkit.layers.fixed import fixed

F32 = NDArray[np.float32]


class RMSNorm:
    """x * weight / sqrt(mean(x^2) + eps).   Source: arXiv 1910.07467."""

    def __init__(self, ops: Any, weight: F32, eps: float) -> None:
        self.ops = ops
        self.weight = fixed(weight)
        self.eps = eps

    def __call__(self, x: F32) -> F32:  # (tokens, dim)
        out: F32 = self.ops.rms_norm(x, self.weight, self.eps)
        return out


class LayerNorm:
    """(x - mean(x)) / sqrt(variance(x) + eps) * weight + bias.   Source: arXiv 1607.06450."""

    def __init__(self, ops: Any, weight: F32, bias: F32, eps: float) -> None:
        self.ops = ops
        self.weight, self.bias = fixed(weight), fixed(bias)
        self.eps = eps

    def __call__(self, x: F32) -> F32:  # (tokens, dim)
        out: F32 = self.ops.layer_norm(x, self.weight, self.bias, self.eps)
        return out
