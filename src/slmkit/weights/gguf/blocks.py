"""The quantized types of GGUF: what their bytes mean. The definition, in NumPy.

Blocks lie one after the other along a row. In every type a weight is

    d * scale * (q - zero)   or   d * scale * (q - zero) - dmin * minimum   or   d * q + m

with float16 d, dmin, m for a block, small integers scale and minimum for a group within it (K types), and a small
integer q for each weight. Bytes of a block, in order; low and high are the halves of a byte, H counts halves of 128
weights, j groups of 32, k = 0..3, l = 0..31:

    Q4_0    f16 d, u8 qs[16]           q[i] = low qs[i], q[16 + i] = high qs[i]; zero 8
    Q4_1    f16 d, f16 m, u8 qs[16]    as Q4_0, zero 0
    Q5_0    f16 d, u32 h, u8 qs[16]    as Q4_0, and bit i of h is worth 16 in q[i]; zero 16
    Q5_1    f16 d, f16 m, u32 h, u8 qs[16]    as Q5_0, zero 0
    Q8_0    f16 d, i8 q[32]
    Q2_K    u8 s[16], u8 qs[64], f16 d, f16 dmin
            q[128 H + 32 k + l] = bits 2 k, 2 k + 1 of qs[32 H + l]; groups of 16: scale low s, minimum high s
    Q3_K    u8 h[32], u8 qs[64], u8 s[12], f16 d
            as Q2_K, and bit 4 H + k of h[l] is worth 4; zero 4; scales of 16 weights, 6 bits less 32:
            low s[0..7], then high s[0..7], and for scale j the bits 2 (j // 4), + 1 of s[8 + j % 4], worth 16
    Q4_K    f16 d, f16 dmin, u8 s[12], u8 qs[128]
            q of groups 2 i and 2 i + 1: low and high qs[32 i + l]; eight scales and minima of 6 bits:
            for j < 4 the low 6 bits of s[j] and of s[j + 4];
            for j >= 4 low and high s[j + 4], and above them the two high bits of s[j - 4] and of s[j]
    Q5_K    f16 d, f16 dmin, u8 s[12], u8 h[32], u8 qs[128]    as Q4_K, and bit j of h[l] is worth 16
    Q6_K    u8 qs[128], u8 h[64], i8 scale[16], f16 d
            q[128 H + 32 k + l]: for k = 0, 1 low, for k = 2, 3 high qs[64 H + 32 (k % 2) + l],
            and the bits 2 k, 2 k + 1 of h[32 H + l], worth 16; zero 32; scales of 16 weights

Source: ggml-quants.c of https://github.com/ggml-org/llama.cpp; equal to its gguf-py to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[Any]  # of uint8: to the type checker a shift or mask by a plain number would make it another one
F16 = NDArray[np.float16]

# Type -> (weights of a block, which lie along a row; bytes of it).
BLOCKS: Mapping[str, tuple[int, int]] = {
    "Q4_0": (32, 18),
    "Q4_1": (32, 20),
    "Q5_0": (32, 22),
    "Q5_1": (32, 24),
    "Q8_0": (32, 34),
    "Q2_K": (256, 84),
    "Q3_K": (256, 110),
    "Q4_K": (256, 144),
    "Q5_K": (256, 176),
    "Q6_K": (256, 210),
}


class Fields(NamedTuple):
    """What blocks hold, taken apart. The first axes are those of the blocks.

    q: (..., groups, weights of a group), uint8, of Q8_0 int8.   d, dmin, m: (...).   scale, minimum: (..., groups).
    """

    q: NDArray[Any]
    d: F16
    zero: int = 0
    scale: NDArray[Any] | None = None
    dmin: F16 | None = None
    minimum: U8 | None = None
    m: F16 | None = None


def fields(rows: U8, type: str) -> Fields:
    """The fields of the blocks in rows of bytes: [..., row bytes] -> first axes [..., blocks of a row]."""
    return _FIELDS[type](rows.reshape(*rows.shape[:-1], -1, BLOCKS[type][1]))


def dequantize(rows: U8, type: str) -> NDArray[np.float32]:
    """The weights in rows of blocks: [..., row bytes] -> [..., row length]."""
    f = fields(rows, type)
    scale = f.d.astype(np.float32)[..., None]
    with np.errstate(invalid="ignore"):  # of an infinite d; whoever uses the weights refuses them
        if f.scale is not None:
            scale = scale * f.scale.astype(np.float32)
        w = scale[..., None] * (f.q.astype(np.float32) - np.float32(f.zero))
        if f.dmin is not None and f.minimum is not None:
            w -= (f.dmin.astype(np.float32)[..., None] * f.minimum.astype(np.float32))[..., None]
        if f.m is not None:
            w += f.m.astype(np.float32)[..., None, None]
    return w.reshape(*rows.shape[:-1], -1)


def _f16(b: U8) -> F16:
    return np.ascontiguousarray(b).view("<f2")[..., 0]


def _halves(b: U8) -> U8:
    """All low halves, then all high halves, along the last axis."""
    return np.concatenate((b & 15, b >> 4), axis=-1)


def _bits(b: U8, step: int) -> U8:
    """(..., n) -> (..., 8 / step, n): bits 0.. of all bytes, then the next ones."""
    shifts = np.arange(0, 8, step, dtype=np.uint8)[:, None]
    return (b[..., None, :] >> shifts) & np.uint8((1 << step) - 1)


def _q4_0(b: U8) -> Fields:
    return Fields(_halves(b[..., 2:])[..., None, :], _f16(b[..., :2]), 8)


def _q4_1(b: U8) -> Fields:
    return Fields(_halves(b[..., 4:])[..., None, :], _f16(b[..., :2]), m=_f16(b[..., 2:4]))


def _fifth(h: U8) -> U8:
    """Bit i of the four bytes, worth 16, as value i of 32."""
    return np.unpackbits(h, axis=-1, bitorder="little") << 4


def _q5_0(b: U8) -> Fields:
    return Fields((_halves(b[..., 6:]) | _fifth(b[..., 2:6]))[..., None, :], _f16(b[..., :2]), 16)


def _q5_1(b: U8) -> Fields:
    return Fields((_halves(b[..., 8:]) | _fifth(b[..., 4:8]))[..., None, :], _f16(b[..., :2]), m=_f16(b[..., 2:4]))


def _q8_0(b: U8) -> Fields:
    return Fields(b[..., None, 2:].view(np.int8), _f16(b[..., :2]))


def _twos(qs: U8) -> U8:
    """The 64 bytes of 2-bit integers of Q2_K and Q3_K -> (..., 16, 16)."""
    return _bits(qs.reshape(*qs.shape[:-1], 2, 32), 2).reshape(*qs.shape[:-1], 16, 16)


def _q2_k(b: U8) -> Fields:
    s = b[..., :16]
    return Fields(_twos(b[..., 16:80]), _f16(b[..., 80:82]), scale=s & 15, dmin=_f16(b[..., 82:84]), minimum=s >> 4)


def _q3_k(b: U8) -> Fields:
    high = _bits(b[..., :32], 1).reshape(*b.shape[:-1], 16, 16)
    s = b[..., 96:108]
    scale = _halves(s[..., :8]) | (_bits(s[..., 8:], 2).reshape(*b.shape[:-1], 16) << 4)
    return Fields(_twos(b[..., 32:96]) | (high << 2), _f16(b[..., 108:110]), 4, scale.view(np.int8) - np.int8(32))


def _sixes(s: U8) -> tuple[U8, U8]:
    """The eight scales and minima in the 12 bytes of Q4_K and Q5_K."""
    a, b, c = s[..., :4], s[..., 4:8], s[..., 8:]
    scale = np.concatenate((a & 63, (c & 15) | ((a >> 6) << 4)), axis=-1)
    minimum = np.concatenate((b & 63, (c >> 4) | ((b >> 6) << 4)), axis=-1)
    return scale, minimum


def _fours(qs: U8) -> U8:
    """The 128 bytes of 4-bit integers of Q4_K and Q5_K -> (..., 8, 32)."""
    return _halves(qs.reshape(*qs.shape[:-1], 4, 32)).reshape(*qs.shape[:-1], 8, 32)


def _q4_k(b: U8) -> Fields:
    scale, minimum = _sixes(b[..., 4:16])
    return Fields(_fours(b[..., 16:]), _f16(b[..., :2]), scale=scale, dmin=_f16(b[..., 2:4]), minimum=minimum)


def _q5_k(b: U8) -> Fields:
    scale, minimum = _sixes(b[..., 4:16])
    q = _fours(b[..., 48:]) | (_bits(b[..., 16:48], 1) << 4)
    return Fields(q, _f16(b[..., :2]), scale=scale, dmin=_f16(b[..., 2:4]), minimum=minimum)


def _q6_k(b: U8) -> Fields:
    low = _halves(b[..., :128].reshape(*b.shape[:-1], 2, 64)).reshape(*b.shape[:-1], 16, 16)
    high = _bits(b[..., 128:192].reshape(*b.shape[:-1], 2, 32), 2).reshape(*b.shape[:-1], 16, 16)
    return Fields(low | (high << 4), _f16(b[..., 208:]), 32, b[..., 192:208].view(np.int8))


_FIELDS: Mapping[str, Callable[[U8], Fields]] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}
