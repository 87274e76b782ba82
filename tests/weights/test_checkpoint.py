"""Opening model folders: one file or shards, the hub's links, and no way out of the folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from folders import file_bytes, model_tensors, values, write_model

from slmkit.errors import CheckpointError, ModelError, ModelNotFound, UnsupportedModel
from slmkit.weights.checkpoint import MOST_CONFIG_BYTES, Checkpoint


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_tensors_are_the_same_from_one_file_and_from_shards(tmp_path: Path, shards: int) -> None:
    tensors = model_tensors()
    checkpoint = Checkpoint.open(write_model(tmp_path / "m", tensors, shards))
    assert sorted(checkpoint.names) == sorted(tensors)
    for name, (dtype, array) in tensors.items():
        assert (checkpoint.dtype(name), checkpoint.shape(name)) == (dtype, array.shape)
        assert np.array_equal(checkpoint.tensor(name), array)
    assert checkpoint.config == {"model_type": "phi3"}
    assert checkpoint.generation_config == {}
    assert checkpoint.total_bytes == sum(path.stat().st_size for path in (tmp_path / "m").glob("*.safetensors"))


def test_generation_config_is_read_where_there_is_one(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    (folder / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
    assert Checkpoint.open(folder).generation_config == {"eos_token_id": [1, 2]}


def test_the_links_of_the_hub_cache_are_followed(tmp_path: Path) -> None:
    """models--owner--name/snapshots/REVISION/FILE -> ../../blobs/HASH"""
    plain = write_model(tmp_path / "plain", shards=2)
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for i, file in enumerate(sorted(plain.iterdir())):
        file.rename(blobs / str(i))
        (snapshot / file.name).symlink_to(f"../../blobs/{i}")
    assert len(Checkpoint.open(snapshot).names) == 6


def test_links_within_the_folder_are_followed(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    (folder / "config.json").rename(folder / "config-1.json")
    (folder / "config.json").symlink_to("config-1.json")
    assert len(Checkpoint.open(folder).names) == 6


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "model.safetensors"])
@pytest.mark.parametrize("place", ["elsewhere", "blobs", "hub/models--a--b/snapshots/abc"])
def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str, place: str) -> None:
    """Also to a good file, and to what is called like the hub's cache but is none of this model's."""
    folder = write_model(tmp_path / "models--c--d" / "snapshots" / "abc")
    (folder / "generation_config.json").write_text("{}")
    (tmp_path / place).mkdir(parents=True)
    (folder / name).rename(tmp_path / place / "x")
    (folder / name).symlink_to(tmp_path / place / "x")
    with pytest.raises(CheckpointError, match=f"{name} is a link that leads out of the model's folder, to '"):
        Checkpoint.open(folder)


@pytest.mark.parametrize(
    "name",
    ["../out.safetensors", "/etc/passwd", "a/b.safetensors", "a\\b.safetensors", "..", ".", "", "C:x.safetensors",
     "x\0.safetensors", ".hidden.safetensors", "o" * 244 + ".safetensors", "weights.bin", 7, None,
     ["a.safetensors"], {"a": 1}],
)  # fmt: skip
def test_an_index_cannot_lead_out_of_the_folder(tmp_path: Path, name: object) -> None:
    folder = write_model(tmp_path / "m", shards=2)
    (tmp_path / "out.safetensors").write_bytes(file_bytes(model_tensors()))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": name}}))
    with pytest.raises(CheckpointError, match="only the plain name"):
        Checkpoint.open(folder)


def test_a_shard_that_did_not_arrive_is_named(tmp_path: Path) -> None:
    folder = write_model(tmp_path, shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00002-of-00003.safetensors is missing; fetch"):
        Checkpoint.open(folder)


def test_an_index_and_shards_that_disagree_are_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path, shards=2)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    first = next(iter(index["weight_map"]))
    for changed, says in (
        (index["weight_map"] | {"more": index["weight_map"][first]}, "'more' .* which lacks it"),
        ({k: v for k, v in index["weight_map"].items() if k != first}, f"holds tensor '{first}'"),
    ):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": changed}))
        with pytest.raises(CheckpointError, match=says):
            Checkpoint.open(folder)


@pytest.mark.parametrize("content", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', "{", ""])
def test_an_index_without_a_map_is_refused(tmp_path: Path, content: str) -> None:
    folder = write_model(tmp_path, shards=2)
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"index\.json"):
        Checkpoint.open(folder)


def test_pickles_are_refused_with_the_way_to_convert_them(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(UnsupportedModel, match=r"never reads pickles.*save_pretrained"):
        Checkpoint.open(tmp_path)


def test_a_gguf_file_and_no_weights_at_all_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="neither"):
        Checkpoint.open(tmp_path)
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(UnsupportedModel, match="GGUF"):
        Checkpoint.open(tmp_path)


def test_a_partial_file_is_not_taken_for_weights(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    (folder / "model.safetensors").rename(folder / ".model.safetensors.partial")
    with pytest.raises(CheckpointError, match="neither"):
        Checkpoint.open(folder)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "not valid JSON"),
        (b"[1]", "list"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": Infinity}', "Infinity"),
        (b"\xff", "UTF-8"),
        (b" " * (MOST_CONFIG_BYTES + 1), "more than"),
    ],
)
def test_a_wrong_config_is_refused_by_name(tmp_path: Path, content: bytes, says: str) -> None:
    folder = write_model(tmp_path)
    (folder / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"config\.json.*{says}"):
        Checkpoint.open(folder)


def test_no_folder_no_config_and_a_config_that_is_a_fifo(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        Checkpoint.open(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        Checkpoint.open(tmp_path)
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(CheckpointError, match="not a regular file"):
        Checkpoint.open(tmp_path)


def test_a_name_in_two_shards_is_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path, shards=2)
    extra = {name: (dtype, array) for name, (dtype, array) in model_tensors().items()}
    (folder / "model-00001-of-00002.safetensors").write_bytes(
        file_bytes(extra | {"x": ("F32", values((1,), "F32", 0))})
    )
    with pytest.raises(ModelError, match="does not put there"):
        Checkpoint.open(folder)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "model.safetensors"])
def test_a_link_to_nothing_is_a_file_that_did_not_arrive(tmp_path: Path, name: str) -> None:
    """As a broken download leaves it in the hub's cache; without its generation_config.json answers would change."""
    folder = write_model(tmp_path)
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("../blobs/gone")
    with pytest.raises(CheckpointError, match=f"{name} is missing; fetch"):
        Checkpoint.open(folder)


def test_a_folder_whose_files_are_closed_to_us_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_model(tmp_path)

    def closed(path: object, **settings: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("slmkit.untrusted.os.lstat", closed)
        with pytest.raises(CheckpointError, match=r"config\.json cannot be opened .Permission denied.; check"):
            Checkpoint.open(folder)
