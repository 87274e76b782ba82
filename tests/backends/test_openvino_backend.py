"""OpenVINO GenAI, the real package: the bundled model exported by optimum-intel."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from subjects import PROMPT, exported

import slmkit
from slmkit import Constraint, Message
from slmkit.errors import (
    CheckpointError,
    ContextExceeded,
    DeadlineExceeded,
    MissingDependency,
    ModelNotFound,
    OptionError,
    UnsupportedFeature,
    UnsupportedModel,
)

pytestmark = pytest.mark.runtimes
CALM = {"max_tokens": 40, "temperature": 0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    pytest.importorskip("openvino_genai")
    return exported("openvino", tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def model(folder):
    # As exact as it goes: its own default keeps the cache in 8 bits.
    with slmkit.load(f"openvino:{folder}", threads=1, cache="f32") as model:
        yield model


@pytest.fixture(scope="module")
def own():
    with slmkit.load("tiny", quantize="none") as own:
        yield own


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"repetition_penalty": 1.3},
        {"presence_penalty": 1.0, "frequency_penalty": 0.5, "repetition_penalty": 1.1},
        {"stop": [" dog"]},
        {"stop_ids": [371]},
        {"top_p": 0.0, "temperature": 1.0},
        {"top_k": 1, "temperature": 1.0},
        {"max_tokens": 300},
        {"max_tokens": 190, "ignore_eos": True},  # ten tokens past the end of the story
        {"max_tokens": 300, "ignore_eos": True, "stop_ids": [4094]},
    ],
    ids=str,
)
def test_an_answer_is_that_of_our_own_engine(model, own, options):
    theirs, ours = (each.chat(PROMPT, **{**CALM, **options}).choices[0] for each in (model, own))
    assert (theirs.text, theirs.reason, theirs.stop) == (ours.text, ours.reason, ours.stop)
    assert [token.id for token in theirs.tokens] == [token.id for token in ours.tokens]
    assert theirs.usage.prompt_tokens == ours.usage.prompt_tokens


def test_prompts_and_texts_are_ours(model, own):
    for messages in ([Message("user", "hi <|end|> \U0001f600")], [Message("system", "s"), Message("user", "u")]):
        assert model.render(messages).ids == own.render(messages).ids
    text = "<|user|>\nhi<|end|>\n<|assistant|>\n"
    assert model.generate(text, **CALM, parse_special=True).text == own.generate(text, **CALM, parse_special=True).text
    assert model.detokenize(model.tokenize("Once upon")) == "Once upon"


def test_sampling_is_wide_where_nothing_narrows_it_and_narrow_where_something_does(model):
    def first(**options) -> int:
        drawn = {model.chat(PROMPT, max_tokens=1, temperature=100.0, seed=seed, **options).text for seed in range(60)}
        return len(drawn)

    assert first(top_k=0, top_p=1.0) > 50
    assert first(top_k=2, top_p=1.0) == 2
    assert first(top_k=0, top_p=0.0001) == 1
    assert first(top_k=0, top_p=1.0, min_p=0.9999) == 1


def test_without_a_seed_answers_differ(model):
    """Its own default is one seed for all."""
    assert len({model.chat(PROMPT, max_tokens=12, temperature=2.0).text for _ in range(4)}) > 1


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"presence_penalty": 3.0}, OptionError, "presence_penalty is 3.0; .* from -2 to 2"),
        ({"min_p": 1.0}, OptionError, "below 1"),
        ({"stop_ids": [9999]}, OptionError, "stop_ids has the token id 9999"),
        ({"max_tokens": 2000}, ContextExceeded, "11 tokens and max_tokens is 2000"),
        ({"deadline_s": 1e-6}, DeadlineExceeded, "after 0 tokens"),
        ({"constraint": Constraint("json")}, UnsupportedFeature, "does not have constraint"),
        ({"logprobs": 1}, UnsupportedFeature, "does not have logprobs"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_the_next_request_is_answered(model, options, error, match):
    with pytest.raises(error, match=match):
        model.chat(PROMPT, **{"max_tokens": 5, **options})
    assert model.chat(PROMPT, max_tokens=2).choices[0].usage.completion_tokens == 2


@pytest.mark.parametrize("device", ["gpu", "npu", "abacus"])
def test_a_device_that_this_machine_lacks_is_named_with_those_it_has(folder, device):
    import openvino

    if device.upper() in openvino.Core().available_devices:
        pytest.skip("this machine has it")
    with pytest.raises(MissingDependency, match=f"device is '{device}', and OpenVINO finds cpu"):
        slmkit.load(f"openvino:{folder}", device=device)


def test_options_of_loading(folder, own):
    with slmkit.load(f"openvino:{folder}", device="auto", ctx=20) as model:
        assert (model.context, model.describe()["device"]) == (20, "AUTO")
        few = {"max_tokens": 5, "temperature": 0.0}
        assert model.chat(PROMPT, **few).text == own.chat(PROMPT, **few).text
        with pytest.raises(ContextExceeded, match="context of 20"):
            model.chat(PROMPT, max_tokens=20)
    with pytest.raises(OptionError, match="openvino: does not have the option quantize"):
        slmkit.load(f"openvino:{folder}", quantize="q4")


def test_folders_that_are_none_of_its_are_told_apart(folder, tmp_path):
    with pytest.raises(ModelNotFound, match=r"there is no folder .*slm export openvino MODEL FOLDER"):
        slmkit.load(f"openvino:{tmp_path / 'nothing'}")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelNotFound, match="is a checkpoint"):
        slmkit.load(f"openvino:{tmp_path}")
    (tmp_path / "openvino_language_model.xml").write_text("")
    with pytest.raises(UnsupportedModel, match="is a vision model"):
        slmkit.load(f"openvino:{tmp_path}")
    copy = shutil.copytree(folder, tmp_path / "damaged")
    (copy / "openvino_model.xml").write_text("nothing")
    with pytest.raises(CheckpointError, match="cannot be opened by OpenVINO GenAI on CPU"):
        slmkit.load(f"openvino:{copy}")


def test_python_ends_in_the_middle_of_an_answer(folder):
    """Its threads would not survive that: they are ended, and waited for, first."""
    script = (
        "import slmkit\n"
        f"model = slmkit.load({f'openvino:{folder}'!r})\n"
        "stream = model.stream([slmkit.Message('user', 'Tell me a story.')], max_tokens=900, temperature=0.0)\n"
        "print(next(stream), flush=True)\n"
        "raise SystemExit(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (7, "Once", "")
