"""--prompt-cache FILE from the outside: used with the model it was made by, and with no other."""

from __future__ import annotations

import json
import os
import stat
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

import slmkit
import tiny
from checkpoints import KERNELS, NATIVE
from slmkit.errors import OptionError, StorageError
from slmkit.options import LoadOptions
from slmkit.sources.find import open_source
from slmkit.weights.header import plan_header
from slmkit.weights.quantize import quantize_folder
from slmkit.weights.safetensors import SafetensorsFile

if TYPE_CHECKING:
    from pathlib import Path

TEXT = "The quick brown fox jumps over the lazy dog and then again. " * 3
GREEDY = {"temperature": 0.0, "max_tokens": 12, "logprobs": 0}


@pytest.fixture
def folder(tmp_path) -> Path:
    return tiny.write_model(tmp_path / "model")


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "x.cache"


def ask(folder, path=None, text=TEXT, **options):
    """(what was said with its log probabilities, cached tokens)"""
    with slmkit.load(folder, prompt_cache=str(path) if path else None, **options) as model:
        choice = model.generate(text, **GREEDY).choices[0]
    return [(token.id, token.logprob) for token in choice.tokens], choice.usage.cached_tokens


def test_the_second_run_does_not_read_the_prompt_again(folder, path):
    right, _ = ask(folder)
    assert ask(folder, path) == (right, 0)
    assert ask(folder, path) == (right, 160)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 or os.name == "nt"
    written = path.stat().st_mtime_ns
    assert ask(folder, path) == (right, 160)
    assert path.stat().st_mtime_ns == written  # the file had the line already


def test_a_file_that_others_could_read_is_private_when_it_is_written_again(folder, path):
    ask(folder, path)
    path.chmod(0o644)
    ask(folder, path, "something else, which is long enough to be kept in the file")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 or os.name == "nt"


def other_weights(folder):
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1  # the lowest bit of one exponent
    weights.write_bytes(data)


def other_rope(folder):
    tiny.edit_json(folder / "config.json", rope_theta=20000.0)


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (other_weights, {}),
        (other_rope, {}),
        (None, {"quantize": "q4"}),
        (None, {"quantize": "none"}),
        (None, {"cache": "q8"}),
        (None, {"cache": "f32"}),
        pytest.param(None, {"kernels": "reference"}, marks=pytest.mark.skipif(not NATIVE, reason="no native kernels")),
    ],
)
def test_a_file_of_another_model_or_other_formats_is_refused_and_stays(folder, path, change, options):
    ask(folder, path)
    before = path.read_bytes()
    if change:
        change(folder)
    with pytest.raises(OptionError, match=r"is of another model, other formats .*name another file, or remove this"):
        ask(folder, path, **options)
    assert path.read_bytes() == before
    path.unlink()
    assert ask(folder, path, **options)[1] == 0
    assert ask(folder, path, **options) == (ask(folder, **options)[0], 160)


def test_weights_that_were_rounded_otherwise_are_another_model(folder, path, tmp_path):
    """As by calibration: same source, same formats, other integers."""
    packed = tmp_path / "packed"
    source = open_source(str(folder))
    quantize_folder(source.tensors, source.expected, "q8", packed)
    ask(packed, path)
    file = SafetensorsFile(packed / "model.safetensors")
    name = next(name for name in file.tensors if name.endswith("down_proj.weight.q8"))
    place = file._header.data_start + file.tensors[name].start
    data = bytearray((packed / "model.safetensors").read_bytes())
    data[place] ^= 1
    (packed / "model.safetensors").write_bytes(data)
    with pytest.raises(OptionError, match="is of another model"):
        ask(packed, path)


def test_a_copy_of_the_model_under_another_name_is_the_same_model(folder, path, tmp_path):
    right, _ = ask(folder, path)
    folder.rename(tmp_path / "moved")
    assert ask(tmp_path / "moved", path) == (right, 160)


@pytest.mark.skipif(len(NATIVE) < 2, reason="there is one kernel set only")
def test_kernel_sets_and_threads_share_a_file(folder, path):
    right, _ = ask(folder, path, kernels=NATIVE[0], threads=1)
    assert ask(folder, path, kernels=NATIVE[-1], threads=2) == (right, 160)


def rewritten(path, **changes):
    """The file with other tensors or other metadata."""
    file = SafetensorsFile(path)
    arrays = {name: file.tensor(name).copy() for name in file.tensors}
    metadata = {**file.metadata, **changes.pop("metadata", {})}
    arrays |= changes
    kinds = {"int32": "I32", "uint8": "U8", "uint32": "U32", "float32": "F32"}
    plan = [(name, kinds[str(a.dtype)], a.shape) for name, a in arrays.items() if a is not None]
    head, header = plan_header(plan, {k: v for k, v in metadata.items() if v is not None})
    data = bytearray(head) + bytes(max(info.end for info in header.tensors.values()))
    for name, info in header.tensors.items():
        data[len(head) + info.start : len(head) + info.end] = arrays[name].tobytes()
    path.write_bytes(data)


