"""GGUF blocks in the order of our kernels: the same integers and scales, so not one weight changes.

Q4_0 becomes q4; Q8_0, Q5_0 and Q3_K become q8; Q4_K, Q5_K and Q6_K have formats of their own (`ops/matrix.py`).

Why that is exact: q4 and q8 multiply a float16 scale with an integer in float32, as GGUF's types do. Q3_K multiplies
twice, (d * scale) * q, and as d has 11 bits, scale 6 and q 3, both products are exact in float32: d * (scale * q) is
the same number, and scale * q fits 8 bits. (It is -124..128. In a group that has 128 all signs are turned and the scale
is -d, as -128 never occurs.) A zero may change its sign.

All other types have 32 weights to an offset of their own, which none of our formats has, and take the way over float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmkit.errors import CheckpointError
from slmkit.ops.matrix import GGUF_FORMATS, TILE, Matrix
from slmkit.ops.pack import SCALE_NOT_FINITE
from slmkit.weights.gguf.blocks import BLOCKS, F16, U8, Fields, fields

# GGUF type -> the format that holds its numbers exactly
LOSSLESS: Mapping[str, str] = GGUF_FORMATS
# (rows of blocks, type, row length) -> Matrix: `repack` or its native twin
Repack = Callable[[U8, str, int], Matrix]


def repacker(ops: Any) -> Repack:
    """The ops' own `repack` where they have one; else the definition, which gives the same bytes."""
    fast: Repack = getattr(ops, "repack", repack)
    return fast


def repack(rows: U8, type: str, k: int) -> Matrix:
    """(n, row bytes) of a type in LOSSLESS -> the [n, k] Matrix of the same weights.

    Raises CheckpointError if a scale is not finite.
    """
    n = len(rows)
    assert rows.shape[1] * BLOCKS[type][0] == k * BLOCKS[type][1], f"{rows.shape} of {type} is no [n, {k}]"
    padded = np.zeros((-(-n // TILE) * TILE, rows.shape[1]), np.uint8)
    padded[:n] = rows
    parts = fields(padded.reshape(-1, TILE, rows.shape[1]), type)  # first axes: tiles, rows of a tile, blocks
    for d in (parts.d, parts.dmin):
        if d is not None and not np.isfinite(d).all():
            raise CheckpointError(SCALE_NOT_FINITE)
    format = LOSSLESS[type]
    if format == "q4":
        return Matrix(format, n, k, _nibbles(parts.q[..., 0, :]), _by_tile(parts.d))
    if format == "q8":
        q, d = _group_of_32(parts)
        return Matrix(format, n, k, _bytes_q8(q), _by_tile(d))
    return Matrix(format, n, k, _SUPERBLOCKS[format](parts))


def _by_tile(values: NDArray[Any]) -> NDArray[Any]:
    """(tiles, 16, groups, ...) -> (tiles, groups, ..., 16), contiguous."""
    return np.ascontiguousarray(np.moveaxis(values, 1, -1))


def _group_of_32(parts: Fields) -> tuple[NDArray[np.int8], F16]:
    """Integers (tiles, 16, groups, 32) and their scales (tiles, 16, groups)."""
    if parts.scale is None:
        q = parts.q.view(np.int8) - np.int8(parts.zero)
        return q[..., 0, :], parts.d
    t, r, b, _ = parts.scale.shape
    q = (parts.q.view(np.int8) - np.int8(parts.zero)).astype(np.int16)
    products = (parts.scale[..., None] * q).reshape(t, r, b * 8, 32)
    d = np.repeat(parts.d, 8, axis=-1)
    turned = products.max(-1) > 127
    return np.where(turned[..., None], -products, products).astype(np.int8), np.where(turned, -d, d)


def _bytes_q8(q: NDArray[np.int8]) -> NDArray[np.int8]:
    t, _, g, _ = q.shape
    return np.ascontiguousarray(q.reshape(t, TILE, g, 8, 4).transpose(0, 2, 3, 1, 4)).reshape(t, g, 512)


def _nibbles(q: U8) -> U8:
    """(tiles, 16, ..., 32) integers 0..15 -> (tiles, ..., 256) bytes, laid out as q4."""
    pieces = q.reshape(*q.shape[:-1], 4, 2, 4)
    both = pieces[..., 0, :] | (pieces[..., 1, :] << 4)
    ordered = np.ascontiguousarray(np.moveaxis(both, 1, -2))
    return ordered.reshape(*ordered.shape[:-3], 256)


def _q4_k(parts: Fields) -> U8:
    return _join(_with_minima(parts), [*_scales(parts), _nibbles(parts.q)])


def _q5_k(parts: Fields) -> U8:
    fifth = np.packbits(_by_piece(parts.q >> 4), axis=-2, bitorder="little")  # (t, 16, supers, 8, 1, 4)
    high = np.moveaxis(fifth[..., 0, :], 1, -2)  # (t, supers, 8, 16, 4)
    return _join(_with_minima(parts), [*_scales(parts), high.reshape(*high.shape[:-2], 64), _nibbles(parts.q & 15)])


def _q6_k(parts: Fields) -> U8:
    q = parts.q.reshape(*parts.q.shape[:-2], 8, 32)
    t, _, supers = q.shape[:3]
    top = _by_piece(q >> 4).reshape(t, 2, 8, supers, 8, 2, 4, 4)  # half, row, super, group, s, p mod 4, j
    four = top[..., 0, :] | (top[..., 1, :] << 2) | (top[..., 2, :] << 4) | (top[..., 3, :] << 6)
    high = four.transpose(0, 3, 4, 1, 5, 2, 6).reshape(t, supers, 8, 128)
    assert parts.scale is not None
    scales = _by_tile(parts.scale.view(np.uint8)).reshape(t, supers, 8, 32)
    return _join([parts.d], [scales, high, _nibbles(q & 15)])


def _by_piece(q: U8) -> U8:
    """(..., 32) inputs -> (..., 8, 4): input 4 p + j at p, j."""
    return q.reshape(*q.shape[:-1], 8, 4)


def _with_minima(parts: Fields) -> list[F16]:
    assert parts.dmin is not None
    return [parts.d, parts.dmin]


def _scales(parts: Fields) -> list[U8]:
    assert parts.scale is not None
    assert parts.minimum is not None
    return [_by_tile(parts.scale), _by_tile(parts.minimum)]


def _join(heads: list[F16], groups: list[U8]) -> U8:
    """Superblocks of a tile: float16s (tiles, 16, supers), then for each of 8 groups its bytes, side by side."""
    each = np.concatenate(groups, axis=-1)  # (tiles, supers, 8, bytes of a group)
    first = [_by_tile(head).view(np.uint8) for head in heads]
    return np.concatenate((*first, each.reshape(*each.shape[:2], -1)), axis=-1)


_SUPERBLOCKS: Mapping[str, Callable[[Fields], U8]] = {"q4_k": _q4_k, "q5_k": _q5_k, "q6_k": _q6_k}
