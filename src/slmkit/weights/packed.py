"""A packed model file: a safetensors file whose tensors are the kernels' own bytes, so that loading is mapping.

A matrix NAME [n, k] is two tensors, laid out as `ops/matrix.py` says:

    NAME.q4     U8   (tiles, groups, 256)      or    NAME.q8    I8   (tiles, groups, 512)
    NAME.scale  F16  (tiles, groups, 16)

or one, in q4_s or a K format: NAME.q4_k  U8  (tiles, k / 256, 2368), and so on.

Anything else (norms) is F32 under its own name. The metadata has

    slmkit.layout          "2": the meaning of all this; another number is refused
    slmkit.quantization    the recipe below, or the types of the GGUF file that it holds
    slmkit.matrices        JSON {NAME: [format, n, k]}
    slmkit.source_sha256   of the weights it was made from (`fingerprint.py`)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmkit.errors import CheckpointError
from slmkit.ops.matrix import QUANTIZED, SUPER, SUPER_BYTES, Matrix, layout
from slmkit.untrusted import parse_json, shown
from slmkit.weights.expect import check_shapes
from slmkit.weights.header import DTYPES
from slmkit.weights.safetensors import SafetensorsFile
from slmkit.weights.tensors import Shape

LAYOUT = "2"
# Recipe -> format of the layers' matrices, format of embedding and head: those are the most sensitive to rounding.
RECIPES = {"q4": ("q4_s", "q8"), "q8": ("q8", "q8")}
# A router's scores decide which experts run at all, and it is a few thousandths of a layer: kept in float32.
ROUTERS = ".block_sparse_moe.gate.weight"
# Of the tower, too: 4 bits there move features by twelve times as much, for 0.2 GB less (docs/vision.md).
_VISION = "model.vision_embed_tokens."
TABLES = ("model.embed_tokens.weight", "lm_head.weight")
_DTYPES = {np.uint8: "U8", np.int8: "I8", np.float16: "F16"}

Tensor = Matrix | NDArray[np.float32]
Formats = Mapping[str, str | None]  # of the tensors in a packed file; None for float32


def is_packed(metadata: Mapping[str, str]) -> bool:
    """Whether a file with this metadata was written by slmkit, in whatever layout."""
    return "slmkit.layout" in metadata


def recipe_formats(expected: Mapping[str, Shape], quantization: str) -> dict[str, str | None]:
    """The format that the recipe gives to each tensor; None for what stays float32: all that is no matrix."""
    layers, others = RECIPES[quantization]

    def chosen(name: str, shape: Shape) -> str | None:
        if len(shape) != 2 or name.endswith((ROUTERS, "position_embedding.weight")):
            return None
        return others if name in TABLES or name.startswith(_VISION) else layers

    return {name: chosen(name, shape) for name, shape in expected.items()}


def packed_plan(expected: Mapping[str, Shape], formats: Formats) -> list[tuple[str, str, Shape]]:
    """(name, dtype, shape) of each tensor in the file, in order, for SafetensorsWriter."""
    plan: list[tuple[str, str, Shape]] = []
    for name, format in formats.items():
        plan += [(name, "F32", expected[name])] if format is None else _matrix_plan(name, format, expected[name])
    return plan


def packed_bytes(expected: Mapping[str, Shape], formats: Formats) -> int:
    """Bytes of the tensors that have a format, as they will be held."""
    plan = packed_plan(expected, formats)
    return sum(prod(shape) * np.dtype(DTYPES[dtype]).itemsize for _, dtype, shape in plan)


def packed_metadata(
    expected: Mapping[str, Shape], formats: Formats, quantization: str, source_sha256: str
) -> dict[str, str]:
    matrices = {name: [format, *expected[name]] for name, format in formats.items() if format}
    return {
        "slmkit.layout": LAYOUT,
        "slmkit.quantization": quantization,
        "slmkit.source_sha256": source_sha256,
        "slmkit.matrices": json.dumps(matrices, separators=(",", ":")),
    }


def read_packed(file: SafetensorsFile, expected: Mapping[str, Shape]) -> dict[str, Tensor]:
    """The tensors, mapped. Raises CheckpointError if they are not exactly those expected, or are of another layout."""
    version = file.metadata.get("slmkit.layout")
    if version != LAYOUT:
        raise CheckpointError(
            f"{file.path} is packed in layout {shown(version)}, this slmkit reads {LAYOUT}; "
            "quantize the original model again"
        )
    matrices = _matrices(file)
    stored = {name: shape for format, name, n, k in matrices for name, _, shape in _matrix_plan(name, format, (n, k))}
    plain = {name: info.shape for name, info in file.tensors.items() if name not in stored}
    found: dict[str, Tensor] = {}
    for format, name, n, k in matrices:
        found[name] = Matrix(format, n, k, *(_stored(file, *tensor) for tensor in _matrix_plan(name, format, (n, k))))
    check_shapes(expected, {name: (n, k) for _, name, n, k in matrices} | plain, file.path)
    for name, shape in plain.items():
        values = _stored(file, name, "F32", shape)
        found[name] = Matrix("f32", *shape, values) if len(shape) == 2 else values
    return {name: found[name] for name in expected}


def _matrix_plan(name: str, format: str, shape: Shape) -> list[tuple[str, str, Shape]]:
    arrays = layout(format, *shape)
    return [
        (f"{name}.{format if array == 'data' else array}", _DTYPES[dtype], stored)
        for array, (dtype, stored) in arrays.items()
    ]


def _matrices(file: SafetensorsFile) -> list[tuple[str, str, int, int]]:
    """(format, name, n, k) of each matrix, as the metadata has them."""
    raw = parse_json(file.metadata.get("slmkit.matrices", "").encode(), f"slmkit.matrices in {file.path}")
    for name, entry in raw.items():
        known = isinstance(entry, list) and len(entry) == 3 and isinstance(entry[0], str)
        known = known and entry[0] in QUANTIZED
        if (
            not known
            or not all(type(size) is int and 0 < size < 2**31 for size in entry[1:])
            or (entry[0] in SUPER_BYTES and entry[2] % SUPER)
        ):
            raise CheckpointError(
                f"{file.path} describes matrix {shown(name)} by {shown(entry)}; quantize the model again"
            )
    return [(entry[0], name, entry[1], entry[2]) for name, entry in raw.items()]


def _stored(file: SafetensorsFile, name: str, dtype: str, shape: Shape) -> NDArray[Any]:
    info = file.tensors.get(name)
    if info is None or (info.dtype, info.shape) != (dtype, shape):
        raise CheckpointError(
            f"tensor {shown(name)} in {file.path} is {'missing' if info is None else shown((info.dtype, info.shape))}, "
            f"where {shown((dtype, shape))} belongs; quantize the model again"
        )
    return file.tensor(name)
