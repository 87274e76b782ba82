"""Linear: a checkpoint's [out, in] matrix applied to rows, with or without a bias."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slmkit.layers.fixed import fixed

if TYPE_CHECKING:
    from slmkit.ops.matrix import Matrix

F32 = NDArray[np.float32]


class Linear:
    """x -> x W^T + bias.   bias: (out,)."""

    def __init__(self, ops: Any, matrix: Matrix, bias: F32 | None = None) -> None:
        self.ops = ops
        self.weight = ops.prepare(matrix)
        self.bias = None if bias is None else fixed(bias)

    def __call__(self, x: F32) -> F32:  # (tokens, in) -> (tokens, out)
        out: F32 = self.ops.matmul(x, self.weight)
        return out if self.bias is None else self.ops.add_bias(out, self.bias)
