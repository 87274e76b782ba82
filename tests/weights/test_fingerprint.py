"""The hash of a file against the one in its name, or in the name of a link to it."""

from __future__ import annotations

import hashlib
import shutil
from importlib.resources import files
from pathlib import Path

import pytest

from slmkit.errors import CheckpointError
from slmkit.weights.checkpoint import Checkpoint
from slmkit.weights.fingerprint import source_sha256

TINY = Path(str(files("slmkit") / "data" / "tiny"))
SHA256 = hashlib.sha256((TINY / "model.safetensors").read_bytes()).hexdigest()


def snapshot(hub: Path, blob: str, store: str | None) -> Checkpoint:
    """The bundled model as the hub's cache has it: a link to a blob, and maybe from there to a store of blobs."""
    root = hub / "models--owner--name"
    folder = root / "snapshots" / "c"
    folder.mkdir(parents=True)
    (root / "blobs").mkdir()
    shutil.copy(TINY / "config.json", folder)
    there = hub / "blobs" / store[:2] / store if store else root / "blobs" / blob
    there.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(TINY / "model.safetensors", there)
    if store:
        (root / "blobs" / blob).symlink_to(f"../../blobs/{store[:2]}/{store}")
    (folder / "model.safetensors").symlink_to(f"../../blobs/{blob}")
    return Checkpoint.open(folder)


@pytest.mark.parametrize("store", [None, "e" * 64])
def test_the_nearest_name_of_64_digits_is_the_promise(tmp_path: Path, store: str | None) -> None:
    assert source_sha256(snapshot(tmp_path / "good", SHA256, store), memo=tmp_path / "memo") == SHA256
    with pytest.raises(CheckpointError, match="its SHA-256 is not the one in its name"):
        source_sha256(snapshot(tmp_path / "bad", "f" * 64, store), memo=tmp_path / "memo")


def test_a_ring_of_links_is_no_promise_and_no_hang(tmp_path: Path) -> None:
    checkpoint = snapshot(tmp_path, SHA256, None)
    path = checkpoint.files[0].path
    path.unlink()
    path.symlink_to(path.name)
    with pytest.raises(CheckpointError):
        source_sha256(checkpoint, memo=tmp_path / "memo")
