"""Loading a folder into the engine: what is checked before memory is taken, and what is told about the result."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from typing import TYPE_CHECKING

import numpy as np
import pytest

import slmkit
import tiny
from slmkit.engine import memory
from slmkit.errors import (
    CheckpointError,
    ContextExceeded,
    ModelNotFound,
    NotEnoughMemory,
    OptionError,
    RuntimeFailure,
    TokenizerError,
    UnsupportedModel,
)
from slmkit.options import Options
from slmkit.request import Request
from slmkit.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path) -> Path:
    return tiny.write_model(tmp_path / "model")


@pytest.mark.parametrize(
    ("quantize", "cache", "dtype", "quantization"),
    [(None, None, "float16", "q8"), ("q8", None, "float16", "q8"), ("none", None, "float32", "none"),
     ("none", "f16", "float16", "none"), ("q4", "f32", "float32", "q4"), ("q4", "auto", "int8", "q4"),
     ("q4", "f16", "float16", "q4")],
)  # fmt: skip
def test_the_cache_is_more_exact_than_the_weights_unless_asked_otherwise(folder, quantize, cache, dtype, quantization):
    with slmkit.load(str(folder), quantize=quantize, cache=cache) as model:
        assert model.backend.loaded.cache.data.dtype == np.dtype(dtype)
        assert model.describe()["quantization"] == quantization
        assert model.generate("Hello", max_tokens=3).text


def test_describe_has_the_facts(folder):
    with slmkit.load(str(folder), quantize="none", ctx=64) as model:
        facts = model.describe()
        assert (facts["architecture"], facts["parameters"], facts["vocabulary"]) == ("phi3", 78144, 128)
        assert (facts["context"], facts["model_context"], facts["weight_bytes"]) == (64, 4096, 78144 * 4)
        assert model.context == 64
        assert repr(model) == f"<Model {str(folder)!r}, context 64>"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model_type": "llama"}, UnsupportedModel, "model_type 'llama'.* architectures here are: phi3"),
        ({"architectures": ["LlamaForCausalLM"]}, UnsupportedModel, "architectures = .*only .'Phi3ForCausalLM'."),
        ({"num_experts": 4}, UnsupportedModel, "'num_experts' = 4"),
        ({"hidden_size": 10**12}, CheckpointError, "hidden_size = 1000000000000"),
        ({"hidden_size": 2**30}, CheckpointError, "has shapes that config.json contradicts"),
        ({"num_hidden_layers": 1000}, CheckpointError, "lacks 'model.layers.2.input_layernorm.weight'"),
        ({"vocab_size": 100}, CheckpointError, "has shapes that config.json contradicts|embedding only 100"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(folder, change, error, message):
    tiny.edit_json(folder / "config.json", **change)
    with pytest.raises((error, TokenizerError), match=message):
        slmkit.load(str(folder))


def test_a_tokenizer_with_more_ids_than_the_embedding_is_refused(folder):
    spec = tiny.spec()
    spec["added_tokens"].append({**spec["added_tokens"][-1], "id": 128, "content": "<|more|>"})
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    with pytest.raises(TokenizerError, match="ids up to 128, the model's embedding only 128 rows"):
        slmkit.load(str(folder))


def test_a_folder_that_is_not_there_is_not_found(folder):
    shutil.rmtree(folder)
    with pytest.raises(ModelNotFound):
        slmkit.load(str(folder))


def test_a_context_that_does_not_fit_in_memory_is_refused_with_both_numbers(folder, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 2_000_000)
    with pytest.raises(
        NotEnoughMemory, match=r"context of 4000 tokens needs 2\.0 MB .* 2\.0 MB of memory is free; use --ctx"
    ):
        slmkit.load(str(folder), quantize="none", ctx=4000)


def test_a_context_that_does_not_fit_is_cut_and_told(folder, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 2_000_000)
    told = []
    with slmkit.load(str(folder), quantize="none", notice=told.append) as model:
        assert model.context == 2944  # (2,000,000 - 312,576) * 0.9 bytes, at 512 a token, in whole blocks
        assert told[0] == "context 2944 tokens of the model's 4096: what fits in 2.0 MB of free memory"
        with pytest.raises(NotEnoughMemory, match="3 beams of 1006 tokens need 3072 tokens of cache, and 2944 fit"):
            model.generate("Hello", beams=3, max_tokens=1000)


def test_more_context_than_the_models_is_refused(folder):
    with pytest.raises(OptionError, match="ctx is 4097; this model was made for at most 4096"):
        slmkit.load(str(folder), ctx=4097)


def test_the_checkpoints_defaults_hold_unless_asked_otherwise(folder):
    tiny.edit_json(folder / "generation_config.json", max_new_tokens=4, eos_token_id=[120])
    with slmkit.load(str(folder), quantize="none") as model:
        assert model.generate("Hello").choices[0].usage.completion_tokens == 4
        assert model.generate("Hello", max_tokens=6).choices[0].usage.completion_tokens == 6


def test_beams_of_the_checkpoint_are_used_and_can_be_turned_off(folder):
    tiny.edit_json(folder / "generation_config.json", num_beams=3)
    with slmkit.load(str(folder), quantize="none") as model:
        assert model.generate("Hello", max_tokens=4).choices[0].score is not None
        with pytest.raises(OptionError, match="3 beams take the likeliest lines"):
            model.generate("Hello", max_tokens=4, temperature=1.0)
        assert model.generate("Hello", max_tokens=4, temperature=1.0, beams=1).choices[0].score is None


def test_a_stop_id_beyond_the_vocabulary_is_refused(folder):
    with (
        slmkit.load(str(folder)) as model,
        pytest.raises(OptionError, match=r"token 128; .* end at 127"),
    ):
        model.generate("Hello", stop_ids=[128])


def test_a_prompt_without_room_for_an_answer_is_told_both_numbers(folder):
    with slmkit.load(str(folder), ctx=64) as model:
        with pytest.raises(ContextExceeded, match=r"has 64 tokens, which leaves no room .* context of 64.*up to 4096"):
            model.events(Request(ids=(5,) * 64))
        with pytest.raises(ContextExceeded, match=r"has 60 tokens and max_tokens is 5, together over .* 64"):
            model.events(Request(ids=(5,) * 60, options=Options(max_tokens=5)))


def test_a_text_that_cannot_fit_is_refused_before_it_is_encoded(folder, monkeypatch):
    with slmkit.load(str(folder), ctx=64) as model:
        monkeypatch.setattr(Tokenizer, "encode_prompt", None)  # calling it would be a TypeError
        with pytest.raises(ContextExceeded, match=r"at least .* tokens, over the context of 64"):
            model.generate("abc" * 10_000)


@pytest.mark.parametrize("quantize", ["none", "q4"])
def test_a_closed_model_holds_neither_weights_nor_cache(folder, quantize):
    model = slmkit.load(str(folder), quantize=quantize)
    assert model.generate("Hello", max_tokens=3).text
    loaded = model.backend.loaded
    held = [weakref.ref(loaded.model), weakref.ref(loaded.cache), weakref.ref(loaded.cache.data)]
    del loaded
    model.close()
    gc.collect()
    assert [ref() for ref in held] == [None, None, None]
    assert model.context
    with pytest.raises(RuntimeFailure, match="closed; load it again"):
        model.generate("Hello", beams=2, max_tokens=3)


def test_a_checkpoints_own_max_new_tokens_gives_way_to_the_context(folder):
    tiny.edit_json(folder / "generation_config.json", max_new_tokens=60)
    with slmkit.load(str(folder), ctx=64) as model:
        (finished,) = (
            e for e in model.events(Request(ids=(5,) * 50, options=Options(ignore_eos=True))) if hasattr(e, "usage")
        )
        assert finished.usage.completion_tokens == 14
