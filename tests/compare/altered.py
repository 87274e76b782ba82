"""Copies of the bundled model with one thing changed, which `verify` has to find."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np

TINY = Path(str(files("slmkit") / "data" / "tiny"))


def copied(folder: Path) -> Path:
    shutil.copytree(TINY, folder)
    return folder


def with_weight(folder: Path, name: str, place: int, value: float) -> Path:
    """One number of one tensor, which has bfloat16."""
    path = copied(folder) / "model.safetensors"
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert header[name]["dtype"] == "BF16"
    begin = 8 + length + header[name]["data_offsets"][0] + 2 * place
    data[begin : begin + 2] = np.float32(value).tobytes()[2:]
    path.write_bytes(data)
    return folder


def with_template(folder: Path, old: str, new: str) -> Path:
    path = copied(folder) / "tokenizer_config.json"
    config = json.loads(path.read_text())
    assert old in config["chat_template"]
    config["chat_template"] = config["chat_template"].replace(old, new)
    path.write_text(json.dumps(config))
    return folder


def with_swapped_entries(folder: Path, a: str, b: str) -> Path:
    """Two entries of the vocabulary in each other's place."""
    path = copied(folder) / "tokenizer.json"
    spec = json.loads(path.read_text())
    vocabulary = spec["model"]["vocab"]
    vocabulary[a], vocabulary[b] = vocabulary[b], vocabulary[a]
    path.write_text(json.dumps(spec))
    return folder


def without_merge(folder: Path, number: int) -> Path:
    path = copied(folder) / "tokenizer.json"
    spec = json.loads(path.read_text())
    del spec["model"]["merges"][number]
    path.write_text(json.dumps(spec))
    return folder
