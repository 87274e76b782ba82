"""The header of a safetensors file: read and checked, or planned and written.

A file is: 8 bytes, the header's length as a little-endian unsigned integer; the header, a JSON object
{name: {"dtype", "shape", "data_offsets": [start, end]}, "__metadata__": {text: text}} with spaces after it allowed;
the data. Offsets count from the end of the header. The tensors fill the data with no hole and no overlap: the official
library refuses anything else, and so do we. Source: https://github.com/huggingface/safetensors, "Format".
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from slmkit.errors import CheckpointError
from slmkit.untrusted import parse_json, shown

# bfloat16 is held as its bits, in uint16: NumPy has no bfloat16.
DTYPES: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
ALIGNMENT = 64  # bytes: a cache line and an AVX-512 register
MOST_HEADER_BYTES = 8 << 20  # 100,000 tensors; parsed, it takes 200 MB at worst
_MOST_DIMENSIONS = 32
_MOST_BYTES = 1 << 62
_PADDING = "__padding__."
_METADATA = "__metadata__"
_FIELDS = {"dtype", "shape", "data_offsets"}


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies: bytes start..end of the data, counted from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """A checked header. data_start: where in the file the data begins."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    data_start: int


def parse_header(data: bytes, data_start: int, file_bytes: int, path: object) -> Header:
    """The header that `data` spells. Raises CheckpointError for anything that does not add up to the file's size."""
    raw = parse_json(data, f"the header of {path}")
    metadata = _metadata(raw.pop(_METADATA, {}), path)
    tensors = {name: _tensor(name, entry, path) for name, entry in raw.items()}
    _check_filled(tensors, file_bytes - data_start, path)
    kept = {name: info for name, info in tensors.items() if not name.startswith(_PADDING)}
    return Header(kept, metadata, data_start)


def plan_header(plan: Sequence[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str]) -> tuple[bytes, Header]:
    """The first bytes of a file that holds (name, dtype, shape) in this order, every tensor aligned to 64 bytes.

    Holes are not allowed in the format, so tensors of bytes, named `__padding__.N`, fill the gaps. Readers of ours
    never show them.
    """
    entries: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    tensors: dict[str, TensorInfo] = {}
    end = 0
    for name, dtype, shape in plan:
        assert name not in tensors
        assert name != _METADATA
        assert not name.startswith(_PADDING)
        start = -(-end // ALIGNMENT) * ALIGNMENT
        if start > end:
            entries[f"{_PADDING}{len(entries)}"] = _entry(TensorInfo("U8", (start - end,), end, start))
        end = start + math.prod(shape) * DTYPES[dtype].itemsize
        tensors[name] = TensorInfo(dtype, tuple(shape), start, end)
        entries[name] = _entry(tensors[name])
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text, Header(tensors, dict(metadata), 8 + len(text))


def _entry(info: TensorInfo) -> dict[str, Any]:
    return {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": [info.start, info.end]}


def _metadata(raw: Any, path: object) -> dict[str, str]:
    if not isinstance(raw, dict) or not all(isinstance(value, str) for value in raw.values()):
        raise CheckpointError(f"{path} has metadata that is not text for text; the file is damaged")
    return raw


def _tensor(name: str, entry: Any, path: object) -> TensorInfo:
    def wrong(what: str) -> CheckpointError:
        return CheckpointError(f"tensor {shown(name)} in {path} {what}; the file is damaged")

    if not isinstance(entry, dict) or set(entry) != _FIELDS:
        raise wrong(f"is described by {shown(entry)}, not by dtype, shape and data_offsets alone")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise CheckpointError(
            f"tensor {shown(name)} in {path} has the type {shown(dtype)}; slmkit reads {', '.join(DTYPES)}"
        )
    if not _are_sizes(shape) or len(shape) > _MOST_DIMENSIONS:
        raise wrong(f"has the shape {shown(shape)}")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise wrong(f"has the offsets {shown(offsets)}")
    needed = math.prod(shape) * DTYPES[dtype].itemsize
    if needed != offsets[1] - offsets[0]:
        raise wrong(f"has {offsets[1] - offsets[0]} bytes, but {dtype} of shape {shown(shape)} takes {shown(needed)}")
    return TensorInfo(dtype, tuple(shape), offsets[0], offsets[1])


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value <= _MOST_BYTES for value in values)


def _check_filled(tensors: Mapping[str, TensorInfo], data_bytes: int, path: object) -> None:
    """Raises CheckpointError unless the tensors, in order of their offsets, fill the data exactly."""
    end = 0
    for name, info in _by_offset(tensors):
        if info.end > data_bytes:
            raise CheckpointError(
                f"tensor {shown(name)} in {path} ends at byte {info.end} of {data_bytes}: the file is cut short, "
                "fetch it again"
            )
        if info.start != end:
            what = "overlaps the tensor before it" if info.start < end else "leaves a hole before it"
            raise CheckpointError(f"tensor {shown(name)} in {path} {what}; the file is damaged")
        end = info.end
    if end != data_bytes:
        raise CheckpointError(f"{path} has {data_bytes - end} bytes after its last tensor; the file is damaged")


def _by_offset(tensors: Mapping[str, TensorInfo]) -> Iterator[tuple[str, TensorInfo]]:
    yield from sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end))
