"""A GGUF file taken apart, so that any part of it can be spoiled; put together again whether it adds up or not."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
SIZES = {U8: 1, I8: 1, U16: 2, I16: 2, U32: 4, I32: 4, F32: 4, BOOL: 1, U64: 8, I64: 8, F64: 8}
GOOD = Path(__file__).parents[1] / "data" / "gguf" / "tiny-Q4_0.gguf"


@dataclass
class Entry:
    """A tensor as the header has it; sizes: the fastest first."""

    name: bytes
    sizes: list[int]
    kind: int
    offset: int

    def spelled(self, n_dims: int | None = None) -> bytes:
        n = len(self.sizes) if n_dims is None else n_dims
        return text(self.name) + struct.pack(f"<I{len(self.sizes)}QIQ", n, *self.sizes, self.kind, self.offset)


@dataclass
class Parts:
    """pairs: (key, type, the bytes of the value).   data: from the first tensor's first byte on."""

    pairs: list[tuple[bytes, int, bytes]]
    entries: list[Entry]
    data: bytes
    version: int = 3
    n_entries: int | None = None
    n_pairs: int | None = None
    magic: bytes = b"GGUF"

    def file(self, upto: str = "") -> bytes:
        """The whole file, or up to where "pairs", "entries" or "padding" begin."""
        n_entries = len(self.entries) if self.n_entries is None else self.n_entries
        n_pairs = len(self.pairs) if self.n_pairs is None else self.n_pairs
        out = self.magic + struct.pack("<IQQ", self.version, n_entries, n_pairs)
        if upto == "pairs":
            return out
        out += b"".join(text(key) + struct.pack("<I", kind) + value for key, kind, value in self.pairs)
        if upto == "entries":
            return out
        out += b"".join(entry.spelled() for entry in self.entries)
        return out if upto == "padding" else out + bytes(-len(out) % 32) + self.data

    def set(self, key: str, kind: int, value: bytes) -> None:
        """Give a key another value, or add it."""
        self.remove(key)
        self.pairs.append((key.encode(), kind, value))

    def remove(self, key: str) -> None:
        self.pairs = [pair for pair in self.pairs if pair[0] != key.encode()]

    def entry(self, name: str) -> Entry:
        return next(entry for entry in self.entries if entry.name == name.encode())


def text(content: str | bytes) -> bytes:
    data = content.encode() if isinstance(content, str) else content
    return struct.pack("<Q", len(data)) + data


def array(kind: int, elements: bytes, n: int) -> bytes:
    return struct.pack("<IQ", kind, n) + elements


def texts(contents: list[str]) -> bytes:
    return array(STRING, b"".join(map(text, contents)), len(contents))


def elements(raw: bytes) -> list[bytes]:
    """The elements of an array, as bytes."""
    kind, n = struct.unpack_from("<IQ", raw)
    if kind != STRING:
        return [raw[12 + i * SIZES[kind] : 12 + (i + 1) * SIZES[kind]] for i in range(n)]
    found, at = [], 12
    for _ in range(n):
        end = at + 8 + int(struct.unpack_from("<Q", raw, at)[0])
        found.append(raw[at:end])
        at = end
    return found


def good() -> Parts:
    """The small model that llama.cpp's own quantizer wrote."""
    return _parse(_good_bytes())


@cache
def _good_bytes() -> bytes:
    return GOOD.read_bytes()


def _parse(data: bytes) -> Parts:
    at = 24
    version, n_entries, n_pairs = struct.unpack_from("<IQQ", data, 4)

    def value_end(kind: int, at: int) -> int:
        if kind == STRING:
            return at + 8 + int(struct.unpack_from("<Q", data, at)[0])
        if kind != ARRAY:
            return at + SIZES[kind]
        inner, n = struct.unpack_from("<IQ", data, at)
        at += 12
        if inner != STRING:
            return at + int(n) * SIZES[inner]
        for _ in range(n):
            at += 8 + int(struct.unpack_from("<Q", data, at)[0])
        return at

    pairs = []
    for _ in range(n_pairs):
        end = value_end(STRING, at)
        key = data[at + 8 : end]
        (kind,) = struct.unpack_from("<I", data, end)
        at = value_end(kind, end + 4)
        pairs.append((key, kind, data[end + 4 : at]))
    entries = []
    for _ in range(n_entries):
        end = value_end(STRING, at)
        name = data[at + 8 : end]
        (n_dims,) = struct.unpack_from("<I", data, end)
        *sizes, tensor_kind, offset = struct.unpack_from(f"<{n_dims}QIQ", data, end + 4)
        at = end + 4 + 8 * n_dims + 12
        entries.append(Entry(name, sizes, tensor_kind, offset))
    return Parts(pairs, entries, data[-(-at // 32) * 32 :], version)
