"""GGUF files that are cut, overlap, overflow, lie about themselves, or hold no numbers."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf_parts as g
import hostile_text
from cases import add
from gguf_parts import Entry, Parts
from spoiling import endless

NORM, MATRIX, TABLE, HEAD = "output_norm.weight", "blk.0.ffn_down.weight", "token_embd.weight", "output.weight"
HUGE = (
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
)  # the last three: minus numbers, read as signed


def file(name: str, content: Callable[[], bytes], called: str = "model.gguf", **how: Any) -> None:
    """Add a file of these bytes."""

    def build(folder: Path) -> Path:
        (folder / called).write_bytes(content())
        return folder / called

    add(f"gguf-{name}", build, kind="gguf", **how)


def parts(name: str, change: Callable[[Parts], object], **how: Any) -> None:
    """Add the good file with a change to its parts."""

    def content() -> bytes:
        changed = g.good()
        change(changed)
        return changed.file()

    file(name, content, **how)


def value(name: str, key: str, kind: int, raw: bytes, **how: Any) -> None:
    """Add the good file in which a key has this value."""
    parts(name, lambda p: p.set(key, kind, raw), **how)


def entry(case: str, tensor: str, /, **how: Any) -> None:
    """Add the good file in which the header says something else of one tensor."""

    def change(p: Parts) -> None:
        changed = p.entry(tensor)
        for field, to in how.items():
            setattr(changed, field, to)

    parts(f"tensor-{case}", change)


def u32(n: int) -> bytes:
    return struct.pack("<I", n)


def u64(n: int) -> bytes:
    return struct.pack("<Q", n)


def put(p: Parts, tensor: str, raw: bytes, at: int = 0) -> None:
    """Overwrite bytes of a tensor."""
    start = p.entry(tensor).offset + at
    p.data = p.data[:start] + raw + p.data[start + len(raw) :]


# Cut, or something else
file("good", lambda: g.good().file(), harmless=True)
for place in (0, 1, 3, 4, 7, 8, 15, 16, 23, 24, 31, 32, 40, 100):
    file(f"cut-at-byte-{place}", lambda place=place: g.good().file()[:place])  # type: ignore[misc]
for where in ("pairs", "entries", "padding"):
    for more in (-1, 0, 1):
        file(f"cut-at-the-{where}{more:+}",
             lambda where=where, more=more: g.good().file()[: len(g.good().file(where)) + more])  # fmt: skip
for tensor in (TABLE, MATRIX, "blk.1.ffn_up.weight"):
    for more in (-1, 0, 1):
        file(f"cut-at-{tensor}{more:+}", lambda tensor=tensor, more=more: g.good().file()[
            : len(g.good().file()) - len(g.good().data) + g.good().entry(tensor).offset + more])  # fmt: skip
file("cut-a-byte-before-the-end", lambda: g.good().file()[:-1])
file("empty", lambda: b"")
file("zeros", lambda: bytes(100_000))
file("ones", lambda: b"\xff" * 100_000)
file("only-a-name", lambda: b"GGUF")
file("text", lambda: b"version https://git-lfs.github.com/spec/v1\n")
file("pickle", lambda: b"\x80\x04\x95" + bytes(1000))
file("safetensors-by-that-name", lambda: u64(2) + b"{}")
for magic in (b"GGML", b"FUGG", b"lmgg", b"tjgg", b"gguf"):
    parts(f"magic-{magic.decode()}", lambda p, magic=magic: setattr(p, "magic", magic))
for version in (0, 1, 4, 99, 2**24 * 3, 2**32 - 1):
    parts(f"version-{version}", lambda p, version=version: setattr(p, "version", version))

# Counts and lengths
for n in HUGE:
    parts(f"tensors-{n:x}", lambda p, n=n: setattr(p, "n_entries", n))
    parts(f"pairs-{n:x}", lambda p, n=n: setattr(p, "n_pairs", n))
    value(f"text-of-{n:x}-bytes", "general.name", g.STRING, u64(n) + b"abc")
    parts(f"key-of-{n:x}-bytes", lambda p, n=n: p.pairs.insert(0, (u64(n), g.U8, b"")))
    for kind in (g.U8, g.STRING, g.F64, g.ARRAY):
        value(f"array-of-{n:x}-of-type-{kind}", "general.name", g.ARRAY, g.array(kind, b"", n))
    entry(f"of-{n:x}-rows", TABLE, sizes=[256, n])
    entry(f"of-rows-of-{n:x}", TABLE, sizes=[n, 384])
    entry(f"at-{n:x}", TABLE, offset=n // 32 * 32)
    entry(f"at-{n:x}-exactly", TABLE, offset=n)
parts("a-tensor-too-few", lambda p: setattr(p, "n_entries", len(p.entries) - 1))
parts("a-tensor-too-many", lambda p: setattr(p, "n_entries", len(p.entries) + 1))
parts("a-pair-too-few", lambda p: setattr(p, "n_pairs", len(p.pairs) - 1))
parts("a-pair-too-many", lambda p: setattr(p, "n_pairs", len(p.pairs) + 1))
parts("no-tensors", lambda p: p.entries.clear())
parts("no-pairs", lambda p: p.pairs.clear())
parts("200000-pairs", lambda p: p.pairs.extend((b"x%d" % i, g.U8, b"\0") for i in range(200_000)), slow=True)
parts("90000-tensors", lambda p: p.entries.extend(Entry(b"x%d" % i, [32], 0, len(p.data) + 128 * i)
                                                  for i in range(90_000)), slow=True)  # fmt: skip


def nested(depth: int) -> bytes:
    return g.array(g.ARRAY, b"", 1) * depth + g.array(g.U8, b"", 0)


value("array-in-an-array", "general.name", g.ARRAY, nested(1))
value("arrays-100000-deep", "general.name", g.ARRAY, nested(100_000))
for kind in (13, 99, 2**31, 2**32 - 1):
    value(f"value-of-type-{kind:x}", "general.name", kind, bytes(8))
    value(f"array-of-type-{kind:x}", "general.name", g.ARRAY, g.array(kind, bytes(8), 1))
value("truth-of-two", "tokenizer.ggml.add_bos_token", g.BOOL, b"\x02")
parts("key-twice", lambda p: p.pairs.append(p.pairs[2]))
parts("key-empty", lambda p: p.pairs.append((b"", g.U8, b"\0")), harmless=True)
parts("key-no-utf8", lambda p: p.pairs.append((b"\xff", g.U8, b"\0")))
parts("key-of-a-megabyte-in-the-architecture", lambda p: p.pairs.append((b"phi3." + b"x" * 10**6, g.U8, b"\7")))
parts("key-of-escapes-in-the-architecture", lambda p: p.pairs.append((b"phi3.\x1b[2J\x1b]0;x\x07\r\n", g.U8, b"\7")))
value("name-no-utf8", "general.name", g.STRING, g.text(b"\xff\xfe"))

# Tensors
for n in (0, 5, 99, 2**31, 2**32 - 1):
    parts(f"tensor-of-{n:x}-dimensions", lambda p, n=n: setattr(
        p.entry(NORM), "spelled", lambda: Entry(NORM.encode(), [256], 0, 80640).spelled(n)))  # fmt: skip
for name, sizes in {
    "none": [], "zero": [0], "one-zero": [256, 0], "other": [16, 16], "half": [128], "double": [512],
    "wrapping-to-the-right-size": [2**32, 2**32, 256], "wrapping-in-bytes": [2**62, 1], "four": [4, 4, 4, 4],
}.items():  # fmt: skip
    entry(f"shape-{name}", NORM, sizes=sizes)
entry("shape-turned", "blk.0.ffn_up.weight", sizes=[1024, 256])
entry("shape-of-broken-blocks", MATRIX, sizes=[511, 256])
entry("shape-of-three", MATRIX, sizes=[512, 16, 16])
for kind in (4, 5, 9, 15, 16, 24, 28, 31, 39, 99, 2**31, 2**32 - 1):
    entry(f"type-{kind:x}", MATRIX, kind=kind)
for kind, called in {1: "F16", 3: "Q4_1", 8: "Q8_0", 12: "Q4_K", 30: "BF16"}.items():
    entry(f"type-{called}-in-the-place-of-Q4_0", "blk.1.ffn_up.weight", kind=kind)
entry("norm-in-Q4_0", NORM, kind=2)
entry("norm-in-F16", NORM, kind=1, sizes=[512])
entry("unaligned", TABLE, offset=81665)
entry("overlapping-all", TABLE, offset=0)
entry("overlapping-a-little", TABLE, offset=81664 - 32)
entry("after-the-end", "blk.1.ffn_up.weight", offset=10**9 // 32 * 32)
for called in ("", "x", "x" * 64, "x" * 10**6, "\x1b[2J", "../x", "blk.99999999999.attn_norm.weight",
    "blk.-1.attn_norm.weight",
               "model.norm.weight", "blk.2.attn_norm.weight", "blk.00.attn_norm.weight"):  # fmt: skip
    named = ascii(called[:30])[1:-1].replace("/", "|")
    entry(f"named-{named}-{len(called)}", NORM, name=called.encode())
entry("named-no-utf8", NORM, name=b"\xff")
entry("named-as-another", NORM, name=TABLE.encode())
for tensor in (NORM, TABLE, MATRIX):
    parts(f"without-{tensor}", lambda p, tensor=tensor: p.entries.remove(p.entry(tensor)))
parts("tensor-too-many", lambda p: p.entries.append(Entry(b"blk.0.attn_q.weight", [1], 0, 0)))
parts("tensors-of-other-families", lambda p: p.entries.append(Entry(b"blk.0.ffn_gate_inp.weight", [256], 0, 80640)))
for called, n in {"zero": 0, "three": 3, "not-a-power": 48, "2-to-the-31": 2**31, "minus-one": 2**32 - 1}.items():
    value(f"alignment-{called}", "general.alignment", g.U32, u32(n))
value("alignment-text", "general.alignment", g.STRING, g.text("32"))
value("alignment-beyond-the-offsets", "general.alignment", g.U32, u32(4096))

# Numbers
for name, number in {"nan": float("nan"), "infinite": float("inf"), "minus-infinite": float("-inf")}.items():
    single, half = struct.pack("<f", number), struct.pack("<e", number)
    parts(f"norm-{name}", lambda p, raw=single: put(p, NORM, raw, 4))
    parts(f"scale-of-Q4_0-{name}", lambda p, raw=half: put(p, MATRIX, raw))
    parts(f"scale-of-the-table-{name}", lambda p, raw=half: put(p, TABLE, raw, 18 * 8))
    parts(f"scale-of-Q6_K-{name}", lambda p, raw=half: put(p, HEAD, raw, 208))
    for key in ("phi3.attention.layer_norm_rms_epsilon", "phi3.rope.freq_base", "phi3.rope.scaling.attn_factor"):
        value(f"{key}-{name}", key, g.F32, single)
for key in ("phi3.attention.layer_norm_rms_epsilon", "phi3.rope.freq_base", "phi3.rope.scaling.attn_factor"):
    for called, number in {"zero": 0.0, "negative": -1.0, "huge": 3e38}.items():
        value(f"{key}-{called}", key, g.F32, struct.pack("<f", number))
    value(f"{key}-text", key, g.STRING, g.text("1"))
    value(f"{key}-array", key, g.ARRAY, g.array(g.F32, bytes(8), 2))
    value(f"{key}-double-beyond", key, g.F64, struct.pack("<d", 1e300))
for key in ("context_length", "embedding_length", "feed_forward_length", "block_count", "attention.head_count",
            "attention.head_count_kv", "rope.dimension_count", "rope.scaling.original_context_length",
            "attention.sliding_window", "attention.key_length"):  # fmt: skip
    full = f"phi3.{key}"
    may_be_zero = key == "attention.sliding_window"
    for n in (() if may_be_zero else (0,)) + (2**31, 2**32 - 1):
        value(f"{full}-{n}", full, g.U32, u32(n))
    value(f"{full}-minus-one", full, g.I32, struct.pack("<i", -1))
    value(f"{full}-minus-one-in-64-bits", full, g.I64, struct.pack("<q", -1))
    value(f"{full}-2-to-the-63", full, g.U64, u64(2**63))
    value(f"{full}-text", full, g.STRING, g.text("2"))
    value(f"{full}-array", full, g.ARRAY, g.array(g.U32, u32(2) * 2, 2))
    value(f"{full}-true", full, g.BOOL, b"\1")
    value(f"{full}-fraction", full, g.F32, struct.pack("<f", 1.5))
for key in ("context_length", "embedding_length", "block_count", "attention.head_count",
            "attention.layer_norm_rms_epsilon"):  # fmt: skip
    parts(f"without-phi3.{key}", lambda p, key=key: p.remove(f"phi3.{key}"))
value("a-billion-layers", "phi3.block_count", g.U32, u32(10**9))
value("a-thousand-layers", "phi3.block_count", g.U32, u32(1000))
value("a-layer-too-few", "phi3.block_count", g.U32, u32(1))
value("heads-that-do-not-divide", "phi3.attention.head_count", g.U32, u32(3))
value("key-heads-that-do-not-divide", "phi3.attention.head_count_kv", g.U32, u32(3))
value("rotated-odd", "phi3.rope.dimension_count", g.U32, u32(63))
for key in ("general.architecture", "tokenizer.ggml.model"):
    parts(f"without-{key}", lambda p, key=key: p.remove(key))
    for called, raw in {
        "unknown": "evil",
        "empty": "",
        "escapes": "\x1b[2J",
        "a-megabyte": "x" * 10**6,
        "llama-2": "llama2",
    }.items():
        value(f"{key}-{called}", key, g.STRING, g.text(raw))
    value(f"{key}-number", key, g.U32, u32(1))
    value(f"{key}-array", key, g.ARRAY, g.texts(["phi3"]))
value("type-adapter", "general.type", g.STRING, g.text("adapter"))
value("quantization-version-1", "general.quantization_version", g.U32, u32(1))
for name, raw in {
    "zeros": bytes(128),
    "nan": struct.pack("<f", float("nan")) * 32,
    "negative": struct.pack("<f", -1) * 32,
}.items():

    def with_factors(p: Parts, raw: bytes = raw) -> None:
        for which in ("long", "short"):
            p.entries.append(Entry(f"rope_factors_{which}.weight".encode(), [32], 0, len(p.data)))
            p.data += raw

    parts(f"rope-factors-{name}", with_factors)

# Tokenizers and templates
TOKENS, SCORES, KINDS = "tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type"
for key in (TOKENS, SCORES, KINDS):
    parts(f"without-{key}", lambda p, key=key: p.remove(key))
    value(f"{key}-empty", key, g.ARRAY, g.array(g.F32, b"", 0))
    value(f"{key}-text", key, g.STRING, g.text("x"))
    value(f"{key}-of-one", key, g.ARRAY, g.array(g.F32, bytes(4), 1))
    value(f"{key}-of-truth", key, g.ARRAY, g.array(g.BOOL, bytes(384), 384))
    value(f"{key}-of-bytes", key, g.ARRAY, g.array(g.U8, bytes(384), 384))
value("tokens-all-the-same", TOKENS, g.ARRAY, g.texts(["a"] * 384))
value("tokens-all-empty", TOKENS, g.ARRAY, g.texts([""] * 384))
value("tokens-too-many", TOKENS, g.ARRAY, g.texts([f"t{i}" for i in range(385)]))
value("scores-nan", SCORES, g.ARRAY, g.array(g.F32, struct.pack("<f", float("nan")) * 384, 384))
value("scores-all-the-same", SCORES, g.ARRAY, g.array(g.F32, bytes(4 * 384), 384))
value("kinds-unknown", KINDS, g.ARRAY, g.array(g.I32, u32(99) * 384, 384))
value("kinds-negative", KINDS, g.ARRAY, g.array(g.I32, u32(2**32 - 1) * 384, 384))
value("kinds-all-bytes", KINDS, g.ARRAY, g.array(g.I32, u32(6) * 384, 384))
value("kinds-all-control", KINDS, g.ARRAY, g.array(g.I32, u32(3) * 384, 384))
for key in ("bos", "eos", "unknown", "padding"):
    full = f"tokenizer.ggml.{key}_token_id"
    for n in (384, 2**31):
        value(f"{full}-{n}", full, g.U32, u32(n), verb="run")  # the template is told of padding, nobody else
    value(f"{full}-text", full, g.STRING, g.text("1"), verb="run")
    value(f"{full}-array", full, g.ARRAY, g.array(g.U32, u32(1), 1), verb="run")
value("add-bos-number", "tokenizer.ggml.add_bos_token", g.U32, u32(1))
value("add-bos-text", "tokenizer.ggml.add_bos_token", g.STRING, g.text("true"))


def vocabulary(p: Parts, tokens: list[str], kind: int) -> None:
    """As many tokens of one kind, and a table of no bytes to match: the tokenizer is met before the weights."""
    n = len(tokens)
    p.set(TOKENS, g.ARRAY, g.texts(tokens))
    p.set(SCORES, g.ARRAY, g.array(g.F32, b"".join(struct.pack("<f", -i) for i in range(n)), n))
    p.set(KINDS, g.ARRAY, g.array(g.I32, u32(kind) * n, n))


parts("2-million-tokens", lambda p: vocabulary(p, [f"{i:x}" for i in range(2_000_000)], 1), slow=True)
parts("500000-tokens", lambda p: vocabulary(p, [f"{i:x}" for i in range(500_000)], 1), slow=True)
parts("100000-control-tokens", lambda p: vocabulary(p, [f"<{i:x}>" for i in range(100_000)], 3), slow=True)
parts("token-of-10-MB", lambda p: vocabulary(p, ["a", "x" * 10_000_000], 1), slow=True)
parts("token-of-60-MB", lambda p: vocabulary(p, ["a", "x" * 60_000_000], 1), slow=True)
parts("5000-nested-tokens", lambda p: vocabulary(p, ["a" * n for n in range(1, 5001)], 1), slow=True)
parts("control-token-of-10-MB", lambda p: vocabulary(p, ["a", "x" * 10_000_000], 3), slow=True)
parts(
    "10-million-empty-texts",
    lambda p: p.set(TOKENS, g.ARRAY, g.array(g.STRING, bytes(80_000_000), 10_000_000)),
    slow=True,
)
parts(
    "7-million-empty-texts",
    lambda p: p.set(TOKENS, g.ARRAY, g.array(g.STRING, bytes(56_000_000), 7_000_000)),
    slow=True,
)
parts(
    "2-million-empty-texts",
    lambda p: p.set(TOKENS, g.ARRAY, g.array(g.STRING, bytes(16_000_000), 2_000_000)),
    slow=True,
)
for name in ("looping-for-ever", "multiplying-text", "doubling", "macro-calling-itself", "recursive-loop",
    "deep-brackets",
             "broken", "including", "looking-at-globals", "dropping-the-message", "of-300000-characters"):  # fmt: skip
    source = hostile_text.SOURCES[name]
    value(f"template-{name}", "tokenizer.chat_template", g.STRING, g.text(source), verb="run",
          slow=name in hostile_text.LONG)  # fmt: skip
value("template-number", "tokenizer.chat_template", g.U32, u32(1), verb="run")
value("template-list", "tokenizer.chat_template", g.ARRAY, g.texts(["x"]), verb="run")
parts("template-of-15-MB", lambda p: p.set("tokenizer.chat_template", g.STRING, g.text("x" * 15_000_000)), verb="run",
      slow=True)  # fmt: skip


# Splits, and files that are none
def split(name: str, number: int, count: int, called: str, others: tuple[str, ...] = ()) -> None:
    def build(folder: Path) -> Path:
        p = g.good()
        p.set("split.no", g.U16, struct.pack("<H", number))
        p.set("split.count", g.U16, struct.pack("<H", count))
        p.set("split.tensors.count", g.I32, struct.pack("<i", len(p.entries)))
        for each in (called, *others):
            (folder / each).write_bytes(p.file())
        return folder / called

    add(f"gguf-split-{name}", build, kind="gguf")


split("without-its-name", 0, 2, "model.gguf")
split("without-the-second", 0, 2, "m-00001-of-00002.gguf")
split("of-60000", 0, 60_000, "m-00001-of-60000.gguf")
split("twice-the-same", 0, 2, "m-00001-of-00002.gguf", ("m-00002-of-00002.gguf",))
split("number-zero", 0, 2, "m-00000-of-00002.gguf", ("m-00001-of-00002.gguf",))
split("of-more-by-its-name", 0, 2, "m-00001-of-00003.gguf", ("m-00002-of-00003.gguf", "m-00003-of-00003.gguf"))
value("split-count-text", "split.count", g.STRING, g.text("2"))
value("split-count-negative", "split.count", g.I32, u32(2**32 - 1))


def special(name: str, make: Callable[[Path], object]) -> None:
    def build(folder: Path) -> Path:
        make(folder / "model.gguf")
        return folder / "model.gguf"

    add(f"gguf-{name}", build, kind="gguf")


special("fifo", os.mkfifo)
special("folder", lambda path: path.mkdir())
special("zeros-device", lambda path: path.symlink_to("/dev/zero"))
special("random-device", lambda path: path.symlink_to("/dev/urandom"))
special("standard-input", lambda path: path.symlink_to("/dev/stdin"))
special("link-to-itself", lambda path: path.symlink_to(path.name))
special("link-to-nothing", lambda path: path.symlink_to("nothing"))
special("link-to-passwd", lambda path: path.symlink_to("/etc/passwd"))
special("endless", endless)


def a_terabyte(claims: Callable[[Parts], object]) -> Callable[[Path], None]:
    """A header that makes a claim, over a terabyte of holes, so that there is room for whatever it claims."""

    def make(path: Path) -> None:
        p = g.good()
        claims(p)
        path.write_bytes(p.file())
        endless_tail(path)

    return make


def endless_tail(path: Path) -> None:
    with path.open("r+b") as opened:
        opened.truncate(1 << 40)


special("endless-and-a-text-of-it-all", a_terabyte(lambda p: p.set("general.name", g.STRING, u64(1 << 39))))
special("endless-and-a-billion-texts", a_terabyte(
    lambda p: p.set("general.name", g.ARRAY, g.array(g.STRING, b"", 10**9))))  # fmt: skip
special("endless-and-a-billion-numbers", a_terabyte(
    lambda p: p.set("general.name", g.ARRAY, g.array(g.F64, b"", 10**10))))  # fmt: skip
special("endless-and-a-billion-pairs", a_terabyte(lambda p: setattr(p, "n_pairs", 10**9)))
special("endless-and-a-billion-tensors", a_terabyte(lambda p: setattr(p, "n_entries", 10**9)))
special(
    "endless-and-a-billion-rows", a_terabyte(lambda p: setattr(p.entry("blk.1.ffn_up.weight"), "sizes", [256, 10**9]))
)


def a_terabyte_of_table(p: Parts) -> None:
    """A billion embeddings in a file of holes; everything else agrees with it."""
    p.entries.remove(p.entry(HEAD))
    last = p.entry(TABLE)
    last.sizes, last.offset = [256, 2**31 - 16], len(p.data)


special("a-terabyte-of-weights-that-agree", a_terabyte(a_terabyte_of_table))
