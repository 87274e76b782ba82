"""Loading: dense, packed on the fly, packed before; the cache by content."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folders import EXPECTED, file_bytes, model_tensors, values, write_model

from slmkit.errors import CheckpointError, OptionError, StorageError
from slmkit.ops.matrix import Matrix
from slmkit.ops.pack import as_f32, pack, unpack
from slmkit.weights import cache as weights_cache
from slmkit.weights.cache import cache_folder
from slmkit.weights.checkpoint import Checkpoint
from slmkit.weights.gguf.blocks import BLOCKS
from slmkit.weights.gguf.repack import repack
from slmkit.weights.load import default_quantization, load_weights
from slmkit.weights.packed import LAYOUT
from slmkit.weights.quantize import quantize_folder
from slmkit.weights.safetensors import SafetensorsFile

FORMATS = {  # recipe -> format of layers, of embedding and head
    "q4": ("q4_s", "q8"),
    "q8": ("q8", "q8"),
}
TABLES = ("model.embed_tokens.weight", "lm_head.weight")


class Counting:
    """Ops whose `pack` counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def pack(self, data: Any, format: str) -> Matrix:
        self.calls += 1
        return pack(data, format)


def mapped(array: np.ndarray) -> bool:
    """Whether the array is a view of a mapped file."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return type(array.base).__name__ == "mmap"


def packed_files(cache: Path) -> list[Path]:
    return sorted((cache / "packed").iterdir())


def assert_packed_as(weights: Any, tensors: dict[str, tuple[str, np.ndarray]], recipe: str) -> None:
    assert list(weights) == list(EXPECTED)
    for name, (_, array) in tensors.items():
        if array.ndim == 1:
            assert weights[name].dtype == np.float32
            assert np.array_equal(weights[name], as_f32(array))
        else:
            whole = pack(array, FORMATS[recipe][name in TABLES])
            assert weights[name].format == whole.format
            assert np.array_equal(weights[name].data, whole.data)
            assert np.array_equal(weights[name].scale, whole.scale)


@pytest.mark.parametrize(("dtype", "format"), [("F32", "f32"), ("F16", "f16"), ("BF16", "bf16")])
def test_without_quantizing_matrices_stay_mapped_in_the_checkpoints_own_type(
    tmp_path: Path, cache: Path, dtype: str, format: str
) -> None:
    tensors = model_tensors(dtype)
    weights = load_weights(write_model(tmp_path / "m", tensors, shards=2), EXPECTED, "none")
    assert weights.quantization == "none"
    assert weights.parameters == sum(array.size for _, array in tensors.values())
    for name, (_, array) in tensors.items():
        if array.ndim == 2:
            assert (weights[name].format, weights[name].n, weights[name].k) == (format, *array.shape)
            assert np.array_equal(weights[name].data, array)
            assert mapped(weights[name].data)
        else:
            assert np.array_equal(weights[name], as_f32(array))
    assert not cache.exists()


@pytest.mark.parametrize("recipe", ["q4", "q8"])
@pytest.mark.parametrize("shards", [1, 3])
def test_packing_in_pieces_gives_the_bytes_of_packing_whole(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, shards: int
) -> None:
    monkeypatch.setattr("slmkit.weights.packing._AT_ONCE", 1)  # 16 rows at a time, the last of them fewer
    tensors = model_tensors()
    weights = load_weights(write_model(tmp_path / "m", tensors, shards), EXPECTED, recipe)
    assert_packed_as(weights, tensors, recipe)
    assert weights.quantization == recipe
    assert weights.parameters == sum(array.size for _, array in tensors.values())


def test_packed_tensors_are_mapped_and_aligned_to_64_bytes(tmp_path: Path, cache: Path) -> None:
    weights = load_weights(write_model(tmp_path / "m"), EXPECTED, "q4")
    arrays = [a for w in weights.values() for a in ((w.data, w.scale) if isinstance(w, Matrix) else (w,))]
    arrays = [a for a in arrays if a is not None]
    assert len(arrays) == 8
    for array in arrays:
        assert mapped(array)
        assert array.ctypes.data % 64 == 0


def test_q8_is_the_default_of_small_models_and_q4_of_the_others(tmp_path: Path, cache: Path) -> None:
    assert load_weights(write_model(tmp_path), EXPECTED).quantization == "q8"
    assert default_quantization({"a": (1000, 99_999), "b": (100_000, 1000)}) == "q8"
    assert default_quantization({"a": (1000, 100_000), "b": (100_000, 1000)}) == "q4"


def test_unpacked_weights_are_within_half_a_step_of_the_original(tmp_path: Path, cache: Path) -> None:
    tensors = model_tensors()
    weights = load_weights(write_model(tmp_path / "m", tensors), EXPECTED, "q8")
    for name, (_, array) in tensors.items():
        if array.ndim == 2:
            w = as_f32(array)
            # half a step of the largest group, and what the scale loses in float16
            assert np.abs(unpack(weights[name]) - w).max() < np.abs(w).max() / 127 * 0.56


def test_the_second_load_packs_nothing_and_reads_no_shard(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, ops, steps = write_model(tmp_path / "m", shards=2), Counting(), []
    first = load_weights(folder, EXPECTED, "q4", ops=ops, progress=lambda *step: steps.append(step))
    assert ops.calls == 4
    assert {step[0] for step in steps} == {"reading the weights", "packing the weights"}
    assert [step[1:] for step in steps][-1][0] == steps[-1][2]
    monkeypatch.setattr("slmkit.weights.fingerprint._sha256", lambda *_: pytest.fail("read again"))
    second = load_weights(folder, EXPECTED, "q4", ops=ops)
    assert ops.calls == 4
    assert all(np.array_equal(first[n].data, second[n].data) for n in TABLES)


def test_the_same_content_elsewhere_is_found_by_its_content(tmp_path: Path, cache: Path) -> None:
    ops = Counting()
    for place in ("a", "b"):
        load_weights(write_model(tmp_path / place), EXPECTED, "q4", ops=ops)
    assert ops.calls == 4
    assert len(packed_files(cache)) == 1


def test_each_recipe_has_its_own_entry(tmp_path: Path, cache: Path) -> None:
    folder = write_model(tmp_path / "m")
    for recipe in ("q4", "q8", "q4"):
        assert load_weights(folder, EXPECTED, recipe).quantization == recipe
    assert len(packed_files(cache)) == 2


@pytest.mark.parametrize("way", ["replaced", "written in place", "with its times set back"])
def test_a_file_with_other_content_never_meets_the_old_entry(tmp_path: Path, cache: Path, way: str) -> None:
    folder = write_model(tmp_path / "m")
    load_weights(folder, EXPECTED, "q4")
    file = folder / "model.safetensors"
    times = file.stat()
    other = model_tensors(seed=100)
    if way == "replaced":
        (folder / "new").write_bytes(file_bytes(other))
        os.replace(folder / "new", file)
    else:
        with file.open("r+b") as same_inode:
            same_inode.write(file_bytes(other))
    if way != "written in place":
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert_packed_as(load_weights(folder, EXPECTED, "q4"), other, "q4")


def test_a_file_touched_a_moment_ago_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could change again within the same tick of the clock, and look the same."""
    monkeypatch.setenv("SLMKIT_CACHE_DIR", str(tmp_path / "cache"))
    load_weights(write_model(tmp_path / "m"), EXPECTED, "q4")
    assert not (tmp_path / "cache" / "hashes").exists()


