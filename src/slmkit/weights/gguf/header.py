"""The header of a GGUF file: read and checked against the file's size before anything is taken for granted.

A file is, little-endian throughout:

    "GGUF", u32 version, u64 tensors, u64 pairs
    pairs:    string key, u32 type, value         string: u64 bytes, UTF-8; array: u32 type, u64 length, elements
    tensors:  string name, u32 dimensions, u64 sizes (the fastest first), u32 type, u64 offset
    zeros up to a multiple of general.alignment (32 if not said); the data, where the offsets count from

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Versions 2 and 3 differ in nothing that is read here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from slmkit.errors import CheckpointError, UnsupportedModel
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
from slmkit.weights.gguf.reader import HeaderReader

# Published headers have up to 70 pairs and 3,000 tensors.
MOST_ENTRIES = 100_000
_OLDER = {b"lmgg": "GGML", b"fmgg": "GGMF", b"tjgg": "GGJT", b"algg": "GGLA"}


@dataclass(frozen=True)
class GGUFTensor:
    """What a tensor is and where it lies.

    type: "F32", "Q4_K", ...   shape: in torch's order, a matrix is [out, in].   start: its first byte in the file.
    """

    type: str
    shape: tuple[int, ...]
    start: int
    n_bytes: int


@dataclass(frozen=True)
class GGUFHeader:
    """A checked header. metadata: arrays of numbers as read-only NumPy arrays, of strings as lists."""

    metadata: Mapping[str, Value]
    tensors: Mapping[str, GGUFTensor]


def read_header(file: IO[bytes], file_bytes: int, path: object) -> GGUFHeader:
    """The header that an open file of that size begins with.

    Raises CheckpointError for anything that does not add up, UnsupportedModel for versions and types not read here.
    OSError is the caller's.
    """
    reader = HeaderReader(file, file_bytes, path)
    _check_version(reader.take(4), reader)
    n_tensors = reader.count("tensors", 8 + 4 + 8 + 4 + 8)
    n_pairs = reader.count("metadata", 8 + 4 + 1)
    for n, what in ((n_tensors, "tensors"), (n_pairs, "metadata keys")):
        if n > MOST_ENTRIES:
            raise reader.wrong(f"has {n} {what}, where slmkit reads up to {MOST_ENTRIES}")
    metadata: dict[str, Value] = {}
    for _ in range(n_pairs):
        key = _new_name("metadata key", metadata, reader)
        metadata[key] = _value(reader)
    entries: dict[str, tuple[str, tuple[int, ...], int]] = {}
    for _ in range(n_tensors):
        name = _new_name("tensor", entries, reader)
        entries[name] = _entry(reader)
    alignment = _alignment(metadata, path)
    data_start = -(-reader.at // alignment) * alignment
    tensors = {name: _placed(name, entry, data_start, alignment, reader) for name, entry in entries.items()}
    _check_apart(tensors, path)
    return GGUFHeader(metadata, tensors)


def _check_version(magic: bytes, reader: HeaderReader) -> None:
    if magic in _OLDER:
        raise UnsupportedModel(
            f"{reader.path} is a {_OLDER[magic]} file, which GGUF replaced in 2023; fetch the model as GGUF"
        )
    if magic != MAGIC:
        raise CheckpointError(f"{reader.path} is no GGUF file: it begins with {shown(magic)}, not {MAGIC!r}")
    version = reader.u32()
    if version & 0xFFFF == 0:  # how 1, 2 or 3 looks in the other order of bytes
        raise UnsupportedModel(
            f"{reader.path} is a big-endian GGUF file; slmkit reads little-endian ones, fetch such a one"
        )
    if version not in VERSIONS:
        raise UnsupportedModel(
            f"{reader.path} is GGUF version {version}; slmkit reads versions 2 and 3, convert or fetch it anew"
        )


def _new_name(what: str, known: Mapping[str, Any], reader: HeaderReader) -> str:
    reader.subject = f"the name of {what} {len(known) + 1}"
    name = reader.text()
    if name in known:
        raise reader.wrong(f"has the {what} {shown(name)} twice")
    reader.subject = f"{what} {shown(name)}"
    return name


def _value(reader: HeaderReader) -> Value:
    kind = reader.u32()
    if kind == STRING:
        return reader.text()
    if kind == ARRAY:
        return _array(reader)
    value = _numbers(kind, 1, reader)[0].item()
    assert isinstance(value, int | float)
    return value


def _array(reader: HeaderReader) -> list[str] | NDArray[Any]:
    kind = reader.u32()
    subject = reader.subject
    if kind == ARRAY:
        raise UnsupportedModel(f"{reader.path} has in {subject} an array of arrays; slmkit reads flat ones")
    if kind not in NUMBERS and kind not in (BOOL, STRING):
        raise reader.wrong(f"has in {subject} an array of the unknown type {kind}")
    n = reader.count(f"elements of {subject}", 8 if kind == STRING else 1)
    reader.subject = subject
    return reader.texts(n) if kind == STRING else _numbers(kind, n, reader)


def _numbers(kind: int, n: int, reader: HeaderReader) -> NDArray[Any]:
    """n numbers or truth values, read-only."""
    if kind == BOOL:
        values = np.frombuffer(reader.take(n), np.uint8)
        if n and values.max() > 1:
            raise reader.wrong(f"has in {reader.subject} a {values.max()} where 0 or 1 belongs")
        return values.view(np.bool_)
    if kind not in NUMBERS:
        raise reader.wrong(f"has in {reader.subject} a value of the unknown type {kind}")
    return np.frombuffer(reader.take(n * NUMBERS[kind].itemsize), NUMBERS[kind])


def _entry(reader: HeaderReader) -> tuple[str, tuple[int, ...], int]:
    """(type, shape, offset) of the tensor that is being read."""
    n_dims = reader.u32()
    if not 1 <= n_dims <= 4:
        raise reader.wrong(f"has in {reader.subject} {n_dims} dimensions, where 1 to 4 are allowed")
    shape = tuple(reader.u64() for _ in range(n_dims))[::-1]
    if 0 in shape:
        raise reader.wrong(f"has in {reader.subject} the shape {shape}, with a dimension of 0")
    kind = reader.u32()
    name = TENSOR_TYPES.get(kind, "")
    if name not in SIZES:
        which = f"the type {name}" if name else f"the unknown type {kind}"
        raise UnsupportedModel(
            f"{reader.path} has in {reader.subject} {which}; slmkit reads {', '.join(SIZES)}: fetch the model in one "
            "of those, such as Q4_K_M"
        )
    if shape[-1] % SIZES[name][0]:
        raise reader.wrong(f"has in {reader.subject} rows of {shape[-1]}, no multiple of {name}'s {SIZES[name][0]}")
    return name, shape, reader.u64()


def whole_number(metadata: Mapping[str, Value], key: str, path: object) -> int | None:
    """None if there is no such key. Raises CheckpointError if it holds anything else than a whole number."""
    value = metadata.get(key)
    if value is not None and type(value) is not int:
        raise CheckpointError(f"{path} has a {key} that is no whole number; the file is damaged")
    return value


def _alignment(metadata: Mapping[str, Value], path: object) -> int:
    value = whole_number(metadata, "general.alignment", path)
    if value is None:
        return DEFAULT_ALIGNMENT
    if not 0 < value <= 1 << 20 or value & (value - 1):
        raise CheckpointError(
            f"{path} has the general.alignment {value}, which is no power of two up to a million; the file is damaged"
        )
    return value


def _placed(
    name: str, entry: tuple[str, tuple[int, ...], int], data_start: int, alignment: int, reader: HeaderReader
) -> GGUFTensor:
    kind, shape, offset = entry
    weights, block_bytes = SIZES[kind]
    n_bytes = math.prod(shape) // weights * block_bytes
    if offset % alignment:
        raise reader.wrong(f"has tensor {shown(name)} at byte {offset}, no multiple of its alignment {alignment}")
    if data_start + offset + n_bytes > reader.file_bytes:
        raise CheckpointError(
            f"tensor {shown(name)} in {reader.path}, {kind} of shape {shown(shape)}, ends at byte "
            f"{data_start + offset + n_bytes} of {reader.file_bytes}: the file is cut short or damaged, fetch it again"
        )
    return GGUFTensor(kind, shape, data_start + offset, n_bytes)


def _check_apart(tensors: Mapping[str, GGUFTensor], path: object) -> None:
    """Raises CheckpointError if two tensors share bytes."""
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].start):
        if tensor.start < end:
            raise CheckpointError(f"tensor {shown(name)} in {path} overlaps the one before it; the file is damaged")
        end = tensor.start + tensor.n_bytes
