"""Folders for other runtimes: what is refused before any exporter runs, and what theirs write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import phimoe_checkpoint
import slmkit
import tiny
from slmkit.errors import MissingDependency, RequestError, RuntimeFailure, StorageError, UnsupportedModel
from slmkit.export_folder import FORMATS, export_folder
from slmkit.sources.find import open_source
from slmkit.weights.quantize import quantize_folder
from vision_models import write_vision_model

PROMPT = "Tell me a story about a dog."


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("models") / "gqa")


@pytest.mark.parametrize(
    ("format", "options", "match"),
    [
        ("onnx", {"type": "q4_0"}, "type is 'q4_0'; an export to onnx takes one of int4, int8, f32, f16, bf16"),
        ("onnx", {"device": "qnn"}, "device is 'qnn'; an export to onnx takes one of cpu, cuda, dml, webgpu"),
        ("openvino", {"type": "bf16"}, "one of int8, int4, f32, f16"),
        ("openvino", {"device": "gpu"}, "device is 'gpu'"),
    ],
)
def test_types_and_devices_are_those_of_the_exporter(folder, tmp_path, format, options, match):
    with pytest.raises(RequestError, match=match):
        export_folder(open_source(str(folder)), tmp_path / "out", format, **options)


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_there_stays_unless_it_was_made_so_and_forced(folder, tmp_path, format):
    source = open_source(str(folder))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RequestError, match="is no folder"):
        export_folder(source, tmp_path / "file", format, force=True)
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("mine")
    with pytest.raises(RequestError, match="--force"):
        export_folder(source, out, format)
    with pytest.raises(RequestError, match="no such export made it, and it stays"):
        export_folder(source, out, format, force=True)
    assert (out / "mine").read_text() == "mine"


@pytest.mark.parametrize(("format", "match"), [("onnx", "writes the text part alone"), ("openvino", "text models")])
def test_vision_is_refused_with_the_reason(tmp_path, format, match):
    source = open_source(str(write_vision_model(tmp_path / "vision")))
    with pytest.raises(UnsupportedModel, match=f"sees images, and .*{match}"):
        export_folder(source, tmp_path / "out", format)


@pytest.mark.parametrize("format", FORMATS)
def test_what_an_exporter_cannot_read_is_refused(folder, tmp_path, format):
    source = open_source(str(folder))
    quantize_folder(source.tensors, source.expected, "q8", tmp_path / "packed")
    gguf = Path(__file__).parent / "data/gguf/tiny-F32.gguf"
    for name in (str(tmp_path / "packed"), str(gguf)):
        with pytest.raises(UnsupportedModel, match="not a folder with its original weights"):
            export_folder(open_source(name), tmp_path / "out", format)


def test_experts_are_for_cuda_alone(tmp_path):
    source = open_source(str(phimoe_checkpoint.write_folder(tmp_path / "moe")))
    with pytest.raises(
        UnsupportedModel, match="has experts, which ONNX Runtime runs on CUDA alone; give --device cuda"
    ):
        export_folder(source, tmp_path / "out", "onnx")


@pytest.mark.parametrize("format", FORMATS)
def test_without_the_exporter_the_line_that_installs_it_is_told(folder, tmp_path, format, monkeypatch):
    monkeypatch.setattr("slmkit.export_folder.version_of", lambda package: None)
    with pytest.raises(
        MissingDependency, match=rf"needs {FORMATS[format].packages[0]} and .*'slmkit\[{format}-export\]'"
    ):
        export_folder(open_source(str(folder)), tmp_path / "out", format)
    assert not [*tmp_path.iterdir()]


@pytest.mark.runtimes
@pytest.mark.parametrize("format", FORMATS)
def test_an_exporter_that_fails_is_quoted_and_leaves_nothing(folder, tmp_path, format):
    pytest.importorskip({"onnx": "onnxruntime_genai", "openvino": "openvino_genai"}[format])
    copy = tiny.write_model(tmp_path / "model")
    source = open_source(str(copy))
    assert source.tensors.total_bytes  # read before the file is damaged
    (copy / "config.json").write_text("{}")
    with pytest.raises(RuntimeFailure, match=f"the exporter to {format} cannot export .*: .*; try another --type"):
        export_folder(source, tmp_path / "out", format, "f32")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    with pytest.raises(StorageError, match="no folder"):
        export_folder(source, tmp_path / "no" / "out", format)


@pytest.mark.runtimes
@pytest.mark.parametrize("format", FORMATS)
def test_a_model_is_written_ends_as_it_does_here_and_runs(tmp_path, format):
    """The types that are rounded change answers, so that they run and end is all that is asked of them."""
    pytest.importorskip({"onnx": "onnxruntime_genai", "openvino": "openvino_genai"}[format])
    source, out = open_source("tiny"), tmp_path / "out"
    written = export_folder(source, out, format)
    assert written.n_bytes == sum(file.stat().st_size for file in out.iterdir()) > 1e6
    assert written.n_files == len([*out.iterdir()])
    assert (out / "LICENSE").read_text() == (source.path / "LICENSE").read_text()
    raw = json.loads((out / FORMATS[format].stops[0]).read_text())
    assert set((raw.get("model") or raw)["eos_token_id"]) == source.stop_ids
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with slmkit.load(f"{format}:{out}") as model:
        choice = model.chat(PROMPT, max_tokens=500, temperature=0.0).choices[0]
        assert (choice.reason, choice.stop) == ("stop", "<|end|>")
