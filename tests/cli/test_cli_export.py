"""slm export."""

from __future__ import annotations

import json

import pytest


def test_a_model_is_written_and_runs(real_slm, tmp_path):
    out = tmp_path / "tiny.gguf"
    first = real_slm("export", "gguf", "tiny", str(out))
    assert (first.code, first.err) == (0, "")
    assert "25 BF16, 13 F32" in first.out
    answer = real_slm("run", str(out), "Tell me a story about a dog.", "--max-tokens=5", "--temperature=0", "-q")
    assert answer.code == 0
    assert answer.out == real_slm("run", "tiny", "Tell me a story about a dog.", "--max-tokens=5", "--temperature=0",
                                  "--quantize=none", "-q").out  # fmt: skip


def test_json_has_the_facts(real_slm, tmp_path):
    out = tmp_path / "tiny.gguf"
    facts = json.loads(real_slm("export", "gguf", "tiny", str(out), "--type", "q4_0", "--json").out)
    assert facts["bytes"] == out.stat().st_size
    assert facts["tensors"] == {"Q8_0": 1, "Q4_0": 24, "F32": 13}


def test_a_file_that_is_there_stays_unless_forced(real_slm, tmp_path):
    out = tmp_path / "tiny.gguf"
    out.write_text("mine")
    refused = real_slm("export", "gguf", "tiny", str(out))
    assert (refused.code, refused.out) == (2, "")
    assert "--force" in refused.err
    assert out.read_text() == "mine"
    assert real_slm("export", "gguf", "tiny", str(out), "--force").code == 0


@pytest.mark.parametrize(
    ("argv", "match"),
    [
        (["tflite", "tiny", "out.tflite"], "gguf"),
        (["onnx", "tiny", "out", "--type", "q4_0"], "onnx takes one of int4"),
        (["gguf", "tiny", "out.gguf", "--type", "int4"], "gguf takes one of as-is"),
        (["gguf", "tiny", "out.gguf", "--device", "cuda"], "leave it out"),
        (["gguf", "tiny", " "], "OUT is empty"),
        (["gguf", "tiny", "out.gguf", "--type", "q9"], "q4_0"),
        (["gguf", "tiny", "no/such/folder/out.gguf"], "no folder"),
    ],
)
def test_what_cannot_be_written_is_one_line(real_slm, tmp_path, monkeypatch, argv, match):
    monkeypatch.chdir(tmp_path)
    refused = real_slm("export", *argv)
    assert refused.code in (2, 5)
    assert match in refused.err
    assert refused.err.count("\n") == 1


def test_the_choices_of_the_command_line_are_those_of_the_writer():
    from slmkit import export, export_folder
    from slmkit.cli import export as verb

    assert verb.TYPES["gguf"] == tuple(export.TYPES)
    assert {name: tuple(known.types) for name, known in export_folder.FORMATS.items()} == {
        name: types for name, types in verb.TYPES.items() if name != "gguf"
    }
