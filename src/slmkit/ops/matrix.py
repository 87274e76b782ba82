"""A weight matrix in one of the formats that the kernels read, and what its bytes mean.

Every matrix is [n, k]: n outputs, k inputs, as in the checkpoint.

dense   "f32", "bf16", "f16": data (n, k) row-major, exactly as the checkpoint stores it, so it can stay mapped.
        bf16 is held as uint16: NumPy has no bfloat16.

packed  "q8", "q4": tiles of 16 rows by groups of 32 inputs; rows are padded to 16 and inputs to 32 with zero weights.
        scale  (tiles, groups, 16) float16: one scale for each row of the tile.
        weight[row, i] = scale[row] * integer[row, i]

        q8: data (tiles, groups, 512) int8, integers -128..127; our own packer writes -127..127.
            byte 64 c + 4 r + j  holds  row r, input 4 c + j          c = 0..7, r = 0..15, j = 0..3
        q4: data (tiles, groups, 256) uint8, integers -8..7 stored with 8 added.
            byte 64 c + 4 r + j  holds  row r, inputs 8 c + j (low half) and 8 c + 4 + j (high half)
                                                                      c = 0..3, r = 0..15, j = 0..3

q4_s    4-bit integers with 4-bit scales, 4.3 bits a weight. Data (tiles, bytes of a tile) uint8, no scale array; rows
        are padded to 16 and inputs to 64 with zero weights. A tile is a stream over its inputs: each 256 of them begin
        with 16 float16 d, then each 64 (a unit) have 16 uint16 of scales and 512 bytes of nibbles.
        weight[row, i] = d[row] * (scale[row, i // 16] * integer[row, i])    the product in brackets is -56..64: 8 bits
            scales: bits 4 j of row r's uint16 are that of the unit's inputs 16 j .. 16 j + 15, -8..7, two's complement
            nibbles: byte 64 c + 4 r + j holds row r, inputs 8 c + j (low half) and 8 c + 4 + j (high half),
            integers -8..7 stored with 8 added                        c = 0..7, r = 0..15, j = 0..3

K       "q4_k", "q5_k", "q6_k": what GGUF's types of these names hold, to the bit. One stream of superblocks of 16 rows
        by 256 inputs: data (tiles, k / 256, size) uint8, no scale array; rows are padded to 16 with zero bytes, and k
        must be a multiple of 256. A superblock is its 16-bit scales, then 8 groups of 32 inputs, each 32 bytes of 8-bit
        scales, the high bits, and 256 bytes of nibbles laid out as q4 (nothing added).

        q4_k, q5_k: weight[row, i] = (d * scale) * integer[row, i] - (dmin * min), integers from 0.
            16 float16 d, 16 float16 dmin; in a group 16 uint8 scale, 16 uint8 min.
            high bits, q5_k only, 64 bytes: byte 32 h + 4 r + j has in bit p bit 4 of input 4 p + j of row 8 h + r
                                                                      h = 0..1, r = 0..7, j = 0..3, p = 0..7
        q6_k: weight[row, i] = (d * scale) * (integer[row, i] - 32).
            16 float16 d; in a group 16 int8 scale of inputs 0..15, 16 int8 scale of inputs 16..31.
            high bits, 128 bytes: byte 64 h + 32 s + 4 r + j has in bits 2 p, 2 p + 1 bits 4, 5 of input 16 s + 4 p + j
            of row 8 h + r                                            h, s = 0..1, r = 0..7, j = 0..3, p = 0..3

Four inputs of sixteen rows fill one 512-bit register: one VNNI instruction (or two AVX2 pairs) multiplies them with
four inputs of one token, and each lane stays one output. So a sum over the inputs never crosses lanes, its order never
depends on the instruction set, and no horizontal addition is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from slmkit.errors import ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

TILE = 16  # rows of a tile: the 32-bit lanes of a 512-bit register
GROUP = 32  # inputs that share a scale
DENSE = {"f32": np.float32, "bf16": np.uint16, "f16": np.float16}
PACKED = {"q8": (np.int8, 512), "q4": (np.uint8, 256)}
SUPER = 256  # inputs of a superblock of q4_s and the K formats
UNIT, PART = 64, 16  # inputs of a unit of q4_s, and those that share a scale
SUPER_BYTES = {"q4_k": 2368, "q5_k": 2880, "q6_k": 3360}
QUANTIZED = (*PACKED, "q4_s", *SUPER_BYTES)
FORMATS = (*DENSE, *QUANTIZED)
# GGUF type -> the format that holds its numbers exactly (weights/gguf/repack.py has the definition)
GGUF_FORMATS = {
    "Q4_0": "q4",
    "Q5_0": "q8",
    "Q8_0": "q8",
    "Q3_K": "q8",
    "Q4_K": "q4_k",
    "Q5_K": "q5_k",
    "Q6_K": "q6_k",
}


Stored = tuple[Any, tuple[int, ...]]  # dtype and shape of an array


@dataclass(frozen=True)
class Matrix:
    """A weight matrix [n, k]; see the head of this file for the formats."""

    format: str
    n: int
    k: int
    data: NDArray[Any]
    scale: NDArray[np.float16] | None = None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ShapeError(f"{self.format!r} is no matrix format; there are {', '.join(FORMATS)}")
        stored = layout(self.format, self.n, self.k)
        self._check("data", self.data, stored["data"])
        if "scale" in stored:
            self._check("scale", self.scale, stored["scale"])
        elif self.scale is not None:
            raise ShapeError(f"a {self.format} matrix has no scale array; scale must be None")

    def _check(self, name: str, array: NDArray[Any] | None, stored: Stored) -> None:
        dtype, shape = stored
        if array is None or array.shape != shape or array.dtype != dtype:
            given = "none" if array is None else f"{array.dtype} {array.shape}"
            raise ShapeError(
                f"a {self.format} matrix [{self.n}, {self.k}] has {name} {np.dtype(dtype)} {shape}, not {given}"
            )

    @property
    def nbytes(self) -> int:
        """Bytes that one pass over the matrix reads."""
        return int(self.data.nbytes) + (0 if self.scale is None else int(self.scale.nbytes))


def tiles(n: int, k: int) -> tuple[int, int]:
    """(row tiles, input groups) of a packed [n, k] matrix."""
    return -(-n // TILE), -(-k // GROUP)


def layout(format: str, n: int, k: int) -> dict[str, Stored]:
    """The arrays of an [n, k] matrix, "data" and where the format has one "scale".   Raises ShapeError."""
    t, g = tiles(n, k)
    if format in DENSE:
        return {"data": (DENSE[format], (n, k))}
    if format == "q4_s":
        return {"data": (np.uint8, (t, -(-k // SUPER) * 2 * TILE + -(-k // UNIT) * (2 * TILE + UNIT * TILE // 2)))}
    if format in SUPER_BYTES:
        if k % SUPER:
            raise ShapeError(f"a {format} matrix has a multiple of {SUPER} inputs, not {k}")
        return {"data": (np.uint8, (t, k // SUPER, SUPER_BYTES[format]))}
    dtype, size = PACKED[format]
    return {"data": (dtype, (t, g, size)), "scale": (np.float16, (t, g, TILE))}
