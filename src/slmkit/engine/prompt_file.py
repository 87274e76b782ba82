"""A file with what the cache holds of a line of tokens, so that another run need not read them again.

It is a safetensors file. For every 32 tokens of the line it has a block of each strand of the cache, in the order of a
sequence's table:

    ids        I32  (tokens,)            a multiple of 32
    blocks     U8   (blocks, bytes)      as they lie in the cache's array
    checksums  U32  (blocks,)            CRC-32 of each

The metadata has slmkit.prompt, the version of all this; slmkit.key, which names all that these numbers follow from
beside the ids; slmkit.table, the rotary table; and slmkit.model, for people. The ids are somebody's text, so nobody but
the owner may read the file.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slmkit.errors import CheckpointError
from slmkit.ops.segments import BLOCK
from slmkit.untrusted import shown
from slmkit.weights.safetensors import SafetensorsFile, SafetensorsWriter

if TYPE_CHECKING:
    from slmkit.engine.cache import Cache

VERSION = "1"
# Part of every key, and one more whenever keys and values of the same ids may come out as other bits.
NUMERICS = 1


@dataclass(frozen=True)
class Label:
    """What a file says of its numbers.   key, table: as above.   model: its name and formats, for messages."""

    key: str
    table: int
    model: str


class PromptFile:
    """A file whose header was checked.   Raises CheckpointError if it is none, or damaged."""

    def __init__(self, path: Path) -> None:
        self._file = SafetensorsFile(path)
        said = self._file.metadata
        if said.get("slmkit.prompt") != VERSION:
            what = shown(said["slmkit.prompt"]) if "slmkit.prompt" in said else "none"
            raise CheckpointError(f"{path} is no prompt cache of version {VERSION} (its version: {what})")
        self.label = Label(said.get("slmkit.key", ""), _number(said.get("slmkit.table")), said.get("slmkit.model", ""))
        self.ids = self._tensor("ids", "I32", 1)
        self._blocks = self._tensor("blocks", "U8", 2)
        self._checksums = self._tensor("checksums", "U32", 1)
        if len(self._blocks) != len(self._checksums):
            raise CheckpointError(f"{path} has another number of checksums than of blocks; the file is damaged")

    def fill(self, cache: Cache, blocks: Sequence[int]) -> int:
        """Copy the first blocks into those of the cache; how many came, which is fewer where one is damaged."""
        for i, block in enumerate(blocks):
            place = _bytes(cache, block)
            if i >= len(self._blocks) or self._blocks.shape[1] != len(place):
                return i
            place[:] = self._blocks[i]
            if zlib.crc32(place.data) != self._checksums[i]:
                return i
        return len(blocks)

    def _tensor(self, name: str, dtype: str, dimensions: int) -> NDArray[Any]:
        info = self._file.tensors.get(name)
        if info is None or info.dtype != dtype or len(info.shape) != dimensions:
            raise CheckpointError(f"{self._file.path} has no {name} of type {dtype}; the file is damaged")
        return self._file.tensor(name)


def open_prompt(path: Path) -> PromptFile:
    """The file as it is now; another process may put a newer one in its place at any time.   Raises CheckpointError."""
    while True:
        before = _identity(path)
        try:
            return PromptFile(path)
        except CheckpointError:
            if _identity(path) == before:
                raise


def write_prompt(path: Path, label: Label, ids: Sequence[int], cache: Cache, blocks: Sequence[int]) -> None:
    """Put the file in place, whole or not at all.   Raises StorageError."""
    assert len(ids) * cache.n_strands == len(blocks) * BLOCK
    n_bytes = len(_bytes(cache, 0))
    plan = [("ids", "I32", (len(ids),)), ("blocks", "U8", (len(blocks), n_bytes)), ("checksums", "U32", (len(blocks),))]
    metadata = {
        "slmkit.prompt": VERSION, "slmkit.key": label.key, "slmkit.table": str(label.table), "slmkit.model": label.model
    }  # fmt: skip
    with SafetensorsWriter(path, plan, metadata, private=True) as writer:
        writer.begin()
        writer.append("ids", np.array(ids, np.int32))
        checksums = np.empty(len(blocks), np.uint32)
        for i, block in enumerate(blocks):
            place = _bytes(cache, block)
            checksums[i] = zlib.crc32(place.data)
            writer.append("blocks", place)
        writer.append("checksums", checksums)
        writer.commit()


def _bytes(cache: Cache, block: int) -> NDArray[np.uint8]:
    """A block of the cache, not copied."""
    place: NDArray[np.uint8] = cache.data[block].reshape(-1).view(np.uint8)
    return place


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        told = os.stat(path)
    except (OSError, ValueError):
        return None
    return told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns


def _number(text: str | None) -> int:
    return int(text) if text in ("0", "1") else -1
