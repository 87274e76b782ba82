"""A name for everything that the numbers in a cache follow from, beside the ids: two models never share one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from slmkit.weights.cache import cache_folder
from slmkit.weights.fingerprint import file_hashes, known_hashes
from slmkit.weights.tensors import SourceFile


class ModelKey:
    """The SHA-256 of the facts and of the files that are mapped: packed ones may differ though their sources are one.

    Hashing takes a second or so for each GB, once: it is noted, as in fingerprint.py, until a file is touched.
    facts: of lists, dicts, numbers and texts; arrays count as lists.
    """

    def __init__(self, files: Sequence[SourceFile], facts: Any) -> None:
        self._files = files
        self._facts = json.dumps(facts, sort_keys=True, default=lambda array: array.tolist())
        self._digest = ""

    def known(self) -> str | None:
        """The key where no file has to be read for it."""
        if not self._digest:
            hashes = known_hashes(self._files, cache_folder() / "hashes")
            self._digest = self._of(hashes) if hashes else ""
        return self._digest or None

    def digest(self) -> str:
        """The key.   Raises CheckpointError if a file is not the one that was opened any more."""
        self._digest = self.known() or self._of(file_hashes(self._files, cache_folder() / "hashes"))
        return self._digest

    def _of(self, hashes: list[str]) -> str:
        return hashlib.sha256(json.dumps([hashes, self._facts]).encode()).hexdigest()
