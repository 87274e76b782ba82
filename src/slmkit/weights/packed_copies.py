"""The packed copies in slmkit's cache: how many there are, which belong to a model, and how to be rid of them.

A copy can always be made again from its model, so removing one costs nothing but the time of packing.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from slmkit.errors import CheckpointError, StorageError
from slmkit.weights.atomic import remove_leftovers
from slmkit.weights.cache import cache_folder
from slmkit.weights.fingerprint import known_sha256
from slmkit.weights.safetensors import SafetensorsFile
from slmkit.weights.tensors import TensorSource

_NAME = re.compile(r"[0-9a-f]{64}\.safetensors")


@dataclass(frozen=True)
class PackedCopy:
    """One file.   quantization, source_sha256: as its header has them; "" in a damaged one."""

    path: Path
    n_bytes: int
    quantization: str
    source_sha256: str


def packed_copies() -> list[PackedCopy]:
    """All of them, damaged ones too. Only headers are read."""
    folder = cache_folder() / "packed"
    return [_copy(path) for path in sorted(folder.glob("*.safetensors")) if _NAME.fullmatch(path.name)]


def copies_of(source: TensorSource) -> list[PackedCopy]:
    """Those that were made of these weights as they are now. No weights are read: packing noted their hashes."""
    hashes = cache_folder() / "hashes"
    digests = {file.path.name: known_sha256(file.path, file.identity, hashes) for file in source.files}
    lines = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    sha256 = lines[:64] if len(digests) == 1 else hashlib.sha256(lines.encode()).hexdigest()
    return [] if None in digests.values() else [copy for copy in packed_copies() if copy.source_sha256 == sha256]


def remove_copies(copies: list[PackedCopy]) -> int:
    """Remove them and what killed packings left behind; the bytes that were freed. Raises StorageError."""
    freed = 0
    for copy in copies:
        try:
            copy.path.unlink(missing_ok=True)
        except OSError as error:  # on Windows also while a process has it mapped
            raise StorageError(
                f"{copy.path} cannot be removed ({error.strerror}); close what uses it, or check its rights"
            ) from None
        freed += copy.n_bytes
    remove_leftovers(cache_folder() / "packed")
    return freed


def _copy(path: Path) -> PackedCopy:
    try:
        file = SafetensorsFile(path)
    except CheckpointError:
        return PackedCopy(path, path.lstat().st_size, "", "")
    said = file.metadata
    return PackedCopy(
        path, file.identity.size, said.get("slmkit.quantization", ""), said.get("slmkit.source_sha256", "")
    )
