"""q4_s: 4-bit integers with 4-bit scales, from weights and back: the definition, in NumPy. matrix.py has its bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slmkit.ops.matrix import PART, SUPER, TILE, UNIT, Matrix

F32 = NDArray[np.float32]
I8 = NDArray[np.int8]


# d as a share of what would take the largest weight to -8 * -8, and how far from largest / 8 a part's scale is tried.
# More of either lowers the error of random weights by under 1 %; without the last offset it grows by 3 %.
_SHARES = (0.8, 0.9, 1.0, 1.1)
_OFFSETS = (-1, 0, 1)


def pack_q4_s(w: F32) -> tuple[NDArray[np.uint8], bool]:
    """[n, k] weights -> the data of a q4_s Matrix, and whether every d is finite.

    Of several d, and for each of several scales of a part with both signs, those of the least squared error; then d is
    refitted by least squares to the products found, and kept if the error of its own best scales is smaller still.
    Sums are halving trees (i and i + n / 2, then i + n / 4, ...), so that the native twin gives the same bytes.
    """
    n, k = w.shape
    t, supers, units = -(-n // TILE), -(-k // SUPER), -(-k // UNIT)
    padded = np.zeros((t * TILE, supers * SUPER), np.float32)
    padded[:n, :k] = w
    with np.errstate(over="ignore", invalid="ignore"):  # of a d beyond float16, which the caller refuses
        d, scale = best_scales(padded.reshape(-1, SUPER // PART, PART))
        q = rounded(padded.reshape(-1, SUPER // PART, PART), d.astype(np.float32)[:, None] * scale)
    shape = (t * TILE, supers)
    data = interleave(d.reshape(shape), scale.astype(np.int8).reshape(*shape, -1),
                       q.astype(np.int8).reshape(*shape, SUPER // PART, PART), units)  # fmt: skip
    return data, bool(np.isfinite(d).all())


def best_scales(parts: F32, importance: F32 | None = None) -> tuple[NDArray[np.float16], F32]:
    """d (supers,) and the scales (supers, 16) of superblocks (supers, 16, 16).

    importance: (16, 16), what a squared error of each input counts; all alike if None.
    """
    w = parts.reshape(len(parts), -1)
    top = np.take_along_axis(w, np.abs(w).argmax(-1)[:, None], -1)[:, 0]
    d = (top * np.float32(_SHARES[0] / 64)).astype(np.float16)
    error, scale = scales_of(parts, d, importance)
    for share in _SHARES[1:]:
        d, scale, error = _better(parts, (top * np.float32(share / 64)).astype(np.float16), d, scale, error, importance)
    products = (scale[..., None] * rounded(parts, d.astype(np.float32)[:, None] * scale)).reshape(w.shape)
    weighted = products if importance is None else products * importance.reshape(-1)
    squares = _tree(weighted * products)
    fitted = (_tree(w * weighted) / np.where(squares > 0, squares, np.float32(1))).astype(np.float16)
    d, scale, _ = _better(parts, np.where(squares > 0, fitted, d), d, scale, error, importance)
    return d, scale


def scales_of(parts: F32, d: NDArray[np.float16], importance: F32 | None = None) -> tuple[F32, F32]:
    """For given d (supers,): the least error found of each superblock, and its scales (supers, parts)."""
    step = d.astype(np.float32)[:, None]
    near = np.rint(np.abs(parts).max(-1) * np.abs(_inverse(step)) * np.float32(0.125))
    least, best = np.full_like(near, np.inf), np.ones_like(near)
    for offset in _OFFSETS:
        for sign in (1, -1):
            scale = np.clip(np.float32(sign) * np.maximum(near + np.float32(offset), 1), -8, 7)
            by = step * scale
            off = parts - by[..., None] * rounded(parts, by)
            error = _tree(off * off if importance is None else off * off * importance)
            better = error < least
            least, best = np.where(better, error, least), np.where(better, scale, best)
    return _tree(least), best


def _better(
    parts: F32, new: NDArray[np.float16], d: NDArray[np.float16], scale: F32, error: F32, importance: F32 | None
) -> tuple[NDArray[np.float16], F32, F32]:
    """The new d and its scales where their error is less, else the old."""
    new_error, new_scale = scales_of(parts, new, importance)
    better = new_error < error
    return np.where(better, new, d), np.where(better[:, None], new_scale, scale), np.where(better, new_error, error)


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


def rounded(parts: F32, by: F32) -> F32:
    """parts / by to the nearest integers -8..7, ties to even; 0 where by is."""
    integers: F32 = np.clip(np.rint(parts * _inverse(by)[..., None]), -8, 7)
    return integers


def _inverse(x: F32) -> F32:
    return np.divide(np.float32(1), x, out=np.zeros_like(x), where=x != 0)


def _tree(v: F32) -> F32:
    """The sum over the last axis, halves added until one is left."""
    while v.shape[-1] > 1:
        half = v.shape[-1] // 2
        v = v[..., :half] + v[..., half:]
    return v[..., 0]


def interleave(d: NDArray[np.float16], scale: I8, q: I8, units: int) -> NDArray[np.uint8]:
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
