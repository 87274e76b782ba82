"""`slm quantize`: a folder that loads by itself, and never the loss of one that was there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from folders import EXPECTED, model_tensors, write_model
from test_packed import assert_packed_as

from slmkit.cli.main import main
from slmkit.errors import CheckpointError, RequestError
from slmkit.weights.checkpoint import Checkpoint
from slmkit.weights.load import load_weights
from slmkit.weights.quantize import quantize_folder

PHI3 = Path(__file__).parents[1] / "reference" / "phi3" / "gqa"


def quantize(source: Path, out: Path, recipe: str = "q4", **settings: Any) -> Any:
    return quantize_folder(Checkpoint.open(source), EXPECTED, recipe, out, **settings)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_configuration_and_tokenizer_come_along_and_nothing_else(tmp_path: Path) -> None:
    source = write_model(tmp_path / "m", shards=2)
    for name in ("tokenizer.json", "generation_config.json", "chat_template.jinja"):
        (source / name).write_text('{"a": "é"}', encoding="utf-8")
    (source / "modeling_phi3.py").write_text("print()")
    quantize(source, tmp_path / "deep" / "out")
    found = snapshot(tmp_path / "deep" / "out")
    assert sorted(found) == [
        "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
    ]  # fmt: skip
    assert found["chat_template.jinja"] == (source / "chat_template.jinja").read_bytes()


def test_the_sizes_told_are_those_of_the_files(tmp_path: Path) -> None:
    source = write_model(tmp_path / "m", shards=2)
    done = quantize(source, tmp_path / "out")
    assert done.source_bytes == sum(path.stat().st_size for path in source.glob("*.safetensors"))
    assert done.packed_bytes == (tmp_path / "out" / "model.safetensors").stat().st_size
    assert done.n_weights == sum(array.size for _, array in model_tensors().values())


def test_a_folder_with_files_in_it_is_left_alone_unless_forced(tmp_path: Path) -> None:
    source, out = write_model(tmp_path / "m"), tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    before = snapshot(out)
    with pytest.raises(RequestError, match="has files in it"):
        quantize(source, out)
    assert snapshot(out) == before
    quantize(source, out, force=True)
    assert (out / "mine.txt").read_text() == "mine"
    assert_packed_as(load_weights(out, EXPECTED), model_tensors(), "q4")


def test_forcing_leaves_no_template_of_the_model_before(tmp_path: Path) -> None:
    first, second = write_model(tmp_path / "a"), write_model(tmp_path / "b")
    (first / "chat_template.jinja").write_text("the first one's")
    quantize(first, tmp_path / "out")
    quantize(second, tmp_path / "out", "q8", force=True)
    assert sorted(snapshot(tmp_path / "out")) == ["config.json", "model.safetensors"]
    assert load_weights(tmp_path / "out", EXPECTED).quantization == "q8"


def test_a_failure_while_forcing_keeps_the_model_that_was_there(tmp_path: Path) -> None:
    quantize(write_model(tmp_path / "a"), tmp_path / "out")
    before = snapshot(tmp_path / "out")
    bad = model_tensors(seed=5)
    bad["lm_head.weight"][1][-1, -1] = 0x7F80  # infinite
    with pytest.raises(CheckpointError):
        quantize(write_model(tmp_path / "b", bad), tmp_path / "out", force=True)
    assert snapshot(tmp_path / "out") == before


def test_the_original_folder_is_never_written_to(tmp_path: Path) -> None:
    source = write_model(tmp_path / "m")
    (tmp_path / "link").symlink_to(source)
    before = snapshot(source)
    for out in (source, tmp_path / "link", source / ".." / "m"):
        with pytest.raises(RequestError, match="original model's own folder"):
            quantize(source, out, force=True)
    assert snapshot(source) == before


def test_a_file_a_packed_source_and_a_sharded_target_are_refused(tmp_path: Path) -> None:
    source = write_model(tmp_path / "m")
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="is a file"):
        quantize(source, tmp_path / "file", force=True)
    with pytest.raises(RequestError, match="in several files"):
        quantize(source, write_model(tmp_path / "sharded", shards=2), force=True)
    quantize(source, tmp_path / "out")
    with pytest.raises(RequestError, match="packed already"):
        quantize(tmp_path / "out", tmp_path / "again")


def test_a_side_file_that_is_a_fifo_fails_and_leaves_nothing(tmp_path: Path) -> None:
    source = write_model(tmp_path / "m")
    os.mkfifo(source / "tokenizer.json")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is not a regular file"):
        quantize(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_verb_tells_sizes_bits_and_seconds_to_people_and_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quantize", str(PHI3), str(tmp_path / "a"), "--to", "q8", "--quiet"]) == 0
    told = capsys.readouterr()
    assert "8.94 bits per weight" in told.out
    assert told.err == ""
    assert main(["quantize", str(PHI3), str(tmp_path / "b"), "--json"]) == 0
    told = capsys.readouterr()
    facts = json.loads(told.out)
    assert facts["packed_bytes"] == (tmp_path / "b" / "model.safetensors").stat().st_size
    assert facts["bits_per_weight"] == round(8 * facts["packed_bytes"] / facts["weights"], 3)
    assert told.err == ""  # a few kilobytes are packed before anybody reads a line about it


@pytest.mark.parametrize(
    ("arguments", "code"), [((".", ""), 2), (("./nothing", "out"), 3), ((str(PHI3), str(PHI3)), 2)]
)
def test_what_the_verb_cannot_do_is_one_line_and_an_exit_code(
    arguments: tuple[str, str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quantize", *arguments]) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("slm: ")
    assert told.err.count("\n") == 1
