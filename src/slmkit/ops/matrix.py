"""A weight matrix in one of the formats that the kernels read, and what its bytes mean.

Every matrix is [n, k]: n outputs, k inputs, as in the checkpoint.

dense   "f32", "bf16", "f16": data (n, k) row-major, exactly as the checkpoint stores it, so it can stay mapped.
        bf16 is held as uint16: NumPy has no bfloat16.

packed  "q8", "q4": tiles of 16 rows by groups of 32 inputs; rows are padded to 16 and inputs to 32 with zero weights.
        scale  (tiles, groups, 16) float16: one scale for each row of the tile.
        weight[row, i] = scale[row] * integer[row, i]

        q8: data (tiles, groups, 512) int8, integers -127..127.
            byte 64 c + 4 r + j  holds  row r, input 4 c + j          c = 0..7, r = 0..15, j = 0..3
        q4: data (tiles, groups, 256) uint8, integers -8..7 stored with 8 added.
            byte 64 c + 4 r + j  holds  row r, inputs 8 c + j (low half) and 8 c + 4 + j (high half)
                                                                      c = 0..3, r = 0..15, j = 0..3

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
FORMATS = (*DENSE, *PACKED)


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
        if self.format in DENSE:
            self._check("data", self.data, (self.n, self.k), DENSE[self.format])
            return
        dtype, size = PACKED[self.format]
        self._check("data", self.data, (*tiles(self.n, self.k), size), dtype)
        self._check("scale", self.scale, (*tiles(self.n, self.k), TILE), np.float16)

    def _check(self, name: str, array: NDArray[Any] | None, shape: tuple[int, ...], dtype: Any) -> None:
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
