"""q4_s with error feedback: the inputs still to be rounded take up what rounding the others did to the outputs.

For inputs x whose sum of products H = sum x x^T is known, rounding one column of the weights by e moves the outputs by
e x; the best answer of the columns after it is -e / U[i, i] * U[i, i + 1 :], with U the upper Cholesky factor of H^-1.
Source: GPTQ, arXiv 2210.17323, section 3.3 (columns in their own order, here with d and scales chosen on the way).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slmkit.ops.matrix import PART, SUPER, TILE, UNIT, Matrix
from slmkit.ops.q4_s import best_scales, interleave, rounded, scales_of

F32 = NDArray[np.float32]
# Added to the diagonal of H, as a share of its mean: what was not seen while calibrating still counts a little.
DAMPING = 0.1


def pack_with_feedback(w: F32, gram: F32) -> Matrix:
    """[n, k] weights -> a q4_s Matrix.   gram: [k, k], the sum of x x^T over the inputs seen.

    Takes 3 [k, k] and 3 [n, k] arrays of float32 beside its arguments. Not the same to the bit on every machine: the
    factor is LAPACK's.
    """
    n, k = w.shape
    d, scale, q = round_with_feedback(w, gram)
    return Matrix("q4_s", n, k, interleave(d, scale, q, -(-k // UNIT)))


def round_with_feedback(w: F32, gram: F32) -> tuple[NDArray[np.float16], NDArray[np.int8], NDArray[np.int8]]:
    """d (rows, supers), scales (rows, supers, 16) and integers (rows, supers, 16, 16); rows: n, filled up to tiles."""
    n, k = w.shape
    factor = _factor(gram)
    supers, rows = -(-k // SUPER), -(-n // TILE) * TILE
    left = np.zeros((supers * SUPER, rows), np.float32)  # transposed: columns are rounded one after the other
    left[:k, :n] = w.T
    d = np.zeros((rows, supers), np.float16)
    scale = np.ones((rows, supers, SUPER // PART), np.int8)
    q = np.zeros((rows, supers, SUPER // PART, PART), np.int8)
    for s in range(supers):
        end = min(k, SUPER * (s + 1))
        importance = np.zeros((SUPER // PART, PART), np.float32)
        importance.reshape(-1)[: end - SUPER * s] = 1 / factor.diagonal()[SUPER * s : end] ** 2
        parts = left[SUPER * s : SUPER * (s + 1)].T.reshape(rows, -1, PART)
        d[:, s], _ = best_scales(np.ascontiguousarray(parts), importance)
        errors = np.zeros((end - SUPER * s, rows), np.float32)
        for p in range(-(-(end - SUPER * s) // PART)):
            first = SUPER * s + PART * p
            last = min(first + PART, end)
            scale[:, s, p], q[:, s, p], off = _part(left, factor, first, last, d[:, s], importance[p])
            errors[first - SUPER * s : last - SUPER * s] = off
            left[last:end] -= factor[first:last, last:end].T @ off
        left[end:k] -= factor[SUPER * s : end, end:].T @ errors
    return d, scale, q


def _part(
    left: F32, factor: F32, first: int, last: int, d: NDArray[np.float16], importance: F32
) -> tuple[NDArray[np.int8], NDArray[np.int8], F32]:
    """Scales (rows,), integers (rows, 16), and the errors over the diagonal of the factor (inputs, rows)."""
    columns = left[first : first + PART]
    _, best = scales_of(np.ascontiguousarray(columns.T)[:, None], d, importance[None])
    by = d.astype(np.float32) * best[:, 0]
    q = np.zeros((PART, len(d)), np.int8)
    off = np.zeros((last - first, len(d)), np.float32)
    for i in range(last - first):
        x = rounded(columns[i][:, None], by)[:, 0]
        off[i] = (columns[i] - by * x) / factor[first + i, first + i]
        columns[i + 1 : last - first] -= np.outer(factor[first + i, first + i + 1 : last], off[i])
        q[i] = x
    return best[:, 0].astype(np.int8), q.T, off


def _factor(gram: F32) -> F32:
    """U, upper triangular, with U^T U = (gram + damping)^-1."""
    h = gram.astype(np.float64)
    diagonal = h.diagonal()
    h[np.diag_indices_from(h)] += DAMPING * max(float(diagonal.mean()), 1e-30)
    inverse = np.linalg.inv(h)
    return np.ascontiguousarray(np.linalg.cholesky((inverse + inverse.T) / 2).T.astype(np.float32))
