"""The good model that hostile ones are made from, and the means to spoil it."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cases import add

import tiny

Spoil = Callable[[Path], object]


def good(folder: Path) -> Path:
    """A whole model of 78,000 random weights that every program here can load."""
    model = tiny.write_model(folder / "model")
    (model / "reference.npz").unlink()
    tiny.edit_json(model / "config.json", auto_map=None)
    tiny.edit_json(model / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    return model


def spoiled(name: str, spoil: Spoil, **how: Any) -> None:
    """Add the good model with one thing done to it."""

    def build(folder: Path) -> Path:
        model = good(folder)
        spoil(model)
        return model

    add(name, build, **how)


def text(file: str, content: str | bytes | Callable[[], bytes]) -> Spoil:
    """Put this into the file. What is large is made only when it is needed."""

    def spoil(model: Path) -> None:
        given = content() if callable(content) else content
        (model / file).write_bytes(given.encode() if isinstance(given, str) else given)

    return spoil


def replaced(file: str, old: str, new: str) -> Spoil:
    """Change the file's text in one place."""

    def spoil(model: Path) -> None:
        before = (model / file).read_text("utf-8")
        assert before.count(old) == 1, (file, old)
        (model / file).write_text(before.replace(old, new), "utf-8")

    return spoil


def edited(file: str, edit: Callable[[dict[str, Any]], object]) -> Spoil:
    """Change the object in a JSON file."""

    def spoil(model: Path) -> None:
        value = json.loads((model / file).read_bytes())
        edit(value)
        (model / file).write_text(json.dumps(value), "utf-8")

    return spoil


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and data of a safetensors file."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header: dict[str, Any] | bytes, data: bytes, length: int | None = None) -> bytes:
    """A safetensors file; `length` is what it says of its header."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def endless(path: Path, size: int = 1 << 40) -> None:
    """A file that says it has a terabyte and takes no room: holes read as zeros."""
    with path.open("wb") as file:
        file.truncate(size)
