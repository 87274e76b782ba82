"""A cache of the hub as huggingface_hub leaves it, for tests: blobs, and snapshots that link to them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def cache_model(hub: Path, repo: str, files: dict[str, bytes], commit: str = COMMIT, revision: str = "main") -> Path:
    """The folder of the snapshot."""
    folder = hub / f"models--{repo.replace('/', '--')}"
    snapshot = folder / "snapshots" / commit
    for path in (snapshot, folder / "blobs", folder / "refs"):
        path.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        blob = folder / "blobs" / _etag(name, data)
        blob.write_bytes(data)
        (snapshot / name).symlink_to(os.path.relpath(blob, snapshot))
    (folder / "refs" / revision).write_text(commit)
    return snapshot


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _etag(name: str, data: bytes) -> str:
    """As the hub names files: large ones by SHA-256, the others as git does."""
    if name.endswith((".safetensors", ".gguf", "tokenizer.model")):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
