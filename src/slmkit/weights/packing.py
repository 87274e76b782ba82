"""A checkpoint's tensors into a packed file, a few rows at a time, so that memory does not grow with the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmkit.errors import CheckpointError
from slmkit.ops.matrix import TILE, Matrix
from slmkit.ops.pack import NOT_FINITE, as_f32
from slmkit.untrusted import shown
from slmkit.weights.packed import Formats
from slmkit.weights.safetensors import SafetensorsWriter
from slmkit.weights.telling import Progress, silent
from slmkit.weights.tensors import Shape, TensorSource

# What progress says is being done:
READING = "reading the weights"
PACKING = "packing the weights"
WAITING = "waiting for another process that packs this model"

# Weights packed at once. 1 M is as fast as it gets with the NumPy packer (47 M weights/s; 6 M at once: 9.5 M/s, as the
# intermediate arrays leave the processor's cache) and takes some 30 MB.
_AT_ONCE = 1 << 20


def pack_tensors(
    source: TensorSource,
    expected: Mapping[str, Shape],
    formats: Formats,
    writer: SafetensorsWriter,
    ops: Any = None,
    progress: Progress = silent,
) -> None:
    """Append every tensor that has a format to the writer, in that order.

    Raises StorageError, before any work, if the disk has no room; CheckpointError for weights that are no numbers.
    """
    writer.begin()
    total = sum(source.n_bytes(name) for name in formats)
    done = 0
    for name, format in formats.items():
        if format is None:
            writer.append(name, _vector(source, name))
        else:
            n, k = expected[name]
            scales = []
            rows = max(_AT_ONCE // k // TILE, 1) * TILE
            for i in range(0, n, rows):
                matrix = _pack_rows(source, name, slice(i, min(i + rows, n)), format, ops)
                writer.append(f"{name}.{format}", matrix.data)
                scales.append(matrix.scale)
                source.release(name)
                progress(PACKING, done + source.n_bytes(name) * i // n, total)
            for scale in scales:
                if scale is not None:
                    writer.append(f"{name}.scale", scale)
        done += source.n_bytes(name)
        source.release(name)
        progress(PACKING, done, total)


def _pack_rows(source: TensorSource, name: str, rows: slice, format: str, ops: Any) -> Matrix:
    try:
        return source.pack_rows(name, rows, format, ops)
    except CheckpointError as error:
        raise CheckpointError(f"tensor {shown(name)} in {source.where}: {error}") from None


def _vector(source: TensorSource, name: str) -> NDArray[np.float32]:
    vector = as_f32(source.tensor(name))
    if not np.isfinite(vector).all():
        raise CheckpointError(f"tensor {shown(name)} in {source.where}: {NOT_FINITE}")
    return vector
