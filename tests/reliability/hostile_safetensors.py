"""Weights in safetensors that are cut, overlap, overflow, lie about themselves, or hold no numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from spoiling import endless, joined, split, spoiled

FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
NORM, HEAD = "model.norm.weight", "lm_head.weight"


def data(name: str, change: Callable[[bytes], bytes], **how: Any) -> None:
    """Add a change to the file's bytes."""

    def spoil(model: Path) -> None:
        (model / FILE).write_bytes(change((model / FILE).read_bytes()))

    spoiled(f"safetensors-{name}", spoil, **how)


def header(name: str, change: Callable[[dict[str, Any], bytes], bytes | None], **how: Any) -> None:
    """Add a change to header and data: either the new file is given back, or the header was changed in place."""

    def apply(whole: bytes) -> bytes:
        head, rest = split(whole)
        return change(head, rest) or joined(head, rest)

    data(name, apply, **how)


def entry(name: str, tensor: str = NORM, **fields: Any) -> None:
    """Add a change to what the header says of one tensor."""
    header(name, lambda head, rest: head[tensor].update(fields))


def cut(name: str, at: Callable[[dict[str, Any], int, int], int]) -> None:
    """Cut the file at at(header, where its data begin, its size)."""

    def apply(whole: bytes) -> bytes:
        head, rest = split(whole)
        return whole[: at(head, len(whole) - len(rest), len(whole))]

    data(f"cut-{name}", apply)


def filled(name: str, tensor: str, value: float) -> None:
    """Add weights of which one is `value`."""

    def change(head: dict[str, Any], rest: bytes) -> bytes:
        changed = bytearray(rest)
        start = head[tensor]["data_offsets"][0]
        changed[start + 4 : start + 8] = np.float32(value).tobytes()
        return joined(head, bytes(changed))

    header(name, change)


def removed(head: dict[str, Any], name: str) -> dict[str, Any]:
    value: dict[str, Any] = head.pop(name)
    return value


for place in (0, 1, 7, 8, 9, 100):
    cut(f"at-byte-{place}", lambda head, start, size, place=place: place)
