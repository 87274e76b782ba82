"""What is known of a folder of ONNX Runtime GenAI, and of the package, before it is opened; no runtime is needed."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import onnx_vision
import slmkit
from slmkit.backends.onnx import search_options
from slmkit.backends.onnx_folder import OnnxFolder
from slmkit.backends.onnx_runtime import require_generation
from slmkit.backends.registry import Runtime
from slmkit.errors import CheckpointError, MissingDependency, ModelNotFound, OptionError, UnsupportedModel
from slmkit.options import Options

# As Qualcomm's folders have it: parts of one model, each a context binary for the NPU.
PIPELINE = [
    {
        "prompt": {
            "filename": "prompt_ctx.onnx",
            "session_options": {"provider_options": [{"qnn": {"soc_model": "60"}}]},
        }
    },
    {"head": {"filename": "head.onnx"}},
]


def write(folder: Path, **model: Any) -> Path:
    """A folder with a genai_config.json alone; None removes a key of its model."""
    raw = copy.deepcopy(onnx_vision.CONFIG)
    raw["model"] = {key: value for key, value in {**raw["model"], **model}.items() if value is not None}
    folder.mkdir(exist_ok=True)
    (folder / "genai_config.json").write_text(json.dumps(raw))
    return folder


def test_what_the_file_says_is_known(tmp_path):
    folder = OnnxFolder.open(str(write(tmp_path / "m", eos_token_id=7)))
    assert (folder.family, folder.sees, folder.context, folder.vocab_size) == ("phi3_v", True, 8000, 128)
    assert (folder.stop_ids, folder.providers) == ({7}, ())
    assert not OnnxFolder.open(str(write(tmp_path / "m", vision=None, type="phi3"))).sees


def test_a_folder_without_the_file_says_where_one_is_or_how_to_make_one(tmp_path):
    with pytest.raises(ModelNotFound, match=r"there is no folder .*slm export onnx MODEL FOLDER"):
        OnnxFolder.open(str(tmp_path / "nothing"))
    with pytest.raises(ModelNotFound, match="onnx: runs folders"):
        OnnxFolder.open(str(tmp_path))
    write(tmp_path / "cpu-int4")
    with pytest.raises(ModelNotFound, match=r"name one of the folders in it that do: .*cpu-int4"):
        OnnxFolder.open(str(tmp_path))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "config.json").write_text("{}")
    with pytest.raises(ModelNotFound, match=r"is a checkpoint.*slm export onnx .*c FOLDER"):
        OnnxFolder.open(str(tmp_path / "c"))


@pytest.mark.parametrize(
    ("key", "value"), [("context_length", "x"), ("context_length", None), ("vocab_size", 0), ("eos_token_id", ["x"])]
)
def test_a_damaged_file_is_told_by_its_key(tmp_path, key, value):
    with pytest.raises(CheckpointError, match=key):
        OnnxFolder.open(str(write(tmp_path / "m", **{key: value})))


def test_a_context_binary_runs_where_it_was_made_for_alone(tmp_path):
    path = write(tmp_path / "npu", type="decoder-pipeline", decoder={"pipeline": PIPELINE}, vision=None, embedding=None)
    (path / "prompt_ctx.onnx").write_bytes(b"\x08\x09...EPContext...qnn")
    (path / "head.onnx").write_bytes(b"\x08\x09...MatMul")
    folder = OnnxFolder.open(str(path))
    assert folder.providers == ("qnn",)
    assert folder.context_binaries == ("prompt_ctx.onnx",)
    folder.require_reader(None)  # where its own file says
    folder.require_reader("QNN")
    for device in ("cpu", "cuda"):
        with pytest.raises(
            UnsupportedModel, match=f"'prompt_ctx.onnx'.*compiled for qnn, which device {device} cannot"
        ):
            folder.require_reader(device)
    (path / "prompt_ctx.onnx").write_bytes(b"MatMul")
    folder.require_reader("cpu")


def test_the_context_is_what_fits_in_memory_or_what_is_asked_for(tmp_path):
    decoder = {"num_hidden_layers": 100, "num_key_value_heads": 1000, "head_size": 1000}
    folder = OnnxFolder.open(str(write(tmp_path / "m", decoder=decoder, context_length=10**6)))
    context, note = folder.fitting_context(None, None)
    assert 1 <= context < 10**5
    assert f"{context} tokens, of the model's 1000000: one token takes 800.00 MB; ctx sets another" in note
    assert folder.fitting_context(500, None) == (500, "")
    assert folder.fitting_context(None, "cuda") == (10**6, "")
    with pytest.raises(OptionError, match="ctx is 1000001"):
        folder.fitting_context(10**6 + 1, None)


def of_era(version: str, *generator: str, rest: tuple[str, ...] = ("Config", "Model", "GeneratorParams")) -> Any:
    """A package with the names that one of that version has."""
    names = dict.fromkeys(("generate_next_token", "get_logits", "set_logits", "get_next_tokens", *generator))
    return SimpleNamespace(__version__=version, Generator=type("Generator", (), names), **dict.fromkeys(rest))


@pytest.mark.parametrize(
    ("package", "told"),
    [
        (
            of_era("0.5.2", "compute_logits"),
            r"0\.5\.2 has the API from before 0\.6 \(params\.input_ids, compute_logits",
        ),
        (of_era("0.8.3", "append_tokens"), r"0\.8\.3 has the API of 0\.6 to 0\.8 \(params\.set_inputs\)"),
        (
            of_era("2.0", "append_tokens", "set_inputs", rest=("Model",)),
            r"has no Config, GeneratorParams: .* newer API",
        ),
        (SimpleNamespace(__version__="3.0"), "has no Config, Model, GeneratorParams, Generator: .* newer API"),
    ],
)
def test_another_generation_of_the_api_is_told_with_the_line_that_installs(package, told):
    """The names are those of the real packages; 0.5.2, 0.8.3 and 0.9.2 were looked at."""
    with pytest.raises(MissingDependency, match=rf'{told}.*run: pip install "onnxruntime-genai==0\.18\.\*"'):
        require_generation(package)
    require_generation(of_era("0.18.0", "append_tokens", "set_inputs"))


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, {}),
        ({"temperature": 0.0, "seed": 3}, {"do_sample": False, "random_seed": 3}),
        ({"temperature": 0.5, "top_p": 0.9}, {"do_sample": True, "temperature": 0.5, "top_p": 0.9}),
        ({"temperature": 0.5, "top_p": 0.0}, {"do_sample": False}),
        ({"top_k": 10**6, "repetition_penalty": 1.5}, {"top_k": 128, "repetition_penalty": 1.5}),
        ({"top_k": 0}, {"top_k": 0}),
    ],
)
def test_options_are_said_in_its_words(options, found):
    assert search_options(Options(**options), 128) == found


def test_one_of_several_packages_is_enough():
    assert Runtime("x", "m", "", "here", ("no-such-package|numpy",)).missing == ()
    assert Runtime("x", "m", "", "here", ("no-such-package|nor-this", "numpy")).missing == ("no-such-package",)


def test_our_own_engine_has_the_processor_alone():
    with pytest.raises(OptionError, match="device is 'cuda', and slmkit's own engine runs on the processor"):
        slmkit.load("tiny", device="cuda")
    slmkit.load("tiny", device="cpu").close()
