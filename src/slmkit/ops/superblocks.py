"""The K formats to float32: the definition, in NumPy. Their bytes are described in matrix.py."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmkit.ops.matrix import GROUP, SUPER, TILE, Matrix

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

_NIBBLES = 256  # bytes of a group's low four bits


def unpack_superblocks(matrix: Matrix) -> F32:
    """The [n, k] float32 weights of a q4_k, q5_k or q6_k Matrix, rounded after each operation as written there."""
    t, s, _ = matrix.data.shape
    header = 32 if matrix.format == "q6_k" else 64
    d = matrix.data[..., :header].copy().view(np.float16).reshape(t, s, 1, -1, TILE).astype(np.float32)
    groups = matrix.data[..., header:].reshape(t, s, SUPER // GROUP, -1)
    small, high, nibbles = np.split(groups, (2 * TILE, groups.shape[-1] - _NIBBLES), axis=-1)
    small = small.reshape(t, s, SUPER // GROUP, 2, TILE)
    q = _nibbles(nibbles)
    if matrix.format == "q5_k":
        q |= _one_bit(high) << 4
    if matrix.format == "q6_k":
        q |= _two_bits(high) << 4
    with np.errstate(invalid="ignore"):  # an infinite d times 0 is the NaN that shows it
        if matrix.format == "q6_k":
            scale = (d * small.view(np.int8)).swapaxes(-1, -2).repeat(GROUP // 2, axis=-1)
            w = scale * (q.astype(np.float32) - np.float32(32))
        else:
            scale = d * small  # and dmin * min
            w = scale[..., 0, :, None] * q.astype(np.float32) - scale[..., 1, :, None]
    return np.ascontiguousarray(w.transpose(0, 3, 1, 2, 4)).reshape(t * TILE, matrix.k)[: matrix.n]


# Each takes [..., bytes] of a group and gives [..., 16, 32]: rows, inputs.


def _nibbles(both: U8) -> U8:
    rows = np.swapaxes(both.reshape(*both.shape[:-1], 4, TILE, 4), -3, -2)  # [..., 16, 4, 4]
    return np.stack((rows & 15, rows >> 4), axis=-2).reshape(*both.shape[:-1], TILE, GROUP)


def _one_bit(high: U8) -> U8:
    rows = high.reshape(*high.shape[:-1], TILE, 1, 4)
    return _shifted(rows, 8, 1).reshape(*high.shape[:-1], TILE, GROUP)


def _two_bits(high: U8) -> U8:
    halves = np.swapaxes(high.reshape(*high.shape[:-1], 2, 2, 8, 1, 4), -4, -3)  # [..., row half, row, s, 1, 4]
    return _shifted(halves, 4, 2).reshape(*high.shape[:-1], TILE, GROUP)


def _shifted(bytes_: NDArray[Any], pieces: int, bits: int) -> U8:
    """[..., 1, 4] bytes -> [..., pieces, 4]: piece p is bits p * bits and up."""
    shifts = (np.arange(pieces, dtype=np.uint8) * np.uint8(bits))[:, None]
    pieces_of: U8 = (bytes_ >> shifts) & np.uint8((1 << bits) - 1)
    return pieces_of