cut("in-the-middle-of-the-header", lambda head, start, size: start // 2)
cut("a-byte-before-the-data", lambda head, start, size: start - 1)
cut("where-the-data-begin", lambda head, start, size: start)
for tensor in ("model.embed_tokens.weight", "model.layers.1.mlp.down_proj.weight", NORM):
    cut(f"where-{tensor}-begins", lambda head, start, size, tensor=tensor: start + head[tensor]["data_offsets"][0])
    cut(f"after-a-byte-of-{tensor}", lambda head, start, size, t=tensor: start + head[t]["data_offsets"][0] + 1)
cut("a-byte-before-the-end", lambda head, start, size: size - 1)

data("a-byte-too-many", lambda whole: whole + b"\0")
data("a-megabyte-too-many", lambda whole: whole + bytes(1 << 20))
data("zeros", lambda whole: bytes(len(whole)))
data("ones", lambda whole: b"\xff" * len(whole))
data("text", lambda whole: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
data("a-pickle-by-that-name", lambda whole: b"\x80\x04\x95" + whole[3:])
data("a-gguf-by-that-name", lambda whole: b"GGUF\x03\0\0\0" + whole[8:])

for length in (0, 1, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1):
    header(f"header-length-{length:x}", lambda head, rest, n=length: joined(head, rest, n))
header("header-to-the-end-of-the-file", lambda head, rest: joined(head, rest, len(json.dumps(head)) + len(rest)))
for name, raw in {
    "no-json": b"{" * 20,
    "no-utf8": b'{"\xff": 1}',
    "null": b"null",
    "list": b"[]",
    "number": b"7",
    "empty": b"{}",
    "nan": b'{"a": NaN}',
    "utf16": '{"a": 1}'.encode("utf-16"),
    "byte-order-mark": b"\xef\xbb\xbf{}",
    "deep": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep-objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "number-of-a-million-digits": b'{"a": ' + b"9" * 1_000_000 + b"}",
    "exponent": b'{"a": 1e999999999}',
}.items():
    header(f"header-{name}", lambda head, rest, raw=raw: joined(raw, rest))
header("header-of-100-MB", lambda head, rest: joined(json.dumps(head).encode() + b" " * 100_000_000, rest), slow=True)
header("header-of-8-MB-of-lists", lambda head, rest: joined(b'{"a":[' + b"[]," * 2_700_000 + b"1]}", rest), slow=True)
header("a-key-twice", lambda head, rest: joined(
    (json.dumps(head)[:-1] + f', "{NORM}": {json.dumps(head[NORM])}}}').encode(), rest))  # fmt: skip
header("metadata-of-numbers", lambda head, rest: head.update(__metadata__={"a": 1}))
header("metadata-a-list", lambda head, rest: head.update(__metadata__=["a"]))
header("packed-in-layout-999", lambda head, rest: head.update(__metadata__={"slmkit.layout": "999"}))
header("packed-without-matrices", lambda head, rest: head.update(__metadata__={"slmkit.layout": "1"}))
for name, matrices in {
    "deep": "[" * 100_000,
    "wrong-types": '{"a": ["q8", "1", []]}',
    "negative": '{"a": ["q8", -1, -1]}',
    "huge": '{"a": ["q4", 2147483647, 2147483647]}',
    "unknown-format": '{"a": ["q9", 16, 32]}',
    "list-for-format": '{"a": [["q8"], 16, 32]}',
}.items():
    header(f"packed-matrices-{name}", lambda head, rest, m=matrices: head.update(
        __metadata__={"slmkit.layout": "1", "slmkit.quantization": "q8", "slmkit.matrices": m}))  # fmt: skip

for name, shape in {
    "negative": [-64],
    "minus-one-as-64-bits": [2**64 - 1],
    "huge": [2**62, 2**62],
    "wrapping-to-the-right-size": [2**63, 2**62, 64],
    "zero": [0],
    "of-text": ["64"],
    "of-floats": [64.0],
    "of-truth": [True, 64],
    "of-lists": [[64]],
    "null": None,
    "text": "64",
    "of-33-dimensions": [1] * 32 + [64],
    "of-a-thousand-dimensions": [1] * 1000,
    "of-other-dimensions": [8, 8],
}.items():
    entry(f"shape-{name}", shape=shape)
for name, offsets in {
    "negative": [-256, 0],
    "minus-one-as-64-bits": [2**64 - 1, 2**64 - 1],
    "backwards": [256, 0],
    "beyond-64-bits": [2**64, 2**64 + 256],
    "beyond-the-file": [10**9, 10**9 + 256],
    "at-2-to-the-63": [2**63, 2**63 + 256],
    "one": [0],
    "three": [0, 1, 256],
    "text": ["0", "256"],
    "null": None,
    "floats": [0.0, 256.0],
    "of-the-first-tensor": [0, 256],
}.items():
    entry(f"offsets-{name}", data_offsets=offsets)
for name, dtype in {
    "unknown": "F128", "null": None, "number": 7, "list": ["F32"], "empty": "", "four-bits": "F4",
    "integers": "I32", "wider": "F64", "narrower": "F16", "a-megabyte-long": "F" * (1 << 20),
}.items():  # fmt: skip
    entry(f"dtype-{name}", dtype=dtype)
entry("entry-with-another-key", pickle="gASVAAAAAAAAAC4=")
header("entry-null", lambda head, rest: head.update({NORM: None}))
header("entry-without-offsets", lambda head, rest: removed(head[NORM], "data_offsets") and None)
header("overlap", lambda head, rest: head[NORM].update(data_offsets=head["model.layers.0.input_layernorm.weight"]["data_offsets"]))  # fmt: skip  # noqa: E501
header("hole", lambda head, rest: removed(head, "model.layers.0.input_layernorm.weight") and None)
header("tensor-missing", lambda head, rest: head.update({"other": removed(head, NORM)}))
header("tensor-named-by-a-megabyte", lambda head, rest: head.update({"n" * (1 << 20): removed(head, NORM)}))
header("tensor-named-by-escapes", lambda head, rest: head.update({"\x1b]0;x\x07\x1b[2J\r\n": removed(head, NORM)}))
header("tensor-too-many", lambda head, rest: joined(
    {**head, "extra": {"dtype": "F32", "shape": [1], "data_offsets": [len(rest), len(rest) + 4]}}, rest + bytes(4)
))  # fmt: skip
header("100000-empty-tensors", lambda head, rest: head.update(
    {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(100_000)}), slow=True)  # fmt: skip
for name, value in {"nan": np.nan, "infinite": np.inf, "minus-infinite": -np.inf}.items():
    filled(f"norm-{name}", NORM, value)
    filled(f"matrix-{name}", "model.layers.0.mlp.down_proj.weight", value)
    filled(f"embedding-{name}", "model.embed_tokens.weight", value)


def index(name: str, weight_map: Any, **how: Any) -> None:
    """Add a folder in shards whose index says `weight_map` (or is that text)."""

    def spoil(model: Path) -> None:
        whole = (model / FILE).read_bytes()
        (model / FILE).rename(model / "model-00001-of-00001.safetensors")
        head, _ = split(whole)
        given = weight_map(head, model) if callable(weight_map) else weight_map
        raw = given if isinstance(given, (str, bytes)) else json.dumps({"weight_map": given})
        (model / INDEX).write_bytes(raw if isinstance(raw, bytes) else raw.encode())

    spoiled(f"index-{name}", spoil, **how)


SHARD = "model-00001-of-00001.safetensors"
for name, file in {
    "of-a-shard-that-is-not-there": "model-00002-of-00002.safetensors",
    "upwards": "../model-00001-of-00001.safetensors",
    "to-an-absolute-path": "/etc/passwd",
    "to-an-absolute-safetensors": "/dev/shm/x.safetensors",
    "to-a-pickle": "pytorch_model.bin",
    "to-the-folder": ".",
    "to-nothing": "",
    "to-a-number": 7,
    "to-a-list": [SHARD],
    "with-a-zero-byte": "a\0.safetensors",
    "with-a-name-of-a-megabyte": "a" * (1 << 20) + ".safetensors",
    "with-backslashes": "..\\..\\x.safetensors",
    "to-a-windows-stream": "x:y.safetensors",
    "to-a-hidden-file": ".safetensors",
}.items():
    index(name, lambda head, model, file=file: dict.fromkeys(head, file))
index("that-is-empty", {})
index("that-is-a-list", ["a"])
index("without-a-map", "{}")
index("that-is-no-json", "{")
index("that-is-deep", '{"weight_map":' * 50_000)
index("of-zero-bytes", "")
index("that-lacks-a-tensor", lambda head, model: dict.fromkeys([n for n in head if n != NORM], SHARD))
index("with-a-tensor-too-many", lambda head, model: dict.fromkeys([*head, "extra"], SHARD))
index("of-400000-tensors", lambda head, model: {f"t{i}": "a.safetensors" for i in range(250_000)}, slow=True)
index("of-400000-files", lambda head, model: {f"{i}": f"{i}.safetensors" for i in range(250_000)}, slow=True)


def neither(model: Path) -> None:
    (model / FILE).unlink()


spoiled("safetensors-missing", neither)
spoiled("safetensors-endless", lambda model: endless(model / FILE), slow=True)


def endless_data(model: Path) -> None:
    """A good header over a terabyte of zeros."""
    head, rest = split((model / FILE).read_bytes())
    (model / FILE).write_bytes(joined(head, rest))
    with (model / FILE).open("r+b") as file:
        file.truncate(1 << 40)


spoiled("safetensors-endless-after-its-data", endless_data)


def a_terabyte_of_weights(model: Path) -> None:
    """Every size agrees: a billion embeddings in a file of holes, which no disk or memory here holds packed."""
    import tiny

    head, _ = split((model / FILE).read_bytes())
    rows, at = 2**31 - 1, 0
    head.pop("__metadata__", None)
    for name, info in head.items():
        if name in ("model.embed_tokens.weight", "lm_head.weight"):
            info["shape"][0] = rows
        size = 4 * int(np.prod(info["shape"], dtype=object))
        info["data_offsets"] = [at, at + size]
        at += size
    start = joined(head, b"")
    (model / FILE).write_bytes(start)
    with (model / FILE).open("r+b") as file:
        file.truncate(len(start) + at)
    tiny.edit_json(model / "config.json", vocab_size=rows)


spoiled("safetensors-a-terabyte-of-weights-that-agree", a_terabyte_of_weights, slow=True)
