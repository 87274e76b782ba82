"""A checkpoint's tensors into a packed file, a few rows at a time, so that memory does not grow with the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmkit.errors import CheckpointError
from slmkit.ops.matrix import TILE, Matrix
from slmkit.ops.pack import NOT_FINITE, as_f32, pack
from slmkit.untrusted import shown
from slmkit.weights.checkpoint import Checkpoint
from slmkit.weights.expect import Shape
from slmkit.weights.packed import packed_format
from slmkit.weights.safetensors import SafetensorsWriter

# (dense rows, format) -> Matrix: `slmkit.ops.pack.pack` or its native twin
Pack = Callable[[NDArray[Any], str], Matrix]
# (what is being done, for people: one of the three below; bytes done; bytes in all)
Progress = Callable[[str, int, int], None]
READING = "reading the weights"
PACKING = "packing the weights"
WAITING = "waiting for another process that packs this model"

# Weights packed at once. 1 M is as fast as it gets with the NumPy packer (47 M weights/s; 6 M at once: 9.5 M/s, as the
# intermediate arrays leave the processor's cache) and takes some 30 MB.
_AT_ONCE = 1 << 20


def silent(stage: str, done: int, total: int) -> None:
    """The progress that nobody watches."""


def packer(ops: Any) -> Pack:
    """The ops' own `pack` where they have one; else the definition, which gives the same bytes."""
    fast: Pack = getattr(ops, "pack", pack)
    return fast


def pack_tensors(
    checkpoint: Checkpoint,
    expected: Mapping[str, Shape],
    quantization: str,
    writer: SafetensorsWriter,
    ops: Any = None,
    progress: Progress = silent,
) -> None:
    """Append every expected tensor to the writer, in that order.

    Raises StorageError, before any work, if the disk has no room; CheckpointError for weights that are no numbers.
    """
    pack = packer(ops)
    writer.begin()
    total = sum(checkpoint.n_bytes(name) for name in expected)
    done = 0
    for name, shape in expected.items():
        format = packed_format(name, shape, quantization)
        if format is None:
            writer.append(name, _vector(checkpoint, name))
        else:
            scales = []
            rows = max(_AT_ONCE // shape[1] // TILE, 1) * TILE
            for i in range(0, shape[0], rows):
                data, scale = _pack_rows(checkpoint, name, slice(i, i + rows), format, pack)
                writer.append(f"{name}.{format}", data)
                scales.append(scale)
                checkpoint.release(name)
                progress(PACKING, done + checkpoint.n_bytes(name) * i // shape[0], total)
            for scale in scales:
                writer.append(f"{name}.scale", scale)
        done += checkpoint.n_bytes(name)
        checkpoint.release(name)
        progress(PACKING, done, total)


def _pack_rows(
    checkpoint: Checkpoint, name: str, rows: slice, format: str, pack: Pack
) -> tuple[NDArray[Any], NDArray[np.float16]]:
    try:
        matrix = pack(checkpoint.tensor(name)[rows], format)
    except CheckpointError as error:
        raise CheckpointError(f"tensor {shown(name)} in {checkpoint.folder}: {error}") from None
    assert matrix.scale is not None
    return matrix.data, matrix.scale


def _vector(checkpoint: Checkpoint, name: str) -> NDArray[np.float32]:
    vector = as_f32(checkpoint.tensor(name))
    if not np.isfinite(vector).all():
        raise CheckpointError(f"tensor {shown(name)} in {checkpoint.folder}: {NOT_FINITE}")
    return vector