def test_another_layout_never_meets_the_old_entry(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_model(tmp_path / "m")
    load_weights(folder, EXPECTED)
    [old] = packed_files(cache)
    monkeypatch.setattr(weights_cache, "LAYOUT", "1")
    load_weights(folder, EXPECTED)
    assert len(packed_files(cache)) == 2
    assert old in packed_files(cache)


@pytest.mark.parametrize(
    ("format", "sha256"),
    [
        ("q4", "21004143aa676c296dde2222e15d4144a2d0ae0719b84b891609b5161ee9f1ad"),
        ("q4_s", "445a7e764e87cf6240e810a8e8f4fc951d4051fa6bd38ac2321cfd6c6a2d864f"),
        ("q8", "2d3559e359f7a51e52de6237f2e6a23bda9920a1a9216d43d66bc92e8866b219"),
    ],
)
def test_the_bytes_that_the_packer_writes_in_layout_2_are_these(format: str, sha256: str) -> None:
    """The cache finds packed weights by LAYOUT and content: whoever changes what is written changes LAYOUT."""
    assert LAYOUT == "2"
    values = np.random.default_rng(1).integers(-1000, 1000, (37, 96)).astype(np.float32) / np.float32(512)
    assert digest_of(pack(values, format)) == sha256


@pytest.mark.parametrize(
    ("type", "sha256"),
    [
        ("Q4_0", "b7f7ee23758e4578ee1b39999517a22bc01d23c53545dabe3eca9c86d87eb6f8"),
        ("Q8_0", "e5f71f5c34b60e79e7486e5fe5d17d7cd754294ee3e1c4d663ad09b538f2ae7a"),
        ("Q5_0", "2bb82ffbd4e678a5ff6aa0d6bfbecaaaebe8d05205b7d091025e5999eaaffbb2"),
        ("Q3_K", "244b287bd0d75adfdde847654d705d8dca5dd98f7ef4588b0eb051c2743b78e7"),
        ("Q4_K", "55f201786642bbb91394256d534499791578b1ff282c71c0700f14b9cd51ce66"),
        ("Q5_K", "294529ce5d339acd7962d64ea84c9a2109384bb1f9ce8b04b7a738e4fd06278a"),
        ("Q6_K", "1526a7faf40cf90b76cd3ce97ab0cf3e79f797d56d02dbc8c82867a988e8782f"),
    ],
)
def test_the_bytes_of_repacked_blocks_in_layout_2_are_these(type: str, sha256: str) -> None:
    assert LAYOUT == "2"
    weights, size = BLOCKS[type]
    rows = np.random.default_rng(2).integers(0, 0x7C, (21, 512 // weights * size)).astype(np.uint8)  # finite scales
    assert digest_of(repack(rows, type, 512)) == sha256


def digest_of(matrix: Matrix) -> str:
    return hashlib.sha256(matrix.data.tobytes() + (b"" if matrix.scale is None else matrix.scale.tobytes())).hexdigest()


def test_a_changed_config_of_the_same_tensors_keeps_the_entry(tmp_path: Path, cache: Path) -> None:
    folder, ops = write_model(tmp_path / "m"), Counting()
    load_weights(folder, EXPECTED, "q4", ops=ops)
    (folder / "config.json").write_text('{"model_type": "phi3", "rope_theta": 5}')
    load_weights(folder, EXPECTED, "q4", ops=ops)
    assert ops.calls == 4


def test_other_expectations_of_the_same_file_do_not_meet_the_old_entry(tmp_path: Path, cache: Path) -> None:
    tensors = model_tensors()
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    folder = write_model(tmp_path / "m", tensors)
    load_weights(folder, EXPECTED, "q4")
    tied = {name: shape for name, shape in EXPECTED.items() if name != "lm_head.weight"}
    assert list(load_weights(folder, tied, "q4")) == list(tied)
    assert len(packed_files(cache)) == 2


@pytest.mark.parametrize("damage", ["cut short", "empty", "zeros", "another layout"])
def test_a_damaged_entry_is_packed_anew(tmp_path: Path, cache: Path, damage: str) -> None:
    folder, ops = write_model(tmp_path / "m"), Counting()
    load_weights(folder, EXPECTED, "q4", ops=ops)
    (entry,) = packed_files(cache)
    size = entry.stat().st_size
    if damage == "another layout":
        entry.write_bytes(entry.read_bytes().replace(b'"slmkit.layout":"2"', b'"slmkit.layout":"7"'))
    else:
        os.truncate(entry, size - 1 if damage == "cut short" else 0)
        if damage == "zeros":
            os.truncate(entry, size)
    assert_packed_as(load_weights(folder, EXPECTED, "q4", ops=ops), model_tensors(), "q4")
    assert ops.calls == 8


@pytest.mark.parametrize("note", ["", "{", "[]", '{"identity": [1], "sha256": "x"}', '{"sha256": 3}'])
def test_a_damaged_note_of_a_hash_is_not_trusted(tmp_path: Path, cache: Path, note: str) -> None:
    folder = write_model(tmp_path / "m")
    load_weights(folder, EXPECTED, "q4")
    for path in (cache / "hashes").iterdir():
        path.write_text(note)
    assert_packed_as(load_weights(folder, EXPECTED, "q4"), model_tensors(), "q4")


def test_the_cache_is_where_the_system_keeps_caches_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLMKIT_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/some-cache")
    if sys.platform == "linux":
        assert cache_folder() == Path("/var/some-cache/slmkit")
    monkeypatch.setenv("SLMKIT_CACHE_DIR", "/elsewhere")
    assert cache_folder() == Path("/elsewhere")


def test_a_cache_that_cannot_be_made_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SLMKIT_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(StorageError, match=r"cannot be made .*; set SLMKIT_CACHE_DIR"):
        load_weights(write_model(tmp_path / "m"), EXPECTED, "q4")


def test_a_note_that_cannot_be_written_does_not_stop_the_load(tmp_path: Path, cache: Path) -> None:
    cache.mkdir()
    (cache / "hashes").touch()
    assert_packed_as(load_weights(write_model(tmp_path / "m"), EXPECTED, "q4"), model_tensors(), "q4")


def test_missing_tensors_are_found_before_anything_is_packed(tmp_path: Path, cache: Path) -> None:
    tensors = model_tensors()
    del tensors["model.norm.weight"]
    ops = Counting()
    for quantize in ("q4", "none"):
        with pytest.raises(CheckpointError, match=r"lacks 'model\.norm\.weight'"):
            load_weights(write_model(tmp_path / "m", tensors), EXPECTED, quantize, ops=ops)
    assert ops.calls == 0
    assert not (cache / "hashes").exists()  # nor read


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["lm_head.weight", "model.layers.0.mlp.up_proj.weight", "model.norm.weight"])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_weights_that_are_no_numbers_are_not_packed(
    tmp_path: Path, cache: Path, bad: float, name: str, dtype: str
) -> None:
    tensors = model_tensors(dtype)
    array = np.float32([bad]).view(np.uint32) >> 16 if dtype == "BF16" else [bad]
    tensors[name][1].reshape(-1)[-1] = array[0]
    with pytest.raises(CheckpointError, match=f"'{name}'.*a NaN, an infinity"):
        load_weights(write_model(tmp_path / "m", tensors), EXPECTED, "q4")
    assert packed_files(cache) == []


@pytest.mark.parametrize("quantize", ["q8", "none"])
def test_a_head_that_differs_from_the_embedding_it_is_tied_to_is_refused(
    tmp_path: Path, cache: Path, quantize: str
) -> None:
    tied = {name: shape for name, shape in EXPECTED.items() if name != "lm_head.weight"}
    tensors = model_tensors()
    with pytest.raises(CheckpointError, match="holds two different ones"):
        load_weights(write_model(tmp_path / "other", tensors), tied, quantize)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    assert list(load_weights(write_model(tmp_path / "same", tensors), tied, quantize)) == list(tied)


def test_weights_too_large_for_the_scales_are_not_packed(tmp_path: Path, cache: Path) -> None:
    tensors = model_tensors("F32")
    name = "model.layers.0.mlp.up_proj.weight"
    tensors[name][1][3, 3] = 1e30
    folder = write_model(tmp_path / "m", tensors)
    with pytest.raises(CheckpointError, match=f"'{name}'.* over 500000"):
        load_weights(folder, EXPECTED, "q4")
    assert load_weights(folder, EXPECTED, "none")[name].data[3, 3] == np.float32(1e30)


def packed_folder(tmp_path: Path, recipe: str) -> Path:
    quantize_folder(Checkpoint.open(write_model(tmp_path / "original")), EXPECTED, recipe, tmp_path / "packed")
    shutil.rmtree(tmp_path / "original")
    return tmp_path / "packed"


@pytest.mark.parametrize("recipe", ["q4", "q8"])
def test_a_packed_folder_is_mapped_as_it_is(tmp_path: Path, cache: Path, recipe: str) -> None:
    folder = packed_folder(tmp_path, recipe)
    for quantize in (None, recipe):
        weights = load_weights(folder, EXPECTED, quantize)
        assert_packed_as(weights, model_tensors(), recipe)
        assert weights.quantization == recipe
        assert mapped(weights["lm_head.weight"].data)
    assert not cache.exists()


@pytest.mark.parametrize("quantize", ["q8", "none"])
def test_a_packed_folder_cannot_be_loaded_otherwise(tmp_path: Path, quantize: str) -> None:
    with pytest.raises(OptionError, match=f"quantize is {quantize}, but .* packed as q4 already"):
        load_weights(packed_folder(tmp_path, "q4"), EXPECTED, quantize)


def test_an_unknown_recipe_is_an_option_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="'q5'; it takes one of q4, q8, none"):
        load_weights(write_model(tmp_path / "m"), EXPECTED, "q5")


def test_an_unknown_layout_says_to_quantize_again(tmp_path: Path) -> None:
    file = packed_folder(tmp_path, "q4") / "model.safetensors"
    file.write_bytes(file.read_bytes().replace(b'"slmkit.layout":"2"', b'"slmkit.layout":"1"'))
    with pytest.raises(CheckpointError, match=r"layout '1'.* reads 2; quantize the original model again"):
        load_weights(file.parent, EXPECTED)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b'"slmkit.matrices":"{', b'"slmkit.matrices":"[', "not valid JSON"),
        (b'up_proj.weight\\":[\\"q4_s\\"', b'up_proj.weight\\":[\\"q9_s\\"', "quantize the model again"),
        (b'up_proj.weight\\":[\\"q4_s\\"', b'up_proj.weight\\":[\\"q8\\"  ', "quantize the model again"),
        (
            b'up_proj.weight\\":[\\"q4_s\\",80',
            b'up_proj.weight\\":[\\"q4_s\\",96',
            "quantize the model again|contradicts",
        ),
        (b'up_proj.weight\\":[\\"q4_s\\",80', b'up_proj.weight\\":[\\"q4_s\\",79', "is \\[79, 48\\], not \\[80, 48\\]"),
        (b'up_proj.weight\\":[\\"q4_s\\",80', b'up_proj.weight\\":[\\"q4_s\\",-8', "quantize the model again"),
        (
            b'up_proj.weight\\":[\\"q4_s\\",80,48',
            b'up_proj.weight\\":[\\"q4_k\\",80,40',
            "describes matrix '.*' by .*'q4_k', 80, 40",
        ),
        (b"model.embed_tokens.weight.scale", b"model.embed_tokens.weight.scalp", "lacks|also has|missing"),
    ],
)
def test_a_packed_file_whose_parts_disagree_is_refused(tmp_path: Path, old: bytes, new: bytes, says: str) -> None:
    file = packed_folder(tmp_path, "q4") / "model.safetensors"
    content = file.read_bytes()
    assert old in content
    file.write_bytes(content.replace(old, new))
    with pytest.raises(CheckpointError, match=says):
        load_weights(file.parent, EXPECTED)


