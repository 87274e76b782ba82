"""Spells GGUF files byte by byte, also such as no writer would write."""

from __future__ import annotations

import struct
from typing import Any

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)


def text(content: str | bytes) -> bytes:
    data = content.encode() if isinstance(content, str) else content
    return struct.pack("<Q", len(data)) + data


def pair(key: str | bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def array(kind: int, n: int, elements: bytes) -> bytes:
    return struct.pack("<IQ", kind, n) + elements


def entry(name: str | bytes, sizes: list[int], kind: int = 0, offset: int = 0) -> bytes:
    """sizes: the fastest first."""
    return text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, offset)


def gguf_bytes(
    pairs: list[bytes] | None = None,
    tensors: list[bytes] | None = None,
    data: bytes = b"",
    **other: Any,
) -> bytes:
    """A file. other: magic, version, n_tensors, n_pairs, alignment in place of what would be right."""
    pairs, tensors = pairs or [], tensors or []
    head = other.get("magic", b"GGUF") + struct.pack(
        "<IQQ", other.get("version", 3), other.get("n_tensors", len(tensors)), other.get("n_pairs", len(pairs))
    )
    head += b"".join(pairs) + b"".join(tensors)
    return head + bytes(-len(head) % other.get("alignment", 32)) + data


def split_pairs(number: int, count: int, tensors: int) -> list[bytes]:
    """What llama.cpp's gguf-split writes into a piece."""
    return [
        pair("split.no", U16, struct.pack("<H", number)),
        pair("split.count", U16, struct.pack("<H", count)),
        pair("split.tensors.count", I32, struct.pack("<i", tensors)),
    ]
