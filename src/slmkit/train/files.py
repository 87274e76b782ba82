"""Files of a run: each is whole or not there, and their folders come with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmkit.weights.atomic import make_folder, write_atomically

if TYPE_CHECKING:
    from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Put a file in place, durable, and make the folders above it. Raises StorageError."""
    make_folder(path.parent, "choose another one with --out")
    write_atomically(path, data)
