"""A small byte-level vocabulary as GGUF metadata, under every name for a way of splitting words."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from slmkit.models.gguf_metadata import write_config
from slmkit.models.gguf_names import gguf_name
from slmkit.models.phi3 import Config, expected_tensors
from slmkit.text.decoding import byte_level_bytes
from slmkit.text.pretokenizers import PRETOKENIZERS
from slmkit.weights.gguf.writer import GGUFWriter

BYTE_LEVEL = tuple(PRETOKENIZERS)
CONTROLS = ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>")
_WORDS = """Ġthe Ġthere Ġthen ing 'll 've 're n't Ġdon he er re on an Ġand ĠHello World camel Case Ġstory Ġdog 123 12 45
345 Ġ1 ĊĊ ĠĠ ĠĠĠ ĉĉ ... // /// Ã¶ ÃŁ æĹ¥ ABC def .Ċ Ġa Ġx Tell Ġme <| |> user end""".split()  # noqa: SIM905


@cache
def byte_level() -> tuple[list[str], list[str]]:
    """(tokens, merges): the 256 bytes, and words put together from their left end."""
    tokens, merges = list(byte_level_bytes()), []
    for word in _WORDS:
        for cut in range(1, len(word)):
            if word[: cut + 1] not in tokens:
                tokens.append(word[: cut + 1])
                merges.append(f"{word[:cut]} {word[cut]}")
    return tokens, merges


def metadata(name: str) -> dict[str, Any]:
    """The `tokenizer.*` metadata with `tokenizer.ggml.pre` of that name."""
    tokens, merges = byte_level()
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": name,
        "tokenizer.ggml.tokens": [*tokens, *CONTROLS],
        "tokenizer.ggml.token_type": np.array([1] * len(tokens) + [3] * len(CONTROLS), np.int32),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": len(tokens),
        "tokenizer.ggml.eos_token_id": len(tokens),
        "tokenizer.ggml.add_bos_token": False,
    }


def write_byte_level(path: Path, name: str) -> Path:
    """A GGUF file with that vocabulary and a model of one layer of ones."""
    raw = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1,
           "max_position_embeddings": 512, "vocab_size": len(byte_level()[0]) + len(CONTROLS)}  # fmt: skip
    config = Config.from_dict(raw)
    shapes = {gguf_name("phi3", name): shape for name, shape in expected_tensors(config).items()}
    keys = {"general.architecture": "phi3", "general.name": "bytes", **write_config("phi3", config), **metadata(name)}
    with GGUFWriter(path, keys, [(name, "F32", shape) for name, shape in shapes.items()]) as writer:
        writer.begin()
        for tensor, shape in shapes.items():
            writer.append(tensor, np.ones(shape, np.float32))
        writer.commit()
    return path
