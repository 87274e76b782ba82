"""Reading the small text files of a checkpoint without trusting them."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING, Any

from slmkit.errors import ModelError, TokenizerError

if TYPE_CHECKING:
    from pathlib import Path

# The largest published tokenizer.json is about 35 MB (Gemma 3); a FIFO or an endless file must not hang the load.
LARGEST_FILE = 128 * 2**20


def read_bytes(path: Path, error: type[ModelError] = TokenizerError, largest: int = LARGEST_FILE) -> bytes:
    """The content of a regular file of at most `largest` bytes; raises `error` for anything else."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise error(f"{path} is not a regular file; download the checkpoint again")
        with path.open("rb") as file:
            data = file.read(largest + 1)
    except OSError as reason:
        raise error(f"{path} cannot be read ({reason.strerror}); download the checkpoint again") from None
    if len(data) > largest:
        raise error(f"{path} has more than {largest} bytes, the most accepted here; is it the right file?")
    return data


def read_text(path: Path, error: type[ModelError] = TokenizerError, largest: int = LARGEST_FILE) -> str:
    """The text of a UTF-8 file, under the rules of read_bytes."""
    try:
        return read_bytes(path, error, largest).decode("utf-8")
    except UnicodeDecodeError as reason:
        raise error(f"{path} is not UTF-8 text (byte {reason.start}); download the checkpoint again") from None


def read_json(path: Path, error: type[ModelError] = TokenizerError) -> dict[str, Any]:
    """The object in a JSON file, under the rules of read_bytes; {} when there is no such file."""
    if not path.exists():
        return {}
    try:
        value = json.loads(read_text(path, error))
    except (ValueError, RecursionError) as reason:
        raise error(f"{path} is not valid JSON ({reason}); download the checkpoint again") from None
    if not isinstance(value, dict):
        raise error(f"{path} holds a JSON {type(value).__name__}, an object is expected; download the checkpoint again")
    return value
