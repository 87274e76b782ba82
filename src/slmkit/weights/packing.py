"""A checkpoint's tensors into a packed file, a few rows at a time, so that memory does not grow with the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmkit.errors import CheckpointError
from slmkit.ops.matrix import TILE, Matrix
from slmkit.ops.pack import as_f32, pack
from slmkit.weights.checkpoint import Checkpoint
from slmkit.weights.expect import Shape
from slmkit.weights.packed import packed_format
from slmkit.weights.safetensors import SafetensorsWriter
from slmkit.weights.untrusted import shown

# (dense rows, format) -> Matrix: `slmkit.ops.pack.pack` or its native twin
Pack = Callable[[NDArray[Any], str], Matrix]
# (what is being done: "reading", "packing" or "waiting"; bytes done; bytes in all)
Progress = Callable[[str, int, int], None]

# Weights packed at once. 1 M is as fast as it gets with the NumPy packer (47 M weights/s; 6 M at once: 9.5 M/s, as the
# intermediate arrays leave the processor's cache) and takes some 30 MB.
_AT_ONCE = 1 << 20
# The bits of a number's exponent, all set for infinities and what is no number, and an integer type to see them.
_EXPONENT = {"F32": (np.uint32, 0x7F800000), "F16": (np.uint16, 0x7C00), "BF16": (np.uint16, 0x7F80)}


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

    Raises CheckpointError for weights that are not finite or too large, StorageError if the disk fails.
    """
    pack = packer(ops)
    total = sum(checkpoint.n_bytes(name) for name in expected)
    done = 0
    for name, shape in expected.items():
        format = packed_format(name, shape, quantization)
        if format is None:
            _check_finite(checkpoint.tensor(name), name, checkpoint)
            writer.append(name, as_f32(checkpoint.tensor(name)))
        else:
            scales = []
            rows = max(_AT_ONCE // shape[1] // TILE, 1) * TILE
            for i in range(0, shape[0], rows):
                data, scale = _pack_rows(checkpoint, name, slice(i, i + rows), format, pack)
                writer.append(f"{name}.{format}", data)
                scales.append(scale)
                checkpoint.release(name)
                progress("packing", done + checkpoint.n_bytes(name) * i // shape[0], total)
            for scale in scales:
                writer.append(f"{name}.scale", scale)
        done += checkpoint.n_bytes(name)
        checkpoint.release(name)
        progress("packing", done, total)


def _pack_rows(checkpoint: Checkpoint, name: str, rows: slice, format: str, pack: Pack
) -> tuple[NDArray[Any], NDArray[np.float16]]:
    dense = checkpoint.tensor(name)[rows]
    _check_finite(dense, name, checkpoint)
    with np.errstate(over="ignore", invalid="ignore"):  # a scale beyond float16 is found on the next line
        matrix = pack(dense, format)
    assert matrix.scale is not None
    if not np.isfinite(matrix.scale).all():
        raise CheckpointError(
            f"tensor {shown(name)} in {checkpoint.folder} has weights too large for {format}; load it with quantize none"
        )
    return matrix.data, matrix.scale


def _check_finite(dense: NDArray[Any], name: str, checkpoint: Checkpoint) -> None:
    integer, exponent = _EXPONENT[checkpoint.dtype(name)]
    if ((dense.view(integer) & exponent) == exponent).any():
        raise CheckpointError(
            f"tensor {shown(name)} in {checkpoint.folder} has weights that are infinite or no numbers; fetch it again"
        )
