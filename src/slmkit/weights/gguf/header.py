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
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from slmkit.errors import CheckpointError, UnsupportedModel
from slmkit.untrusted import shown
from slmkit.weights.gguf.blocks import BLOCKS

Value = int | float | bool | str | list[str] | NDArray[Any]

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
# Published headers take up to 20 MB (vocabularies of 250,000 tokens with their merges), 70 pairs and 3,000 tensors.
MOST_HEADER_BYTES = 64 << 20
MOST_TEXT_BYTES = 16 << 20
MOST_TEXTS = 1 << 21
MOST_ENTRIES = 100_000

# (tensor type: values in a row that lie together, their bytes)
SIZES: Mapping[str, tuple[int, int]] = {"F32": (1, 4), "F16": (1, 2), "BF16": (1, 2), **BLOCKS}
# As ggml numbers them.
TENSOR_TYPES: Mapping[int, str] = {
    **dict(enumerate(["F32", "F16", "Q4_0", "Q4_1", "Q4_2", "Q4_3", "Q5_0", "Q5_1", "Q8_0", "Q8_1"])),
    **dict(enumerate(["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K"], 10)),
    **dict(enumerate(["IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS"], 16)),
    **dict(enumerate(["I8", "I16", "I32", "I64", "F64", "IQ1_M", "BF16"], 24)),
    **dict(enumerate(["Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8", "TQ1_0", "TQ2_0"], 31)),
    **dict(enumerate(["IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4", "NVFP4", "Q1_0"], 36)),
}
NUMBERS: Mapping[int, np.dtype[Any]] = {
    0: np.dtype("u1"),
    1: np.dtype("i1"),
    2: np.dtype("<u2"),
    3: np.dtype("<i2"),
    4: np.dtype("<u4"),
    5: np.dtype("<i4"),
    6: np.dtype("<f4"),
    10: np.dtype("<u8"),
    11: np.dtype("<i8"),
    12: np.dtype("<f8"),
}
BOOL, STRING, ARRAY = 7, 8, 9
_OLDER = {b"lmgg": "GGML", b"fmgg": "GGMF", b"tjgg": "GGJT", b"algg": "GGLA"}
_U32 = struct.Struct("<I").unpack
_U64 = struct.Struct("<Q").unpack


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
    reader = _Reader(file, file_bytes, path)
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


class _Reader:
    """Takes the header piece by piece, and no piece that the file does not hold.   subject: what is being read."""

    def __init__(self, file: IO[bytes], file_bytes: int, path: object) -> None:
        self._file, self.file_bytes, self.path = file, file_bytes, path
        self.at = 0
        self.subject = "its magic number"
        self._texts = 0
        self._end = min(file_bytes, MOST_HEADER_BYTES)

    def wrong(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.path} {what}; the file is damaged")

    def take(self, n: int) -> bytes:
        self.check_room(n)
        data = self._file.read(n)
        self.at += n
        self._check_whole()
        return data

    def check_room(self, n: int) -> None:
        """Raises CheckpointError unless the next n bytes can be part of the header."""
        if n <= self._end - self.at:
            return
        if n > self.file_bytes - self.at:
            raise CheckpointError(
                f"{self.path} has {self.file_bytes - self.at} bytes left where {self.subject} takes {n}: "
                "it is cut short or damaged, fetch it again"
            )
        raise CheckpointError(
            f"the header of {self.path} takes more than the {MOST_HEADER_BYTES} bytes that slmkit reads, "
            f"as {self.subject} shows; is it the right file?"
        )

    def u32(self) -> int:
        return int(_U32(self.take(4))[0])

    def u64(self) -> int:
        return int(_U64(self.take(8))[0])

    def count(self, what: str, smallest: int) -> int:
        """A number of things of `smallest` bytes at least, for which there is room."""
        n = self.u64()
        self.subject = f"{n} {what}"
        self.check_room(n * smallest)
        return n

    def text(self) -> str:
        return self.texts(1)[0]

    def texts(self, n: int) -> list[str]:
        """The next n texts. One loop without calls: a vocabulary has 200,000 of them."""
        self._texts += n
        if self._texts > MOST_TEXTS:
            raise self.wrong(f"has {self._texts} texts up to {self.subject}, where slmkit reads up to {MOST_TEXTS}")
        read, found = self._file.read, []
        try:
            for _ in range(n):
                length = int.from_bytes(read(8), "little")
                if length > MOST_TEXT_BYTES or self.at + 8 + length > self._end:
                    self._refuse_text(length)
                found.append(read(length).decode("utf-8"))
                self.at += 8 + length
        except UnicodeDecodeError:
            raise self.wrong(f"has in {self.subject} a text that is not UTF-8") from None
        self._check_whole()
        return found

    def _refuse_text(self, length: int) -> None:
        self.check_room(8)
        if length <= MOST_TEXT_BYTES:
            self.check_room(8 + length)
        raise self.wrong(f"has in {self.subject} a text of {length} bytes, over the {MOST_TEXT_BYTES} of any")

    def _check_whole(self) -> None:
        """Raises CheckpointError if fewer bytes came than were there."""
        if self._file.tell() != self.at:
            raise CheckpointError(f"{self.path} became shorter while it was being read; fetch it again")


def _check_version(magic: bytes, reader: _Reader) -> None:
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


def _new_name(what: str, known: Mapping[str, Any], reader: _Reader) -> str:
    reader.subject = f"the name of {what} {len(known) + 1}"
    name = reader.text()
    if name in known:
        raise reader.wrong(f"has the {what} {shown(name)} twice")
    reader.subject = f"{what} {shown(name)}"
    return name


def _value(reader: _Reader) -> Value:
    kind = reader.u32()
    if kind == STRING:
        return reader.text()
    if kind == ARRAY:
        return _array(reader)
    value = _numbers(kind, 1, reader)[0].item()
    assert isinstance(value, int | float)
    return value


def _array(reader: _Reader) -> list[str] | NDArray[Any]:
    kind = reader.u32()
    subject = reader.subject
    if kind == ARRAY:
        raise UnsupportedModel(f"{reader.path} has in {subject} an array of arrays; slmkit reads flat ones")
    if kind not in NUMBERS and kind not in (BOOL, STRING):
        raise reader.wrong(f"has in {subject} an array of the unknown type {kind}")
    n = reader.count(f"elements of {subject}", 8 if kind == STRING else 1)
    reader.subject = subject
    return reader.texts(n) if kind == STRING else _numbers(kind, n, reader)


def _numbers(kind: int, n: int, reader: _Reader) -> NDArray[Any]:
    """n numbers or truth values, read-only."""
    if kind == BOOL:
        values = np.frombuffer(reader.take(n), np.uint8)
        if n and values.max() > 1:
            raise reader.wrong(f"has in {reader.subject} a {values.max()} where 0 or 1 belongs")
        return values.view(np.bool_)
    if kind not in NUMBERS:
        raise reader.wrong(f"has in {reader.subject} a value of the unknown type {kind}")
    return np.frombuffer(reader.take(n * NUMBERS[kind].itemsize), NUMBERS[kind])


def _entry(reader: _Reader) -> tuple[str, tuple[int, ...], int]:
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
    name: str, entry: tuple[str, tuple[int, ...], int], data_start: int, alignment: int, reader: _Reader
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
