"""Small checkpoints for the tests, written here by hand so that reader and writer are not tested against each other."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

HIDDEN, FF, VOCAB = 48, 80, 100  # none of the last two a multiple of a tile; 48 is no multiple of a group
EXPECTED = {
    "model.embed_tokens.weight": (VOCAB, HIDDEN),
    "model.layers.0.mlp.down_proj.weight": (HIDDEN, FF),
    "model.layers.0.input_layernorm.weight": (HIDDEN,),
    "model.layers.0.mlp.up_proj.weight": (FF, HIDDEN),
    "model.norm.weight": (HIDDEN,),
    "lm_head.weight": (VOCAB, HIDDEN),
}
TYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


def values(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    """Random weights in the type's own storage; bfloat16 by cutting off the lower half."""
    x = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    return (x.view(np.uint32) >> 16).astype(np.uint16) if dtype == "BF16" else x.astype(TYPES[dtype])


def header(entries: dict[str, Any]) -> bytes:
    """Padded to 8 bytes, as the official library does it."""
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def file_bytes(tensors: dict[str, tuple[str, np.ndarray]], metadata: dict[str, str] | None = None) -> bytes:
    entries: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name, (dtype, array) in tensors.items():
        entries[name] = {"dtype": dtype, "shape": list(array.shape),
                         "data_offsets": [len(data), len(data) + array.nbytes]}  # fmt: skip
        data += array.tobytes()
    return header(entries) + data


def model_tensors(dtype: str = "BF16", seed: int = 0) -> dict[str, tuple[str, np.ndarray]]:
    return {name: (dtype, values(shape, dtype, seed + i)) for i, (name, shape) in enumerate(EXPECTED.items())}


def write_model(folder: Path, tensors: dict[str, tuple[str, np.ndarray]] | None = None, shards: int = 1) -> Path:
    """A folder with config.json and the tensors in one file, or in several with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "phi3"}))
    tensors = model_tensors() if tensors is None else tensors
    if shards == 1:
        (folder / "model.safetensors").write_bytes(file_bytes(tensors))
        return folder
    weight_map = {}
    for i in range(shards):
        name = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = {key: tensors[key] for key in list(tensors)[i::shards]}
        (folder / name).write_bytes(file_bytes(part))
        weight_map |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder
