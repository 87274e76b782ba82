"""Writes GGUF files, version 3, as `header.py` describes them; and float weights in the types it writes."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmkit.errors import CheckpointError
from slmkit.ops.matrix import GROUP, TILE, Matrix, tiles
from slmkit.ops.pack import NOT_FINITE, pack
from slmkit.untrusted import shown
from slmkit.weights.gguf.format import (
    ARRAY,
    BOOL,
    DEFAULT_ALIGNMENT,
    MAGIC,
    NUMBERS,
    SIZES,
    STRING,
    TENSOR_TYPES,
    VERSIONS,
    Value,
)
from slmkit.weights.stream import Place, TensorStream

# Type -> what its values, or the bytes of its blocks, are handed over as; a bfloat16 as its bits.
WRITTEN: Mapping[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "Q8_0": np.dtype("u1"),
    "Q4_0": np.dtype("u1"),
}
MOST_NAME_BYTES = 63  # what llama.cpp reads
PACKED = {"Q8_0": "q8", "Q4_0": "q4"}
_NUMBER_OF = {dtype: number for number, dtype in NUMBERS.items()}
_TENSOR_NUMBER_OF = {name: number for number, name in TENSOR_TYPES.items()}


class GGUFWriter(TensorStream):
    """Writes tensors one by one, in the order of the plan: see TensorStream.

    metadata: key -> value. A bool, an int (written as u32), a float (f32), a text, a list of texts, or a NumPy array
    or number, whose own type is kept.
    plan: (name, a type of WRITTEN, shape in torch's order) of each tensor; rows of Q8_0 and Q4_0 are a multiple of 32.
    Pieces to append are what `as_type` or `blocks_of` give.
    """

    def __init__(
        self,
        path: Path,
        metadata: Mapping[str, Value | np.generic],
        plan: Sequence[tuple[str, str, tuple[int, ...]]],
        waiting: Callable[[], None] | None = None,
    ) -> None:
        pairs = b"".join(_text(key) + _value(value) for key, value in metadata.items())
        places: dict[str, Place] = {}
        entries = b""
        end = 0  # of the data, without the header
        for name, type, shape in plan:
            assert name not in places, f"{name} is planned twice"
            weights, block_bytes = SIZES[type]
            assert shape[-1] % weights == 0, f"rows of {shape[-1]} in {name} are no multiple of {weights}"
            entries += _entry(name, type, shape, end)
            places[name] = Place(WRITTEN[type], end, end + math.prod(shape) // weights * block_bytes)
            end = _aligned(places[name].end)
        head = MAGIC + struct.pack("<IQQ", VERSIONS[-1], len(places), len(metadata)) + pairs + entries
        head += bytes(_aligned(len(head)) - len(head))
        placed = {name: Place(p.dtype, len(head) + p.start, len(head) + p.end) for name, p in places.items()}
        super().__init__(path, head, placed, len(head) + end, waiting)


def as_type(rows: NDArray[np.float32], type: str, pack: Callable[[Any, str], Matrix] = pack) -> NDArray[Any]:
    """float32 weights (n, k) as GGUFWriter takes them: (n, k) values, or (n, bytes of a row).

    Q8_0 and Q4_0 have the scales that `pack` chooses; BF16 is rounded to the nearest, ties to even.
    Raises CheckpointError if a weight is not finite or too large for the type.
    """
    if type in PACKED:
        return blocks_of(pack(rows, PACKED[type]))
    if not np.isfinite(rows).all():
        raise CheckpointError(NOT_FINITE)
    if type == "BF16":
        values = _bfloat16(rows)
        overflown = (values & 0x7F80) == 0x7F80
    else:
        with np.errstate(over="ignore"):
            values = rows.astype(WRITTEN[type])
        overflown = np.isinf(values)
    if overflown.any():
        raise CheckpointError(f"the weights hold a number that {type} cannot hold; write BF16 or F32")
    return values


def blocks_of(matrix: Matrix) -> NDArray[np.uint8]:
    """The rows (n, bytes of a row) of a q8 matrix as Q8_0, of a q4 one as Q4_0: the same integers and scales."""
    assert matrix.k % GROUP == 0
    assert matrix.scale is not None
    t, g = tiles(matrix.n, matrix.k)
    if matrix.format == "q8":
        q = matrix.data.view(np.uint8).reshape(t, g, 8, TILE, 4).transpose(0, 3, 1, 2, 4).reshape(t, TILE, g, 32)
    else:
        # of a row, byte 4 c + j holds inputs 8 c + j and 8 c + 4 + j
        both = matrix.data.reshape(t, g, 4, TILE, 4).transpose(0, 3, 1, 2, 4)
        halves = np.stack((both & 15, both >> 4), axis=-2).reshape(t, TILE, g, 2, 16)
        q = halves[..., 0, :] | (halves[..., 1, :] << 4)
    d = np.ascontiguousarray(matrix.scale.transpose(0, 2, 1)).view(np.uint8).reshape(t, TILE, g, 2)
    return np.concatenate((d, q), axis=-1).reshape(t * TILE, -1)[: matrix.n]


def _bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    bits = values.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)
    return (rounded >> 16).astype(np.uint16)


def _aligned(n: int) -> int:
    return -(-n // DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT


def _text(text: str) -> bytes:
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair: JSON can spell it
        raise CheckpointError(f"the text {shown(text)} is no Unicode; a GGUF file cannot hold it") from None
    return struct.pack("<Q", len(data)) + data


def _entry(name: str, type: str, shape: tuple[int, ...], offset: int) -> bytes:
    assert len(name.encode()) <= MOST_NAME_BYTES, f"{name} is too long a name for llama.cpp"
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
    return _text(name) + sizes + struct.pack("<IQ", _TENSOR_NUMBER_OF[type], offset)


def _value(value: Value | np.generic) -> bytes:
    """The type and the bytes of a value of the metadata."""
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _text(value)
    if isinstance(value, list):
        return struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join(map(_text, value))
    if isinstance(value, bool):
        return struct.pack("<I?", BOOL, value)
    if isinstance(value, int | float) and not isinstance(value, np.generic):
        assert isinstance(value, float) or 0 <= value < 2**32, f"{value} is no u32"
        value = np.uint32(value) if isinstance(value, int) else np.float32(value)
    array = np.asarray(value)
    assert array.ndim <= 1
    number = BOOL if array.dtype == np.bool_ else _NUMBER_OF[array.dtype.newbyteorder("<")]
    head = struct.pack("<IIQ", ARRAY, number, len(array)) if array.ndim else struct.pack("<I", number)
    return head + array.astype(array.dtype.newbyteorder("<")).tobytes()