def test_a_packed_file_says_what_it_is_and_where_it_is_from(tmp_path: Path) -> None:
    original = write_model(tmp_path / "m")
    quantize_folder(Checkpoint.open(original), EXPECTED, "q4", tmp_path / "out")
    metadata = SafetensorsFile(tmp_path / "out" / "model.safetensors").metadata
    told = subprocess.run(
        ["sha256sum", original / "model.safetensors"], capture_output=True, text=True, check=False
    ).stdout
    assert metadata["slmkit.source_sha256"] == told[:64]
    assert metadata["slmkit.quantization"] == "q4"
    assert json.loads(metadata["slmkit.matrices"])["lm_head.weight"] == ["q8", 100, 48]


def test_the_official_library_reads_a_packed_file(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    tensors = numpy.load_file(packed_folder(tmp_path, "q4") / "model.safetensors")
    whole = pack(model_tensors()["model.layers.0.mlp.up_proj.weight"][1], "q4_s")
    assert np.array_equal(tensors["model.layers.0.mlp.up_proj.weight.q4_s"], whole.data)
    assert np.array_equal(tensors["model.layers.0.mlp.up_proj.weight.scale"], whole.scale)


def test_a_bfloat16_matrix_at_an_odd_address_is_read_right(tmp_path: Path, cache: Path) -> None:
    bits = values((16, 32), "BF16", 5)
    folder = write_model(tmp_path / "m", {"a": ("U8", np.zeros(3, np.uint8)), "w": ("BF16", bits)})
    checkpoint = Checkpoint.open(folder)
    assert np.array_equal(checkpoint.tensor("w"), bits)
    assert checkpoint.tensor("w").flags.aligned
