"""What rounding did to each matrix, measured while it is packed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from slmkit.ops.matrix import Matrix
from slmkit.ops.pack import as_f32, unpack


@dataclass
class Rounded:
    """One matrix. Errors are relative: root mean squares of the difference over those of the original.

    The output error is that of the products with the calibration's inputs, where there was a calibration.
    """

    name: str
    format: str
    n_weights: int = 0
    n_bytes: int = 0
    squares: float = 0.0
    squares_off: float = 0.0
    output_squares: float = 0.0
    output_squares_off: float = 0.0

    @property
    def bits(self) -> float:
        """Per weight, scales and padding included."""
        return 8 * self.n_bytes / self.n_weights

    @property
    def error(self) -> float:
        return float(np.sqrt(self.squares_off / self.squares)) if self.squares else 0.0

    @property
    def output_error(self) -> float | None:
        return float(np.sqrt(self.output_squares_off / self.output_squares)) if self.output_squares else None


class Measured:
    """A TensorSource that measures the rows packed through it.   rounded: of each matrix so far, by name."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self.rounded: dict[str, Rounded] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def pack_rows(self, name: str, rows: slice, format: str, ops: Any) -> Matrix:
        matrix: Matrix = self._source.pack_rows(name, rows, format, ops)
        w = as_f32(self._source.tensor(name)[rows])
        off = unpack(matrix) - w
        entry = self.rounded.setdefault(name, Rounded(name, format))
        entry.n_weights += w.size
        entry.n_bytes += matrix.nbytes
        entry.squares += float(np.vdot(w, w))
        entry.squares_off += float(np.vdot(off, off))
        gram = self._source.gram(name) if hasattr(self._source, "gram") else None
        if gram is not None:
            entry.output_squares += float(np.vdot(w @ gram, w))
            entry.output_squares_off += float(np.vdot(off @ gram, off))
        return matrix
