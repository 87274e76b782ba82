"""Long system prompts are kept on the disk by themselves, so that the next run does not read them again."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from slmkit.engine.prompts import Prompts
from slmkit.errors import SlmError
from slmkit.ops.segments import BLOCK
from slmkit.weights.prompt_store import make_room, prompt_folder, touch

if TYPE_CHECKING:
    from slmkit.engine.cache import Cache
    from slmkit.engine.sequence import Sequence
    from slmkit.weights.model_key import ModelKey

LEAST_TOKENS = 256  # of fewer, nothing is looked up
# Reading that took less is not worth the disk: Phi-3.5-mini's 2,000 tokens are 410 MB.
LEAST_S = 2.0


class StoredPrompts(Prompts):
    """A file for each system prompt; those used longest ago make room for others.

    It is found by its ids, which the file has too, and by the key. Whatever fails here costs time only.
    most_bytes: of all files together.
    """

    def __init__(self, key: ModelKey, model: str, cache: Cache, most_bytes: int) -> None:
        super().__init__(key, model, cache)
        self.most_bytes = most_bytes
        self._wanted = 0  # ids of the line that no file has
        self._began = self._took = 0.0

    def begin(self, sequence: Sequence, n_shared: int) -> None:
        """Take the system prompt from its file, where it is not in memory; else write it once it is read."""
        n_tokens = n_shared // BLOCK * BLOCK
        if n_tokens < LEAST_TOKENS:
            return
        key = self.key.known()  # where that is not known yet, no file was ever made of this model
        path = self._path(key, sequence.table, sequence.ids[:n_tokens]) if key else None
        from_file = self._resume(sequence, path, n_tokens)
        if sequence.n_cached < n_tokens:
            self._wanted, self._began, self._took = n_tokens, time.perf_counter(), 0.0
        elif from_file and path:
            self._wanted = 0
            touch(path)

    def note(self) -> None:
        """See how long all of it took to read."""
        if self._wanted and not self._took and self._followed and self._followed.n_cached >= self._wanted:
            self._took = time.perf_counter() - self._began

    def rest(self) -> None:
        """Write the file that is due."""
        ids, blocks = self.line() if self._wanted else ([], [])
        if not ids or len(ids) < self._wanted or self._followed is None:
            return
        self._wanted = 0
        if self._took < LEAST_S:
            return
        with suppress(SlmError):
            if make_room(self.cache.data[0].nbytes * len(blocks), self.most_bytes):
                self._write(self._path(self.key.digest(), self._followed.table, ids))

    def close(self) -> None:
        """Write the file that is due."""
        self.rest()

    def _path(self, key: str, table: int, ids: list[int]) -> Path:
        name = hashlib.sha256(f"{key} {table} ".encode() + np.array(ids, np.int32).tobytes())
        return prompt_folder() / f"{name.hexdigest()}.safetensors"