def damaged(**changes):
    return lambda path: rewritten(path, **changes)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("a letter to a friend"),
        lambda path: path.write_bytes(b"\xff" * 4096),
        cut,
        damaged(metadata={"slmkit.prompt": None}),
        damaged(metadata={"slmkit.prompt": "2"}),
        damaged(ids=None),
        damaged(ids=np.zeros((2, 80), np.int32)),
        damaged(ids=np.zeros(160, np.float32)),
        damaged(blocks=None),
        damaged(blocks=np.zeros(5, np.uint8)),
        damaged(checksums=np.zeros(4, np.uint32)),
        damaged(metadata={"slmkit.key": None}),
        damaged(metadata={"slmkit.key": "\x1b[2J", "slmkit.model": "\x1b[2J" * 1000}),
    ],
)
def test_what_is_no_prompt_cache_is_refused_and_not_written_to(folder, path, spoil):
    ask(folder, path)
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(OptionError, match=r"prompt cache .*; name another file, or remove this one") as error:
        ask(folder, path)
    assert "\x1b" not in str(error.value)
    assert len(str(error.value)) < 600
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("spoil", "served"),
    [
        (damaged(metadata={"slmkit.table": "1"}), 0),
        (damaged(metadata={"slmkit.table": "a"}), 0),
        (damaged(metadata={"slmkit.table": None}), 0),
        (damaged(ids=np.full(160, -5, np.int32)), 0),
        (damaged(ids=np.zeros(0, np.int32)), 0),
        (damaged(checksums=np.zeros(6, np.uint32)), 0),
        (damaged(blocks=np.zeros((6, 4), np.uint8)), 0),
    ],
)
def test_what_does_not_fit_is_not_used_and_written_anew(folder, path, spoil, served):
    right, _ = ask(folder, path)
    spoil(path)
    assert ask(folder, path) == (right, served)
    assert ask(folder, path) == (right, 160)


def test_after_a_damaged_block_the_rest_is_read_again(folder, path):
    right, _ = ask(folder, path)
    blocks = SafetensorsFile(path).tensor("blocks").copy()
    blocks[3, 1000] ^= 4
    rewritten(path, blocks=blocks)
    assert ask(folder, path) == (right, 96)
    assert ask(folder, path) == (right, 160)


def test_more_ids_than_blocks_lead_nowhere(folder, path):
    right, _ = ask(folder, path)
    file = SafetensorsFile(path)
    rewritten(path, blocks=file.tensor("blocks")[:2].copy(), checksums=file.tensor("checksums")[:2].copy())
    assert ask(folder, path) == (right, 64)
    assert ask(folder, path) == (right, 160)


@pytest.mark.parametrize("name", ["", ".", "missing/x.cache", "model/config.json/x", "a\0b", "x" * 300])
def test_a_place_where_no_file_can_be_is_refused_before_the_model_is_loaded(folder, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((OptionError, StorageError)):
        slmkit.load("no-such-model", prompt_cache=name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_fifo_does_not_hang(folder, path):
    os.mkfifo(path)
    with pytest.raises(OptionError, match="not a regular file"):
        ask(folder, path)


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_stays_one(folder, path, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    path.symlink_to(tmp_path / "elsewhere" / "y")
    right, _ = ask(folder, path)
    assert path.is_symlink()
    assert ask(folder, path) == (right, 160)


def test_a_file_that_became_anothers_meanwhile_is_not_overwritten(folder, path):
    model = slmkit.load(folder, prompt_cache=str(path))
    model.generate(TEXT, **GREEDY)
    path.write_text("a letter to a friend")
    with pytest.raises(OptionError, match="name another file"):
        model.close()
    assert path.read_text() == "a letter to a friend"


def test_a_line_that_cannot_be_written_is_told_when_the_model_is_closed(folder, tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    model = slmkit.load(folder, prompt_cache=str(place / "x"))
    answer = model.generate(TEXT, **GREEDY).text
    place.rmdir()
    with pytest.raises(StorageError, match="there is no folder"):
        model.close()
    model.close()
    assert answer


def test_two_at_once_are_both_right_and_leave_a_whole_file(folder, path):
    texts = [TEXT, TEXT[:60] + "and something else entirely, which nobody had expected"]
    right = [ask(folder, text=text)[0] for text in texts]
    got: dict[int, list[tuple[list[tuple[int, float]], int]]] = {0: [], 1: []}

    def turns(i):
        for _ in range(4):
            got[i].append(ask(folder, path, texts[i]))

    threads = [threading.Thread(target=turns, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in (0, 1):
        assert [said for said, _ in got[i]] == [right[i]] * 4
    assert ask(folder, path)[1] in (32, 160)  # by whose line came last
    assert [p.name for p in path.parent.iterdir() if p.name.endswith(".partial")] == []


def test_nothing_asked_writes_nothing(folder, path):
    slmkit.load(folder, prompt_cache=str(path)).close()
    assert not path.exists()


def test_a_model_that_answers_through_the_same_options_as_any_other(folder, path):
    assert LoadOptions(prompt_cache=str(path)).prompt_cache == str(path)
    with pytest.raises(OptionError, match="prompt_cache is 5; it takes text"):
        LoadOptions(prompt_cache=5)


def test_the_model_in_the_message_is_the_one_of_the_file(folder, path):
    ask(folder, path)
    said = SafetensorsFile(path).metadata["slmkit.model"]
    assert said == f"{folder}, q8, cache f16" + (", reference kernels" if KERNELS[0] == "reference" else "")
    assert json.loads(json.dumps(said)) == said
