"""Small models that are exported to GGUF: what llama.cpp made of them is stored in tests/reference/llamacpp.json."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from slmkit.export import export_gguf
from slmkit.models.registry import architecture
from slmkit.sources.find import open_source
from slmkit.weights.safetensors import SafetensorsWriter

DATA = Path(__file__).parent / "data"
STORED = Path(__file__).parent / "reference" / "llamacpp.json"
CONTROLS = ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
CONFIG: dict[str, Any] = {
    "model_type": "phi3",
    "vocab_size": 660,  # 640 pieces, 5 controls, and rows that no token has
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "original_max_position_embeddings": 512,
    "tie_word_embeddings": False,
}
_PAIRS = 8  # of a head of 16 features


def _longrope(original: int) -> dict[str, Any]:
    scaling = {
        "type": "longrope",
        "short_factor": [1.0 + i / 16 for i in range(_PAIRS)],
        "long_factor": [1.5 + i for i in range(_PAIRS)],
    }
    return {"original_max_position_embeddings": original, "max_position_embeddings": 2048, "rope_scaling": scaling}


# Name -> changes to the configuration. llama.cpp takes the long factors where its context, here 512, is longer than
# the original one, so of those two models one always turns short and one, with prompts over 16 tokens, always long.
RANDOM: dict[str, dict[str, Any]] = {
    "plain": {},
    "tied": {"tie_word_embeddings": True},
    "partial": {"partial_rotary_factor": 0.75, "hidden_size": 128},
    "longrope-short": _longrope(512),
    "longrope-long": _longrope(16),
}


def write_random(folder: Path, changes: dict[str, Any]) -> Path:
    """A folder with random weights, and our SentencePiece model with Phi-3's control tokens after it."""
    folder.mkdir(parents=True)
    config = CONFIG | changes
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(DATA / "spm/tokenizer.model", folder)
    flags = {"lstrip": False, "normalized": False, "single_word": False}
    added = {"0": "<unk>", "1": "<s>", "2": "</s>"} | {str(640 + i): text for i, text in enumerate(CONTROLS)}
    keeps = ("<unk>", "<s>", "<|endoftext|>")
    entries = {
        key: {"content": text, "special": text != "</s>", "rstrip": text not in keeps, **flags}
        for key, text in added.items()
    }
    settings = {
        "bos_token": "<s>",
        "eos_token": "<|endoftext|>",
        "add_bos_token": False,
        "added_tokens_decoder": entries,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    family = architecture(config)
    shapes = family.expected_tensors(family.Config.from_dict(config))
    rng = np.random.default_rng(7)
    with SafetensorsWriter(folder / "model.safetensors", [(n, "F32", s) for n, s in shapes.items()], {}) as writer:
        writer.begin()
        for name, shape in shapes.items():
            spread = rng.standard_normal(shape, dtype=np.float32)
            writer.append(name, spread * np.float32(0.2) + 1 if len(shape) == 1 else spread * np.float32(0.3))
        writer.commit()
    return folder


def export(name: str, folder: Path, type: str = "f32") -> Path:
    """The GGUF file of one of RANDOM, or of the bundled `tiny`."""
    model = "tiny" if name == "tiny" else str(write_random(folder / name, RANDOM[name]))
    out = folder / f"{name}-{type}.gguf"
    export_gguf(open_source(model), out, type)
    return out
