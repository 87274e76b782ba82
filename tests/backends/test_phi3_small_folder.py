"""Phi-3-small from a folder in the hub's layout: load, answer, quantize, and what is refused."""

from __future__ import annotations

import base64
import json
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

import slmkit
import small
import tiny
from slmkit.cli.main import main
from slmkit.engine import memory
from slmkit.errors import NotEnoughMemory, UnsupportedModel

if TYPE_CHECKING:
    from pathlib import Path

SPECIALS = ["<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
END, TURN_END = 256, 260


@pytest.fixture
def folder(tmp_path) -> Path:
    """Of the tokenizer the 256 bytes and the five special tokens that matter, whose ids then come earlier."""
    ends = {"eos_token_id": END, "bos_token_id": END, "dummy_token_indices": [262, 263]}
    folder = small.write_model(tmp_path / "model", vocab_size=264, **small.LONGROPE, **ends)
    lines = [b"%s %d" % (base64.b64encode(bytes([i])), i) for i in range(256)]
    (folder / "cl100k_base.tiktoken").write_bytes(b"\n".join(lines) + b"\n")
    added = {str(END + i): {"content": text, "special": True} for i, text in enumerate(SPECIALS)}
    settings = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "added_tokens_decoder": added}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [END, TURN_END]}))
    return folder


@pytest.mark.parametrize("quantize", ["none", "q8", "q4"])
@pytest.mark.parametrize("cache", ["f32", "f16", "q8"])
def test_it_answers_in_every_format_and_never_with_an_unused_id(folder, quantize, cache):
    with slmkit.load(str(folder), quantize=quantize, cache=cache) as model:
        answer = model.generate("Hello", max_tokens=30, logprobs=3, temperature=1.5, seed=1, ignore_eos=True)
        (choice,) = answer.choices
        assert len(choice.tokens) == 30
        assert not {token.id for token in choice.tokens} & {262, 263}
        assert all(math.isfinite(logprob) for token in choice.tokens for _, _, logprob in _tops(token))
        facts = model.describe()
        assert facts["architecture"] == "phi3small"
        assert facts["parameters"] == sum(t.size for t in small.tensors(_config(folder)).values())


def _config(folder):
    return json.loads((folder / "config.json").read_text())


def _tops(token):
    return [(top.id, top.text, top.logprob) for top in token.top or ()]


def test_the_prompt_is_the_published_one(folder):
    with slmkit.load(str(folder)) as model:
        prompt = model.render([slmkit.Message("system", "S"), slmkit.Message("user", "U<|end|>")])
    text = "<|endoftext|><|system|>\nS<|end|>\n<|user|>\nU<|end|><|end|>\n<|assistant|>\n"
    assert prompt.text == text
    assert [id for id in prompt.ids if id >= 256] == [256, 257, 260, 258, 260, 259]  # what was typed is no token


def test_an_answer_that_crosses_the_switch_and_loses_blocks_is_the_same_with_neighbours_and_without_guesses(folder):
    texts = ["abc " * 20, "x", "abc " * 50]  # 80 tokens grow over the switch at 96, 200 over what is near
    with slmkit.load(str(folder), quantize="q4") as model:
        together = model.generate(texts, max_tokens=60, ignore_eos=True)
        alone = [model.generate(text, max_tokens=60, ignore_eos=True, speculate=0) for text in texts]
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    assert all(answer.choices[0].reason == "length" for answer in alone)


def test_a_packed_folder_has_all_it_needs(folder, tmp_path, capsys):
    assert main(["quantize", str(folder), str(tmp_path / "packed"), "--to", "q8", "--quiet"]) == 0
    assert main(["run", str(tmp_path / "packed"), "Hello", "--max-tokens", "5", "--ignore-eos", "--json"]) == 0
    packed = json.loads(capsys.readouterr().out.splitlines()[-1])
    with slmkit.load(str(folder), quantize="q8") as model:
        assert model.chat([slmkit.Message("user", "Hello")], max_tokens=5, ignore_eos=True).text == packed["text"]


def test_calibrating_sees_what_the_models_own_layers_see(folder):
    from slmkit.calibrate import Calibrated
    from slmkit.ops import reference
    from slmkit.sources.find import open_source

    ids = [int(i) for i in np.random.default_rng(0).integers(0, 256, 200)]
    watched = Calibrated(open_source(str(folder)), [ids], reference)
    gram = watched.gram("model.layers.0.self_attn.query_key_value.weight")
    held = small.tensors(_config(folder))
    x = held["model.embed_tokens.weight"][ids] * 10.0
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    x = x * held["model.layers.0.input_layernorm.weight"] + held["model.layers.0.input_layernorm.bias"]
    np.testing.assert_allclose(gram, x.T @ x, rtol=1e-4, atol=1e-3)
    assert watched.gram("model.layers.3.mlp.down_proj.weight").shape == (96, 96)


def test_show_counts_the_cache_as_the_engine_takes_it(folder, capsys, monkeypatch):
    assert main(["show", str(folder), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["architecture"], shown["longrope_from"], shown["shares_embedding"]) == ("phi3small", 96, True)
    whole = next(need for need in shown["memory"]["contexts"] if need["context"] == 4096)
    with slmkit.load(str(folder)) as model:
        data, layout = model.backend.loaded.cache.data, model.backend.loaded.config.cache_layout
        per_block = data.nbytes // len(data)
        assert whole["cache"] == layout.blocks_of(4096, 256) * per_block
        assert whole["cache"] < 0.8 * 4096 // 32 * 4 * per_block  # half of the sparse half is given back
    monkeypatch.setattr(memory, "free_bytes", lambda: whole["weights"] + int(whole["cache"] / 0.9) - 10_000)
    with pytest.raises(NotEnoughMemory, match="a context of 4096 tokens needs"):
        slmkit.load(str(folder), ctx=4096)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qk_layernorm": True}, "'qk_layernorm' = True, which phi3small here does not know"),
        ({"sliding_window": 5}, "'sliding_window' = 5"),
    ],
)
def test_an_unknown_setting_is_refused_by_name(folder, change, message):
    tiny.edit_json(folder / "config.json", **change)
    with pytest.raises(UnsupportedModel, match=message):
        slmkit.load(str(folder))


def test_gguf_has_no_form_for_it(folder, tmp_path, capsys):
    assert main(["export", "gguf", str(folder), str(tmp_path / "x.gguf"), "--type", "f16"]) != 0
    assert "a phi3small model cannot be written into a GGUF file" in capsys.readouterr().err


def test_without_a_generation_config_the_published_ids_end_an_answer(folder):
    from slmkit.engine.defaults import stop_ids

    assert stop_ids({}, {"model_type": "phi3small"}, 100352) == {100257, 100266}
