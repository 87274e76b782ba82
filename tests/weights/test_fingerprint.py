"""The hash of a file against the one in its name, or in the name of a link to it."""

from __future__ import annotations

import hashlib
import os
import shutil
from importlib.resources import files
from pathlib import Path

import pytest
from folders import write_model

from slmkit.errors import CheckpointError
from slmkit.weights.checkpoint import Checkpoint
from slmkit.weights.fingerprint import note_sha256, source_sha256
from slmkit.weights.safetensors import SafetensorsFile

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


def test_a_hash_that_is_noted_already_is_held_against_the_name_too(tmp_path: Path) -> None:
    """A blob that is a link to another blob has that one's content and note, and not what its own name says."""
    memo = tmp_path / "memo"
    good = snapshot(tmp_path / "hub", SHA256, None).files[0].path.resolve()
    os.utime(good, (0, 0))
    note_sha256(good, SafetensorsFile(good).identity, SHA256, memo)
    wrong = good.with_name("f" * 64)
    wrong.symlink_to(good.name)
    link = tmp_path / "hub/models--owner--name/snapshots/c/model.safetensors"
    link.unlink()
    link.symlink_to(f"../../blobs/{wrong.name}")
    with pytest.raises(CheckpointError, match="its SHA-256 is not the one in its name"):
        source_sha256(Checkpoint.open(link.parent), memo=memo)


@pytest.mark.parametrize("change", ["first", "last", "exchanged"])
def test_the_hash_of_several_files_follows_from_each_and_from_their_names(tmp_path: Path, change: str) -> None:
    """A cache entry found by the hash of one shard alone would give another model's answers."""
    shards = sorted(path.name for path in write_model(tmp_path / "a", shards=3).glob("*.safetensors"))
    before = source_sha256(Checkpoint.open(tmp_path / "a"))
    lines = [f"{hashlib.sha256((tmp_path / 'a' / name).read_bytes()).hexdigest()}  {name}\n" for name in shards]
    assert before == hashlib.sha256("".join(lines).encode()).hexdigest()
    if change == "exchanged":
        index = tmp_path / "a/model.safetensors.index.json"
        text = index.read_text()
        first, second = (tmp_path / "a" / name for name in shards[:2])
        text = text.replace(shards[0], "?").replace(shards[1], shards[0]).replace("?", shards[1])
        first.rename(tmp_path / "other")
        second.rename(first)
        (tmp_path / "other").rename(second)
        index.write_text(text)
    else:
        path = tmp_path / "a" / shards[0 if change == "first" else -1]
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    assert source_sha256(Checkpoint.open(tmp_path / "a")) != before


def test_a_file_that_changed_after_it_was_opened_is_not_hashed_in_its_place(tmp_path: Path) -> None:
    """Its header was checked before; the hash of other content would lead to another model's cache entry."""
    checkpoint = Checkpoint.open(write_model(tmp_path))
    path = checkpoint.files[0].path
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="changed while it was being read"):
        source_sha256(checkpoint)
