"""q4_s: 4-bit integers with 4-bit scales, from weights and back: the definition, in NumPy. matrix.py has its bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slmkit.ops.matrix import PART, SUPER, TILE, UNIT, Matrix

F32 = NDArray[np.float32]
I8 = NDArray[np.int8]


def pack_q4_s(w: F32) -> tuple[NDArray[np.uint8], bool]:
    """[n, k] weights -> the data of a q4_s Matrix, and whether every d is finite.

    d makes the scale of the superblock's largest weight -8, and of each part the scale is the one nearest to its signed
    largest weight / -8, so that this weight is met closely.
    """
    n, k = w.shape
    t, supers, units = -(-n // TILE), -(-k // SUPER), -(-k // UNIT)
    padded = np.zeros((t * TILE, supers * SUPER), np.float32)
    padded[:n, :k] = w
    parts = padded.reshape(t * TILE, supers, SUPER // PART, PART)
    largest = np.take_along_axis(parts, np.abs(parts).argmax(-1)[..., None], -1)[..., 0]
    top = np.take_along_axis(largest, np.abs(largest).argmax(-1)[..., None], -1)
    d = (top / np.float32(64)).astype(np.float16)
    step = d.astype(np.float32)
    scale = np.clip(np.rint(largest * _inverse(step) / np.float32(-8)), -8, 7)
    scale[scale == 0] = 1
    q = np.clip(np.rint(parts * _inverse(step * scale)[..., None]), -8, 7)
    data = _interleave(d[..., 0], scale.astype(np.int8), q.astype(np.int8), units)
    return data, bool(np.isfinite(d).all())


def unpack_q4_s(matrix: Matrix) -> F32:
    """The [n, k] float32 weights of a q4_s Matrix."""
    d, units = _streams(matrix)
    t = len(d)
    words = units[..., : 2 * TILE].copy().view(np.uint16)  # (t, units, 16)
    nibbles = words[..., None] >> np.array([0, 4, 8, 12], np.uint16) & 15
    scale = (nibbles.astype(np.int8) ^ 8) - 8
    both = units[..., 2 * TILE :].reshape(t, -1, 8, TILE, 4)
    q = np.stack((both & 15, both >> 4), axis=-2).astype(np.int8) - 8  # (t, units, 8, 16, 2, 4)
    q = q.transpose(0, 1, 3, 2, 4, 5).reshape(t, -1, TILE, UNIT // PART, PART)
    products = (scale[..., None] * q).astype(np.float32).reshape(t, -1, TILE, UNIT)
    step = d.astype(np.float32).repeat(SUPER // UNIT, axis=1)[:, : products.shape[1]]
    w = (step[..., None] * products).transpose(0, 2, 1, 3).reshape(t * TILE, -1)
    return np.ascontiguousarray(w[: matrix.n, : matrix.k])


def _inverse(x: F32) -> F32:
    return np.divide(np.float32(1), x, out=np.zeros_like(x), where=x != 0)


def _interleave(d: NDArray[np.float16], scale: I8, q: I8, units: int) -> NDArray[np.uint8]:
    """d (rows, supers), scale (rows, supers, 16), q (rows, supers, 16, 16) -> (tiles, bytes of a tile)."""
    rows, supers = d.shape
    t = rows // TILE
    shifts = np.array([0, 4, 8, 12], np.uint16)
    nibbles = (scale.reshape(rows, supers * 4, 4) & 15).astype(np.uint16) << shifts
    words = nibbles[..., 0] | nibbles[..., 1] | nibbles[..., 2] | nibbles[..., 3]
    words = words.reshape(t, TILE, -1).transpose(0, 2, 1)  # (t, units, 16)
    u = (q + 8).astype(np.uint8).reshape(t, TILE, supers * 4, 8, 2, 4)
    both = (u[..., 0, :] | (u[..., 1, :] << 4)).transpose(0, 2, 3, 1, 4)  # (t, units, 8, 16, 4)
    unit_bytes = np.concatenate((np.ascontiguousarray(words).view(np.uint8), both.reshape(t, supers * 4, -1)), axis=-1)
    header = np.ascontiguousarray(d.reshape(t, TILE, supers).transpose(0, 2, 1)).view(np.uint8)
    pieces = []
    for s in range(supers):
        pieces += [header[:, s], unit_bytes[:, 4 * s : min(4 * s + 4, units)].reshape(t, -1)]
    return np.concatenate(pieces, axis=-1)


def _streams(matrix: Matrix) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """d (tiles, supers, 16) and the bytes of the units (tiles, units, 544)."""
    unit = 2 * TILE + UNIT * TILE // 2
    whole = 2 * TILE + SUPER // UNIT * unit
    t = len(matrix.data)
    d, units = [], []
    for at in range(0, matrix.data.shape[1], whole):
        super_ = matrix.data[:, at : at + whole]
        d.append(super_[:, : 2 * TILE].copy().view(np.float16))
        units.append(super_[:, 2 * TILE :].reshape(t, -1, unit))
    return np.stack(d, axis=1), np.concatenate(units, axis=1)
