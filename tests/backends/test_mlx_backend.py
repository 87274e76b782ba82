"""The real package, in its build for processors, on small models: the same answers as our own engine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import checkpoints
import phimoe_checkpoint
import slmkit
import tiny
from slmkit.errors import ModelError, OptionError, UnsupportedModel
from slmkit.sources.find import open_source
from slmkit.weights.quantize import quantize_folder

pytestmark = pytest.mark.runtimes
pytest.importorskip("mlx.core")
pytest.importorskip("mlx_lm")

ASKED = "Tell me a story about a dog."


@pytest.fixture(scope="module", params=["gqa", "longrope"])
def folder(request, tmp_path_factory) -> Path:
    """Random weights in float32, in which two engines differ by the order of sums alone."""
    return tiny.write_model(tmp_path_factory.mktemp(request.param) / "model", request.param)


def test_greedy_and_drawn_answers_are_those_of_our_engine(folder):
    found = []
    for name in (f"mlx:{folder}", str(folder)):
        options = {"quantize": "none", "cache": "f32"} if name == str(folder) else {}
        with slmkit.load(name, **options) as model:
            ids = tuple(range(4, 12))
            for asked in (
                {"temperature": 0.0, "logprobs": 2},
                {"temperature": 0.9, "top_p": 0.9, "seed": 3, "n": 3, "repetition_penalty": 1.2, "logprobs": 2},
            ):
                wanted = slmkit.Options(max_tokens=16, ignore_eos=True, **asked)
                found.append(slmkit.events.collect(model.events(slmkit.Request(ids=ids, options=wanted))))
    for a, b in ((found[0], found[2]), (found[1], found[3])):
        for x, y in zip(a.choices, b.choices, strict=True):
            assert [token.id for token in x.tokens] == [token.id for token in y.tokens]
            np.testing.assert_allclose(
                [token.logprob for token in x.tokens], [token.logprob for token in y.tokens], atol=1e-3
            )


def test_the_prompt_is_scored_as_by_our_engine(folder):
    scored = []
    for name in (f"mlx:{folder}", str(folder)):
        options = {"quantize": "none", "cache": "f32"} if name == str(folder) else {}
        with slmkit.load(name, **options) as model:
            request = slmkit.Request(ids=tuple(range(4, 30)), options=slmkit.Options(max_tokens=1), prompt_logprobs=1)
            scored.append([token.logprob for token in slmkit.events.collect(model.events(request)).prompt[1:]])
    np.testing.assert_allclose(scored[0], scored[1], atol=1e-3)


def test_a_mixture_of_experts_is_scored_as_by_our_engine(tmp_path):
    folder = phimoe_checkpoint.write_folder(tmp_path / "model")
    tiny.edit_json(folder / "config.json", torch_dtype="float32")
    ids = next(ids for ids, _, _ in phimoe_checkpoint.prompts() if len(ids) == 31)
    request = slmkit.Request(ids=tuple(int(i) for i in ids), options=slmkit.Options(max_tokens=1), prompt_logprobs=1)
    scored = []
    for name, options in ((f"mlx:{folder}", {}), (str(folder), {"quantize": "none", "cache": "f32"})):
        with slmkit.load(name, **options) as model:
            scored.append([token.logprob for token in slmkit.events.collect(model.events(request)).prompt[1:]])
    np.testing.assert_allclose(scored[0], scored[1], atol=1e-4)  # 2e-6 at most


def test_the_default_context_is_where_the_short_factors_are_right(tmp_path):
    told: list[str] = []
    folder = tiny.write_model(tmp_path / "model", "longrope")
    original = json.loads((folder / "config.json").read_text())["original_max_position_embeddings"]
    with slmkit.load(f"mlx:{folder}", notice=told.append) as model:
        assert model.context == original
    assert "ctx changes it" in told[0]
    with slmkit.load(f"mlx:{folder}", ctx=original + 1, notice=told.append) as model:
        assert model.context == original + 1
    assert f"ctx {original}" in told[1]


def test_a_chat_has_the_prompt_of_our_engine():
    with slmkit.load("mlx:tiny") as theirs, slmkit.load("tiny") as ours:
        assert theirs.render(ASKED) == ours.render(ASKED)
        assert theirs.chat(ASKED, max_tokens=20, temperature=0.0).text.startswith("Once")


def test_a_folder_that_mlx_lm_quantized_is_run(tmp_path):
    from mlx_lm import convert

    source = open_source("tiny").path
    convert(str(source), mlx_path=str(tmp_path / "quantized"), quantize=True, q_bits=8, q_group_size=64)
    with slmkit.load(f"mlx:{tmp_path / 'quantized'}") as model:
        assert model.chat(ASKED, max_tokens=20, temperature=0.0).text.startswith("Once")


def test_a_folder_that_slmkit_packed_is_refused(tmp_path):
    source = open_source("tiny")
    quantize_folder(source.tensors, source.expected, "q8", tmp_path / "packed")
    with pytest.raises(UnsupportedModel, match="packed by slmkit"):
        slmkit.load(f"mlx:{tmp_path / 'packed'}")


def test_what_it_has_no_model_for_is_refused(tmp_path):
    with pytest.raises(UnsupportedModel, match=r"phi99.*pip install -U mlx-lm"):
        slmkit.load(f"mlx:{tiny.write_model(tmp_path / 'unknown', model_type='phi99')}")
    with pytest.raises(UnsupportedModel, match="code of its own"):
        slmkit.load(f"mlx:{tiny.write_model(tmp_path / 'code', model_file='evil.py')}")


def test_a_missing_weight_is_no_noise(tmp_path):
    layers = json.loads((checkpoints.REFERENCE / "gqa" / "config.json").read_text())["num_hidden_layers"]
    folder = tiny.write_model(tmp_path / "model", num_hidden_layers=layers + 1)
    with pytest.raises(ModelError, match="mlx-lm cannot load"):
        slmkit.load(f"mlx:{folder}")


def test_options_that_it_lacks_are_refused_by_name():
    with pytest.raises(OptionError, match="does not have the option threads; it takes ctx, offline"):
        slmkit.load("mlx:tiny", threads=2)
