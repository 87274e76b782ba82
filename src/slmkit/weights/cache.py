"""Packed models kept in the user's cache directory, by content: the same weights are packed once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from slmkit.errors import CheckpointError
from slmkit.weights.atomic import make_folder, remove_leftovers
from slmkit.weights.expect import check_tensors
from slmkit.weights.fingerprint import source_sha256
from slmkit.weights.packed import LAYOUT, Formats, Tensor, packed_metadata, packed_plan, read_packed
from slmkit.weights.packing import WAITING, pack_tensors
from slmkit.weights.safetensors import SafetensorsFile, SafetensorsWriter
from slmkit.weights.telling import Progress
from slmkit.weights.tensors import Shape, TensorSource

_WAY_OUT = "set SLMKIT_CACHE_DIR to a folder that you may write to, or load with --quantize none"


def cache_folder() -> Path:
    """Where slmkit keeps what it can make again: $SLMKIT_CACHE_DIR, or the system's place for caches."""
    chosen = os.environ.get("SLMKIT_CACHE_DIR")
    return Path(chosen) if chosen else user_cache_path("slmkit")


def load_packed(
    source: TensorSource,
    expected: Mapping[str, Shape],
    formats: Formats,
    quantization: str,
    ops: Any,
    progress: Progress,
) -> tuple[SafetensorsFile, dict[str, Tensor]]:
    """The tensors that have a format, packed and mapped, with their file; packed now if it is missing or damaged.

    Of several processes that want the same model, one packs and the others wait for it.
    Raises CheckpointError, StorageError.
    """
    folder = cache_folder()
    make_folder(folder / "packed", _WAY_OUT)  # what cannot work is told before much is read
    sha256 = source_sha256(source, progress, folder / "hashes")
    held = {name: expected[name] for name in formats}
    path = folder / "packed" / f"{_key(held, formats, sha256)}.safetensors"
    found = _read(path, held)
    if found is not None:
        return found
    check_tensors(expected, source)
    remove_leftovers(path.parent)
    plan, metadata = packed_plan(expected, formats), packed_metadata(expected, formats, quantization, sha256)
    with SafetensorsWriter(path, plan, metadata, waiting=lambda: progress(WAITING, 0, source.total_bytes)) as writer:
        found = _read(path, held)  # another process may have made it while this one waited
        if found is not None:
            return found
        pack_tensors(source, expected, formats, writer, ops, progress)
        writer.commit()
    file = SafetensorsFile(path)
    return file, read_packed(file, held)


def _key(held: Mapping[str, Shape], formats: Formats, sha256: str) -> str:
    """Names all that the bytes of a packed file follow from."""
    parts = [LAYOUT, sha256, [(name, formats[name], shape) for name, shape in held.items()]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _read(path: Path, held: Mapping[str, Shape]) -> tuple[SafetensorsFile, dict[str, Tensor]] | None:
    try:
        file = SafetensorsFile(path)
        return file, read_packed(file, held)
    except CheckpointError:  # missing, or cut short
        return None
