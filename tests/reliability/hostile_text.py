"""Tokenizers that explode, and chat templates that run for ever, take everything or look around."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from spoiling import edited, spoiled, text

TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"
Edit = Callable[[dict[str, Any]], object]


def tokenizer(name: str, edit: Edit, **how: Any) -> None:
    """Add a change to tokenizer.json."""
    spoiled(f"tokenizer-{name}", edited(TOKENIZER, edit), **how)


def normalizer(name: str, steps: Any, **how: Any) -> None:
    value = {"type": "Sequence", "normalizers": steps} if isinstance(steps, list) else steps
    tokenizer(f"normalizer-{name}", lambda raw: raw.update(normalizer=value), **how)


def pre_tokenizer(name: str, regex: str, prompt: str = "a" * 40 + "!", **how: Any) -> None:
    """Add a pre-tokenizer that splits by a regular expression, and a text that it takes long for."""
    step = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
    tokenizer(f"pattern-{name}", lambda raw: raw.update(pre_tokenizer=step), text=prompt, **how)


def model(name: str, edit: Edit, **how: Any) -> None:
    tokenizer(name, lambda raw: edit(raw["model"]), **how)


for key in ("model", "decoder"):
    tokenizer(f"without-{key}", lambda raw, key=key: raw.pop(key))
    for name, value in {"null": None, "list": [], "text": "BPE", "number": 1, "empty": {}}.items():
        tokenizer(f"{key}-{name}", lambda raw, key=key, value=value: raw.update({key: value}))
for key in ("normalizer", "pre_tokenizer", "post_processor", "added_tokens"):
    for name, value in {
        "text": "x",
        "number": 1,
        "unknown": {"type": "Evil"},
        "list": [1],
        "untyped": {"a": 1},
    }.items():
        tokenizer(f"{key}-{name}", lambda raw, key=key, value=value: raw.update({key: value}))
for name, value in {
    "empty": {}, "list": ["a"], "null": None, "negative-id": {"a": -1}, "id-2-to-the-63": {"a": 2**63},
    "id-beyond-32-bits": {"a": 2**32}, "id-four-billion": {"a": 2**32 - 1}, "id-text": {"a": "1"},
    "id-fraction": {"a": 1.5}, "id-true": {"a": True},
    "one-id-for-all": dict.fromkeys("abcdefgh", 5), "beyond-the-embedding": {"a": 5000},
}.items():  # fmt: skip
    model(f"vocabulary-{name}", lambda raw, v=value: raw.update(vocab=v))
for name, value in {
    "of-unknown-pieces": ["x y", "xy z"], "of-three-parts": ["t h e"], "of-numbers": [1], "of-lists": [[[1]]],
    "text": "t h", "null-inside": [None], "empty-parts": [["", ""]], "of-one-part": [["th"]],
}.items():  # fmt: skip
    model(f"merges-{name}", lambda raw, v=value: raw.update(merges=v))
model("type-unknown", lambda raw: raw.update(type="Evil"))
model("dropout-of-all", lambda raw: raw.update(dropout=1.0), harmless=True)
model("unknown-token-that-is-not-there", lambda raw: raw.update(unk_token="<nobody>", byte_fallback=False), text="ж")
for name, entry in {
    "negative": {"id": -1, "content": "x"}, "huge-id": {"id": 2**31, "content": "x"},
    "id-beyond-the-embedding": {"id": 100_000, "content": "<x>"},
    "text-for-id": {"id": "1", "content": "x"}, "no-content": {"id": 5}, "empty-content": {"id": 5, "content": ""},
    "content-a-list": {"id": 5, "content": ["x"]}, "same-id": {"id": 1, "content": "<other>"},
    "same-text": {"id": 127, "content": "<s>"}, "single-word": {"id": 127, "content": "x", "single_word": True},
    "normalized": {"id": 127, "content": "x", "normalized": True}, "null": None, "number": 1,
}.items():  # fmt: skip
    tokenizer(f"added-token-{name}", lambda raw, e=entry: raw["added_tokens"].append(e))
for name, value in {
    "list": [1],
    "text": "x",
    "entries-of-text": {"1": "x"},
    "ids-of-text": {"x": {"content": "y"}},
}.items():
    spoiled(
        f"tokenizer-decoder-table-{name}", edited(SETTINGS, lambda raw, v=value: raw.update(added_tokens_decoder=v))
    )


# What grows.
def added(n: int) -> list[dict[str, Any]]:
    return [{"id": 127 + i, "content": f"<{i}>"} for i in range(n)]


def letters(n: int) -> dict[str, int]:
    return {f"{i:06x}": i for i in range(n)}


tokenizer("200-MB-token", lambda raw: raw["model"]["vocab"].update({"x" * 200_000_000: 119}), slow=True)
tokenizer("40-MB-token", lambda raw: raw["model"]["vocab"].update({"x" * 40_000_000: 119}), slow=True)
tokenizer("40-MB-token-in-4-byte-characters",
          lambda raw: raw["model"]["vocab"].update({"x" * 40_000_000 + "\U0001f600": 119}), slow=True)  # fmt: skip
tokenizer("40-MB-added-token", lambda raw: raw["added_tokens"].append({"id": 126, "content": "x" * 40_000_000}),
          slow=True)  # fmt: skip
tokenizer("1-MB-token", lambda raw: raw["model"]["vocab"].update({"x" * 1_000_000: 119}))
tokenizer("1-MB-added-token", lambda raw: raw["added_tokens"].append({"id": 126, "content": "x" * 1_000_000}))
tokenizer("million-added-tokens", lambda raw: raw.update(added_tokens=added(1_000_000)), slow=True)
tokenizer("100000-added-tokens", lambda raw: raw.update(added_tokens=added(100_000)), slow=True)
spoiled("tokenizer-100000-added-tokens-in-the-settings", edited(SETTINGS, lambda raw: raw.update(
    added_tokens_decoder={str(200 + i): {"content": f"<{i}>"} for i in range(100_000)})), slow=True)  # fmt: skip
model("3-million-pieces", lambda raw: raw.update(vocab=letters(3_000_000)), slow=True)
model("million-pieces", lambda raw: raw.update(vocab=letters(1_000_000)), slow=True)
model("5-million-merges", lambda raw: raw.update(merges=["t h"] * 5_000_000), slow=True)
model("million-merges-as-pairs", lambda raw: raw.update(merges=[["t", "h"]] * 1_000_000), slow=True)
for name, item in {"lists": b"[],", "objects": b"{},", "numbers": b"1,", "letters": b'"a",', "pairs": b'"aa",'}.items():
    spoiled(f"tokenizer-30-MB-of-{name}", text(
        TOKENIZER, lambda item=item: b'{"a":[' + item * (30_000_000 // len(item)) + b"1]}"), slow=True)  # fmt: skip
spoiled("tokenizer-30-MB-of-keys", text(
    TOKENIZER, lambda: b"{" + b",".join(b'"%d":1' % i for i in range(3_000_000)) + b"}"), slow=True)  # fmt: skip
spoiled("tokenizer-settings-of-100-MB", text(SETTINGS, lambda: b'{"a": "' + b"x" * 100_000_000 + b'"}'), slow=True)
spoiled("tokenizer-settings-of-100-MB-of-lists", text(
    SETTINGS, lambda: b'{"a": [' + b"[]," * 33_000_000 + b"1]}"), slow=True)  # fmt: skip

DOUBLE = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
normalizer("doubling-40-times", [DOUBLE] * 40, text="a", slow=True)
normalizer("doubling-20-times", [DOUBLE] * 20, text="a" * 100, slow=True)
tokenizer("normalizer-of-a-million-steps", lambda raw: raw.update(normalizer={
    "type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "a"}] * 1_000_000}), slow=True)  # fmt: skip
normalizer("prepending-a-megabyte", [{"type": "Prepend", "prepend": "a" * 1_000_000}], slow=True)
normalizer("replacing-a-letter-by-a-megabyte",
           [{"type": "Replace", "pattern": {"String": "h"}, "content": "a" * 1_000_000}], text="h" * 1000,
           slow=True)  # fmt: skip
normalizer("replacing-nothing", [{"type": "Replace", "pattern": {"Regex": ""}, "content": "aaaa"}])
normalizer("with-an-exponential-pattern",
           [{"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""}], text="a" * 40 + "!",
           slow=True)  # fmt: skip
nested: Any = {"type": "Prepend", "prepend": "▁"}
for _ in range(100):
    nested = {"type": "Sequence", "normalizers": [nested]}
normalizer("nested-100-times", nested)
pre_tokenizer("exponential", "(a+)+$", slow=True)
pre_tokenizer("exponential-by-alternatives", "(a|a)+$", slow=True)
pre_tokenizer("exponential-by-options", "(a?){30}a{30}", slow=True)
pre_tokenizer("exponential-by-back-references", r"(a*)*\1b", slow=True)
pre_tokenizer("exponential-by-calls", r"(?<x>a|b\g<x>c)\g<x>+\g<x>+$", slow=True)
pre_tokenizer("calling-itself-for-ever", r"(?<x>\g<x>)", slow=True)
pre_tokenizer("calling-itself-in-brackets", r"(?<x>\((\g<x>|a)*\))", prompt="(" * 20_000, slow=True)
pre_tokenizer("counting-to-a-billion", "((a{1000}){1000}){1000}", slow=True)
pre_tokenizer("counting-beyond-numbers", "a{99999999999}", slow=True)
pre_tokenizer("of-a-megabyte", "a|" * 500_000 + "b", slow=True)
pre_tokenizer("nested-100000-times", "(" * 100_000 + "a" + ")" * 100_000, slow=True)
pre_tokenizer("polynomial", r"\s*\s*\s*\s*\s*\s*\s*\s*x", prompt="x" + " " * 2000 + "y", slow=True)
pre_tokenizer("broken", "(")
pre_tokenizer("looking-behind", "(?<=(a+)+)b", slow=True)
tokenizer("of-many-patterns", lambda raw: raw.update(pre_tokenizer={"type": "Sequence", "pretokenizers": [
    {"type": "Split", "pattern": {"String": "a"}, "behavior": "Isolated", "invert": False}] * 100_000}),
    slow=True)  # fmt: skip
tokenizer("writing-a-million-before-each-text", lambda raw: raw.update(post_processor={
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}] * 300_000 + [{"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}), slow=True)  # fmt: skip
tokenizer("writing-ids-that-are-not-there", lambda raw: raw.update(post_processor={
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [4_000_000_000], "tokens": ["<s>"]}}}))  # fmt: skip


# tokenizer.model
def varint(n: int) -> bytes:
    out = b""
    while n >= 128:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def piece(piece_text: bytes, kind: int = 1) -> bytes:
    return field(1, field(1, piece_text) + b"\x15\0\0\0\0" + b"\x18" + varint(kind))


PLAIN_BPE = field(2, b"\x18\x02") + field(3, b"\x18\x01\x20\x00\x28\x01")  # BPE; no removal of spaces; marked spaces


def sentencepiece(name: str, data: bytes | Callable[[], bytes], **how: Any) -> None:
    def spoil(folder: Path) -> None:
        (folder / TOKENIZER).unlink()
        (folder / "tokenizer.model").write_bytes(data if isinstance(data, bytes) else data())

    spoiled(f"sentencepiece-{name}", spoil, **how)


GOOD_PIECES = piece(b"<unk>", 2) + piece(b"<s>", 3) + piece(b"</s>", 3) + piece(b"a")
sentencepiece("empty", b"")
sentencepiece("zeros", bytes(1000))
sentencepiece("ones", b"\xff" * 1000)
sentencepiece("a-zip", b"PK\x03\x04" + bytes(1000))
for length in (2**31, 2**32 - 1, 2**63, 2**64 - 1):
    sentencepiece(f"of-a-piece-of-{length:x}-bytes", b"\x0a" + varint(length) + b"abc")
sentencepiece("with-a-number-without-end", b"\x0a" + b"\xff" * 100)
sentencepiece("cut", GOOD_PIECES[:-1])
sentencepiece("of-pieces-that-are-no-utf8", piece(b"\xff\xfe") + PLAIN_BPE)
sentencepiece("of-a-piece-without-text", piece(b"") + PLAIN_BPE)
sentencepiece("of-a-score-nan", field(1, field(1, b"a") + b"\x15\0\0\xc0\x7f") + PLAIN_BPE)
sentencepiece("of-a-score-of-text", field(1, field(1, b"a") + field(2, b"x")) + PLAIN_BPE)
sentencepiece("of-unknown-kinds", piece(b"a", 99) + PLAIN_BPE)
sentencepiece("with-the-same-piece-twice", GOOD_PIECES + piece(b"a") + PLAIN_BPE)
sentencepiece("of-unigrams", GOOD_PIECES)
sentencepiece("with-a-character-map", GOOD_PIECES + field(2, b"\x18\x02") + field(3, field(2, b"x" * 100)))
sentencepiece("of-one-piece-of-a-megabyte", lambda: GOOD_PIECES + piece(b"a" * 1_000_000) + PLAIN_BPE, slow=True)
sentencepiece("of-5000-nested-pieces",
              lambda: b"".join(piece(b"a" * n) for n in range(1, 5001)) + PLAIN_BPE, slow=True)  # fmt: skip
sentencepiece(
    "of-a-million-pieces", lambda: b"".join(piece(b"%x" % i) for i in range(1_000_000)) + PLAIN_BPE, slow=True
)
sentencepiece("of-30-MB-of-empty-fields", lambda: b"\x78\0" * 15_000_000, slow=True)
sentencepiece("of-30-MB-of-empty-pieces", lambda: b"\x0a\0" * 15_000_000, slow=True)
sentencepiece("of-one-piece-of-30-MB-of-fields", lambda: field(1, b"\x18\x01" * 15_000_000), slow=True)


# Templates
def template(name: str, source: str, **how: Any) -> None:
    """Add a chat template; the slow ones end by the kernel's or our own clock."""
    spoiled(f"template-{name}", edited(SETTINGS, lambda raw: raw.update(chat_template=source)), verb="run", **how)


