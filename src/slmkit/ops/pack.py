"""Dense weights to the packed formats and back: the definition, in NumPy. `native` has the fast twin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmkit.errors import CheckpointError
from slmkit.ops.matrix import GROUP, SUPER_BYTES, TILE, Matrix, tiles
from slmkit.ops.q4_s import pack_q4_s, unpack_q4_s
from slmkit.ops.superblocks import unpack_superblocks

F32 = NDArray[np.float32]

NOT_FINITE = "the weights hold a NaN, an infinity or a number over 500000; the checkpoint is damaged"

SCALE_NOT_FINITE = "a block's scale is a NaN or an infinity; the file is damaged"


def as_f32(data: NDArray[Any]) -> F32:
    """float32 from float32, float16, or bfloat16 bits held as uint16 (a bfloat16 is the upper half of a float32)."""
    if data.dtype == np.uint16:
        return (data.astype(np.uint32) << 16).view(np.float32)
    return data.astype(np.float32, copy=False)


def pack(data: NDArray[Any], format: str) -> Matrix:
    """The [n, k] weights as a "q8", "q4" or "q4_s" (`q4_s.py`) Matrix.

    q8 takes the scale max|w| / 127. q4 starts at the signed largest weight / -8, so that it is met exactly, and refits
    the scale twice by least squares, sum(w q) / sum(q q), which lowers the squared error of random weights by 8 %.
    These sums are halving trees (i and i + 16, then i + 8, ...), so that the native twin gives the same bytes.
    Raises CheckpointError if a weight is not finite, or too large for a float16 scale.
    """
    n, k = data.shape
    if format == "q4_s":
        w = as_f32(data)
        with np.errstate(over="ignore"):
            packed, fits = pack_q4_s(w) if np.isfinite(w).all() else (None, False)
        if packed is None or not fits:
            raise CheckpointError(NOT_FINITE)
        return Matrix(format, n, k, packed)
    groups = _grouped(as_f32(data))
    if not np.isfinite(groups).all():
        raise CheckpointError(NOT_FINITE)
    with np.errstate(over="ignore"):  # a scale that overflows is refused below
        scale, q = _quantize_q8(groups) if format == "q8" else _quantize_q4(groups)
    if not np.isfinite(scale).all():
        raise CheckpointError(NOT_FINITE)
    return Matrix(format, n, k, _interleave(q, format), np.ascontiguousarray(scale.transpose(0, 2, 1)))


def packer(ops: Any) -> Callable[[NDArray[Any], str], Matrix]:
    """The kernels' own `pack` where they have one; else the definition, which gives the same bytes."""
    fast: Callable[[NDArray[Any], str], Matrix] = getattr(ops, "pack", pack)
    return fast


def unpack(matrix: Matrix) -> F32:
    """The [n, k] float32 weights that a Matrix stands for."""
    if matrix.format == "q4_s":
        return unpack_q4_s(matrix)
    if matrix.format in SUPER_BYTES:
        return unpack_superblocks(matrix)
    if matrix.scale is None:
        return as_f32(matrix.data)
    q = _deinterleave(matrix)
    w = q.astype(np.float32) * matrix.scale.astype(np.float32).transpose(0, 2, 1)[..., None]
    return np.ascontiguousarray(w.reshape(w.shape[0] * TILE, -1)[: matrix.n, : matrix.k])


def _grouped(w: F32) -> F32:
    """[n, k] -> [tiles, 16, groups, 32], padded with zeros."""
    n, k = w.shape
    t, g = tiles(n, k)
    padded = np.zeros((t * TILE, g * GROUP), np.float32)
    padded[:n, :k] = w
    return padded.reshape(t, TILE, g, GROUP)


def _quantize_q8(w: F32) -> tuple[NDArray[np.float16], NDArray[np.int8]]:
    scale = (np.abs(w).max(-1) / np.float32(127)).astype(np.float16)
    return scale, _round(w, scale, -127, 127)


def _quantize_q4(w: F32) -> tuple[NDArray[np.float16], NDArray[np.int8]]:
    largest = np.take_along_axis(w, np.abs(w).argmax(-1)[..., None], -1)[..., 0]
    scale = (largest / np.float32(-8)).astype(np.float16)
    for _ in range(2):
        q = _round(w, scale, -8, 7).astype(np.float32)
        squares = _tree(q * q)
        fitted = _tree(w * q) / np.where(squares > 0, squares, np.float32(1))
        scale = np.where(squares > 0, fitted, scale).astype(np.float16)
    return scale, _round(w, scale, -8, 7)


def _round(w: F32, scale: NDArray[np.float16], low: int, high: int) -> NDArray[np.int8]:
    s = scale.astype(np.float32)[..., None]
    inverse = np.divide(np.float32(1), s, out=np.zeros_like(s), where=s != 0)
    return np.clip(np.rint(w * inverse), low, high).astype(np.int8)


def _tree(v: F32) -> F32:
    """The sum over the last axis of 32, halves added until one is left."""
    while v.shape[-1] > 1:
        half = v.shape[-1] // 2
        v = v[..., :half] + v[..., half:]
    return v[..., 0]


def _interleave(q: NDArray[np.int8], format: str) -> NDArray[Any]:
    """[tiles, 16, groups, 32] integers -> the bytes described in matrix.py."""
    t, _, g, _ = q.shape
    if format == "q8":
        return np.ascontiguousarray(q.reshape(t, TILE, g, 8, 4).transpose(0, 2, 3, 1, 4)).reshape(t, g, 512)
    u = (q + 8).astype(np.uint8).reshape(t, TILE, g, 4, 2, 4)
    both = u[..., 0, :] | (u[..., 1, :] << 4)  # [t, 16, g, 4, 4]
    return np.ascontiguousarray(both.transpose(0, 2, 3, 1, 4)).reshape(t, g, 256)


def _deinterleave(matrix: Matrix) -> NDArray[np.int8]:
    t, g = tiles(matrix.n, matrix.k)
    if matrix.format == "q8":
        return matrix.data.reshape(t, g, 8, TILE, 4).transpose(0, 3, 1, 2, 4).reshape(t, TILE, g, GROUP)
    both = matrix.data.reshape(t, g, 4, TILE, 4).transpose(0, 3, 1, 2, 4)
    halves = np.stack((both & 15, both >> 4), axis=-2)  # [t, 16, g, 4, 2, 4]
    return (halves.astype(np.int8) - 8).reshape(t, TILE, g, GROUP)
