"""The published tokenizers, put together from tests/data."""

from __future__ import annotations

import hashlib
import json
import lzma
from functools import cache
from pathlib import Path
from typing import Any

from slmkit.text.tokenizer import Tokenizer

DATA = Path(__file__).parents[1] / "data"
VARIANTS = ("phi-3", "phi-3-mini", "phi-3-medium", "phi-3-vision")


@cache
def phi3_spec(name: str) -> dict[str, Any]:
    """tokenizer.json of one variant; its hash is checked against the published file's."""
    variant = json.loads((DATA / "phi3/variants.json").read_text("utf-8"))[name]
    base = json.loads(lzma.decompress((DATA / "phi3/tokenizer.json.xz").read_bytes()))
    spec = {**base, **variant["top"], "model": {**base["model"], **variant["model"]}}
    assert hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest() == variant["sha256"]
    return spec


@cache
def phi3_config(name: str) -> dict[str, Any]:
    return json.loads((DATA / f"phi3/{name}.tokenizer_config.json").read_text("utf-8"))


@cache
def phi3_tokenizer(name: str) -> Tokenizer:
    return Tokenizer(phi3_spec(name), phi3_config(name))


@cache
def small_spec() -> dict[str, Any]:
    """Our own SentencePiece model of 640 pieces, as tokenizer.json."""
    from slmkit.text import sentencepiece

    added = [
        {"id": 640, "content": "<|user|>", "special": True, "rstrip": True},
        {"id": 641, "content": "<|end|>", "special": True, "lstrip": True},
        {"id": 642, "content": "<|end|>>", "special": False},
    ]
    return sentencepiece.convert(sentencepiece.parse((DATA / "spm/tokenizer.model").read_bytes()), added)


@cache
def small_tokenizer() -> Tokenizer:
    return Tokenizer(small_spec(), {"bos_token": "<s>", "eos_token": {"content": "</s>"}})