USES = "{{ messages[0]['content'] }}"
LONG: dict[str, str] = {
    "looping-for-ever": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "looping-over-a-billion": "{% for i in range(1000000000) %}x{% endfor %}",
    "multiplying-text": "{{ 'x' * 10000000000 }}",
    "multiplying-lists": "{{ ([0] * 1000000000) | length }}",
    "raising-to-powers": "{{ 9 ** 9 ** 9 }}",
    "padding": "{{ '%1000000000d' % 1 }}",
    "centering": "{{ 'a' | center(10000000000) }}",
    "doubling": "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}{{ n.s }}",
    "joining": "{{ range(99999) | join(('x' * 100000)) }}",
    "writing-without-end": "{% for i in range(99999) %}{{ 'x' * 10000 }}{% endfor %}",
    "lipsum": "{{ lipsum(n=1000000) }}",
    "sorting": "{% for i in range(9999) %}{{ range(99999) | sort(reverse=true) | length }}{% endfor %}",
    "macro-calling-itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "macros-calling-each-other": "{% macro a() %}{{ b() }}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",  # noqa: E501
    "macro-doubling": "".join(f"{{% macro m{i}() %}}" + (f"{{{{ m{i - 1}() }}}}" * 9 if i else "x") + "{% endmacro %}" for i in range(30)) + "{{ m29() }}",  # noqa: E501
    "recursive-loop": "{% for m in [[]] recursive %}{{ loop([[]]) }}{% endfor %}",
    "list-that-holds-itself": "{% set l = [1] %}{% set _ = l.append(l) %}{{ l | tojson }}",
    "deep-brackets": "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}",
    "deep-lists": "{{ " + "[" * 50_000 + "]" * 50_000 + " }}",
    "deep-ifs": "{% if true %}" * 20_000 + "x" + "{% endif %}" * 20_000,
    "deep-fors": "{% for i in [1] %}" * 30 + USES + "{% endfor %}" * 30,
    "deep-nots": "{{ " + "not " * 50_000 + "1 }}",
    "deep-filters": "{{ 1" + "|string" * 50_000 + " }}",
    "long-sum": "{{ 1" + "+1" * 80_000 + " }}",
    "long-concatenation": "{{ 1" + "~1" * 80_000 + " }}",
    "many-digits": "{{ " + "9" * 200_000 + " }}",
}  # fmt: skip
SHORT: dict[str, str] = {
    "broken": "{% for",
    "unknown-tag": "{% evil %}",
    "unknown-filter": "{{ 1 | evil }}",
    "undefined": "{{ evil.name.name }}",
    "including": "{% include '/etc/passwd' %}",
    "importing": "{% import 'os' as os %}{{ os.system('id') }}",
    "extending": "{% extends '/etc/passwd' %}",
    "looking-at-classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "looking-at-globals": "{{ cycler.__init__.__globals__.os.system('touch $HOSTILE_CANARY') }}",
    "looking-through-attr": "{{ (''|attr('__class__'))|attr('__mro__') }}",
    "looking-through-format": "{{ '{0.__class__.__mro__[1].__subclasses__}'.format(1)() }}",
    "looking-through-map": "{{ ['']|map(attribute='__class__')|list|first }}{{ x() }}",
    "changing-the-messages": "{% set _ = messages.append(1) %}",
    "dropping-the-message": "nothing",
    "empty": "",
    "raising": "{{ raise_exception('\x1b[2J\nno\rno') }}",
    "raising-a-megabyte": "{{ raise_exception('x' * 1000000) }}",
    "dividing-by-zero": "{{ 1 / 0 }}",
    "of-300000-characters": "x" * 300_000 + USES,
}
SOURCES = LONG | SHORT
for name, source in SOURCES.items():
    template(name, source, slow=name in LONG)
spoiled("template-of-50-MB", text(
    SETTINGS, lambda: b'{"chat_template": "{# ' + b"x" * 50_000_000 + b' #}"}'), verb="run", slow=True)  # fmt: skip
for name, value in {
    "a-number": 7, "a-list-of-numbers": [1], "an-object": {"default": "x"}, "true": True,
    "a-list-without-default": [{"name": "evil", "template": "x"}],
    "a-default-of-numbers": [{"name": "default", "template": 7}],
}.items():  # fmt: skip
    spoiled(f"template-{name}", edited(SETTINGS, lambda raw, v=value: raw.update(chat_template=v)), verb="run")
spoiled("template-file-no-utf8", text("chat_template.jinja", b"\xff\xfe{{ 1 }}"), verb="run")
spoiled("template-file-of-100-MB", text("chat_template.jinja", lambda: b"x" * 100_000_000), verb="run", slow=True)
spoiled("tokenizer-bos-of-a-megabyte", edited(SETTINGS, lambda raw: raw.update(
    bos_token="x" * 1_000_000, chat_template="{{ bos_token * 2000 }}" + USES)), verb="run", slow=True)  # fmt: skip
