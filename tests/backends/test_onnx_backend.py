"""ONNX Runtime GenAI, the real package: the bundled model built by its builder, and a small one that sees."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from subjects import PROMPT, exported

import onnx_vision
import slmkit
from slmkit import Constraint, Message
from slmkit.errors import (
    CheckpointError,
    ContextExceeded,
    DeadlineExceeded,
    MissingDependency,
    OptionError,
    RequestError,
    UnsupportedFeature,
    UnsupportedModel,
)
from slmkit.request import Request
from slmkit.vision.hd import grid_of

pytestmark = pytest.mark.runtimes
CALM = {"max_tokens": 40, "temperature": 0.0}
BLACK, WHITE = (Image.new("RGB", (300, 200), colour) for colour in ("black", "white"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    pytest.importorskip("onnxruntime_genai")
    return exported("onnx", tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def model(folder):
    with slmkit.load(f"onnx:{folder}", threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def own():
    with slmkit.load("tiny", quantize="none") as own:
        yield own


@pytest.fixture(scope="module")
def seeing(tmp_path_factory):
    pytest.importorskip("onnxruntime_genai")
    pytest.importorskip("onnx")
    with slmkit.load(f"onnx:{onnx_vision.write_folder(tmp_path_factory.mktemp('seeing') / 'm')}") as seeing:
        yield seeing


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"repetition_penalty": 1.3},
        {"repetition_penalty": 1.3, "repetition_window": 10},
        {"presence_penalty": 1.0, "frequency_penalty": 0.5, "repetition_penalty": 1.1},
        {"logit_bias": {2109: -100.0}},
        {"stop": [" dog"]},
        {"stop_ids": [371]},
        {"top_p": 0.0, "temperature": 1.0},
        {"top_k": 1, "temperature": 1.0},
        {"processors": [lambda ids, logits: np.where(np.arange(len(logits)) % 2 == len(ids) % 2, logits, -1e9)]},
        {"constraint": Constraint("regex", "(It|He)[a-z ]{9}")},
        {"constraint": Constraint("schema", {"enum": ["yes", "no"]})},
        {"constraint": Constraint("lark", 'start: "a" /[0-9]{2}/')},
    ],
    ids=str,
)
def test_an_answer_is_that_of_our_own_engine(model, own, options):
    theirs, ours = (each.chat(PROMPT, **{**CALM, **options}).choices[0] for each in (model, own))
    assert (theirs.text, theirs.reason, theirs.stop) == (ours.text, ours.reason, ours.stop)
    assert [token.id for token in theirs.tokens] == [token.id for token in ours.tokens]
    assert theirs.usage.prompt_tokens == ours.usage.prompt_tokens


def test_log_probabilities_are_the_models_own_under_any_options(model, own):
    options = {"logprobs": 3, "logit_bias": {2109: -100.0}, "repetition_penalty": 1.5}
    theirs, ours = (each.chat(PROMPT, **CALM, **options).choices[0].tokens for each in (model, own))
    for a, b in zip(theirs, ours, strict=True):
        assert [each.id for each in a.top] == [each.id for each in b.top]
        assert a.logprob == pytest.approx(b.logprob, abs=1e-4)  # float32, summed in another order


def test_prompts_and_texts_are_ours(model, own):
    for messages in ([Message("user", "hi <|end|> \U0001f600")], [Message("system", "s"), Message("user", "u")]):
        assert model.render(messages).ids == own.render(messages).ids
    assert model.tokenize("Once upon") == own.tokenize("Once upon")
    assert model.detokenize(own.tokenize("Once upon")) == "Once upon"
    ids = own.render([Message("user", PROMPT)]).ids
    by_ids = "".join(getattr(event, "text", "") for event in model.events(Request(ids=ids)))
    assert by_ids  # sampled as its own file says
    text = "<|user|>\nhi<|end|>\n<|assistant|>\n"
    assert model.generate(text, **CALM, parse_special=True).text == own.generate(text, **CALM, parse_special=True).text


def test_sampling_is_wide_where_nothing_narrows_it_and_narrow_where_something_does(model):
    def first(**options) -> int:
        drawn = {model.chat(PROMPT, max_tokens=1, temperature=100.0, seed=seed, **options).text for seed in range(60)}
        return len(drawn)

    assert first(top_k=0, top_p=1.0) > 50
    assert first(top_k=10**9, top_p=1.0) > 50
    assert first(top_k=2, top_p=1.0) == 2
    assert first(top_k=0, top_p=0.0001) == 1


def test_without_a_seed_answers_differ(model):
    assert len({model.chat(PROMPT, max_tokens=12, temperature=2.0).text for _ in range(4)}) > 1


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"seed": 2**31}, OptionError, "seed is 2147483648; .* takes 0 to 2147483647"),
        ({"logit_bias": {4096: 1.0}}, OptionError, "logit_bias has the token id 4096; this model's are 0 to 4095"),
        ({"stop_ids": [9999]}, OptionError, "stop_ids"),
        ({"num_crops": 4}, UnsupportedFeature, "num_crops"),
        ({"images": [BLACK]}, UnsupportedFeature, "reads text alone"),
        ({"max_tokens": 2000}, ContextExceeded, "11 tokens and max_tokens is 2000"),
        ({"deadline_s": 1e-6}, DeadlineExceeded, "after 0 tokens"),
        ({"constraint": Constraint("regex", "(")}, RequestError, "regex"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(model, options, error, match):
    with pytest.raises(error, match=match):
        model.chat(PROMPT, **{"max_tokens": 5, **options})


@pytest.mark.parametrize(
    ("device", "match"),
    [
        ("cuda", "device is cuda, .*pip install onnxruntime-genai-cuda, or give device cpu"),
        ("dml", "device is dml, .*onnxruntime-genai-directml"),
        ("qnn", "device is qnn, .*Snapdragon"),
        ("OpenVINO", "device is OpenVINO"),
    ],
)
def test_a_provider_that_this_build_lacks_is_named_with_the_way_to_it(folder, device, match):
    with pytest.raises(MissingDependency, match=match):
        slmkit.load(f"onnx:{folder}", device=device)


def test_a_device_that_nobody_knows_is_refused(folder):
    with pytest.raises(OptionError, match="device is 'abacus'; onnx: takes one of cpu, cuda, dml, qnn"):
        slmkit.load(f"onnx:{folder}", device="abacus")


def test_the_folders_own_provider_is_the_default_and_an_option_takes_its_place(folder, own, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "qnn")
    raw = json.loads((copy / "genai_config.json").read_text())
    raw["model"]["decoder"]["session_options"]["provider_options"] = [{"qnn": {"backend_path": "QnnHtp.dll"}}]
    (copy / "genai_config.json").write_text(json.dumps(raw))
    with pytest.raises(MissingDependency, match=r"its genai_config\.json asks for qnn"):
        slmkit.load(f"onnx:{copy}")
    with slmkit.load(f"onnx:{copy}", device="cpu") as model:
        assert model.describe()["device"] == "CPU"
        assert model.chat(PROMPT, **CALM).text == own.chat(PROMPT, **CALM).text
    with (copy / "model.onnx").open("ab") as file:
        file.write(b"EPContext")
    with pytest.raises(UnsupportedModel, match=r"compiled for qnn, which device cpu cannot"):
        slmkit.load(f"onnx:{copy}", device="cpu")


def test_a_damaged_graph_is_a_checkpoint_error(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "damaged")
    (copy / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"cannot be opened by ONNX Runtime GenAI .*slm export onnx"):
        slmkit.load(f"onnx:{copy}")


def test_ctx_and_options_of_loading(folder):
    with slmkit.load(f"onnx:{folder}", ctx=20) as model:
        assert model.context == 20
        with pytest.raises(ContextExceeded, match=r"context of 20.*larger ctx"):
            model.chat(PROMPT, max_tokens=20)
    with pytest.raises(OptionError, match="onnx: does not have the option quantize"):
        slmkit.load(f"onnx:{folder}", quantize="q4")


def test_an_answer_follows_from_its_image(seeing):
    answers = {}
    for name, image in (("black", BLACK), ("white", WHITE)):
        choice = seeing.chat("what", images=[image], max_tokens=8, temperature=0.0, logprobs=1).choices[0]
        answers[name] = choice.text
        # <|user|> and its line, the image's tokens in 16 crops, the question, <|end|>, <|assistant|>
        assert choice.usage.prompt_tokens == grid_of(300, 200, 16).n_tokens + 9
        assert choice.tokens[0].logprob == choice.tokens[0].top[0].logprob
    assert answers["black"] != answers["white"]
    assert seeing.chat("what", images=[BLACK], max_tokens=8, temperature=0.0).text == answers["black"]


def test_images_are_files_bytes_and_pictures_and_several_have_their_tags(seeing, tmp_path):
    BLACK.save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    options = {"max_tokens": 6, "temperature": 0.0}
    texts = {seeing.chat("what", images=[given], **options).text for given in (BLACK, data, str(tmp_path / "a.png"))}
    assert len(texts) == 1
    one, two = (seeing.chat("what", images=images, **options).choices[0].usage for images in ([BLACK], [BLACK, WHITE]))
    assert two.prompt_tokens > one.prompt_tokens + grid_of(300, 200, 16).n_tokens
    with pytest.raises(RequestError, match="image_3"):
        seeing.chat("<|image_3|>", images=[BLACK])


def test_a_model_that_sees_reads_text_alone_too(seeing):
    assert seeing.chat("hello", max_tokens=4, temperature=0.0).choices[0].usage.completion_tokens == 4


@pytest.mark.parametrize(
    ("text", "options", "match"),
    [
        ("<|end|>", {"images": [BLACK]}, r"'<\|end\|>' in it, which the image processor"),
        ("what", {"images": [b"abc"]}, "not an image that is read"),
        ("what", {"images": ["http://127.0.0.1:9/a.png"]}, "private_urls"),
        ("what", {"images": [BLACK], "max_tokens": 7000}, "max_tokens is 7000"),
    ],
)
def test_images_that_cannot_be_taken_are_one_sentence(seeing, text, options, match):
    with pytest.raises(RequestError, match=match):
        seeing.chat(text, **{"max_tokens": 2, **options})


def test_capabilities_are_of_the_model(model, seeing):
    a, b = model.backend.capabilities, seeing.backend.capabilities
    assert [f.name for f in fields(a) if getattr(a, f.name) != getattr(b, f.name)] == ["images"]


def test_python_ends_in_the_middle_of_an_answer(folder):
    """Its threads would not survive that: they are ended, and waited for, first."""
    script = (
        "import slmkit\n"
        f"model = slmkit.load({f'onnx:{folder}'!r})\n"
        "stream = model.stream([slmkit.Message('user', 'Tell me a story.')], max_tokens=900, temperature=0.0)\n"
        "print(next(stream), flush=True)\n"
        "raise SystemExit(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (7, "Once", "")
