"""A model of Ollama's store runs as the store says: its template, system text, examples, parameters and stops."""

from __future__ import annotations

from pathlib import Path

import pytest

import slmkit
from ollama_store import LIBRARY_TEMPLATE, STOPS, OllamaStore
from slmkit.errors import TemplateError
from slmkit.request import Message
from slmkit.sources.find import open_source

GGUF = Path(__file__).parents[1] / "data" / "gguf" / "tiny-Q4_0.gguf"
QUESTION = [Message("user", "hi")]


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """opened(**layers): the source of a model with these layers."""
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "store"))
    store = OllamaStore(tmp_path / "store")

    def add(**layers):
        store.add("m/latest", model=GGUF.read_bytes(), **layers)
        return open_source("ollama-store:m")

    return add


def test_the_prompt_has_the_stores_template_system_text_and_examples(opened):
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    source = opened(template=LIBRARY_TEMPLATE, system="Be brief.", messages=messages)
    assert source.prompt(QUESTION).text == (
        "<|system|>\nBe brief.<|end|>\n<|user|>\na<|end|>\n<|assistant|>\nb<|end|><|user|>\nhi<|end|>\n<|assistant|>\n"
    )


def test_a_system_message_of_ones_own_takes_the_place_of_the_stores(opened):
    source = opened(template=LIBRARY_TEMPLATE, system="Be brief.")
    text = source.prompt([Message("system", "Be long."), *QUESTION]).text
    assert text == "<|system|>\nBe long.<|end|>\n<|user|>\nhi<|end|>\n<|assistant|>\n"


def test_without_a_template_layer_it_is_the_files_own(opened):
    assert opened().template.source == open_source(str(GGUF)).template.source
    assert (
        opened(system="x").prompt(QUESTION).ids
        == open_source(str(GGUF)).prompt([Message("system", "x"), *QUESTION]).ids
    )


def test_an_unknown_template_leaves_everything_but_chats(opened):
    opened(template="{{ .Suffix }}")
    with slmkit.load("ollama-store:m") as model:
        assert model.generate("a", max_tokens=2, ignore_eos=True).choices[0].usage.completion_tokens == 2
        with pytest.raises(TemplateError, match="does not know"):
            model.chat("hi")


def test_parameters_are_defaults_that_a_request_goes_before(opened):
    opened(params={"num_predict": 3, "num_ctx": 64, "temperature": 0.0})
    with slmkit.load("ollama-store:m") as model:
        assert model.describe()["context"] == 64
        assert model.generate("a", ignore_eos=True).choices[0].usage.completion_tokens == 3
        assert model.generate("a", ignore_eos=True, max_tokens=5).choices[0].usage.completion_tokens == 5
    with slmkit.load("ollama-store:m", ctx=96) as model:
        assert model.describe()["context"] == 96


def test_a_context_beyond_the_models_is_cut_to_it(opened):
    opened(params={"num_ctx": 131072})
    with slmkit.load("ollama-store:m") as model:
        assert model.describe()["context"] == model.describe()["model_context"] == 512


def test_a_stop_text_that_is_a_control_token_ends_answers_as_that_token(opened):
    """Ollama compares stop texts with control tokens as text; here those have none."""
    source = opened(params={"stop": [*STOPS, "###"]})
    added = source.stop_ids - open_source(str(GGUF)).stop_ids
    assert [source.tokenizer.id_to_piece(id) for id in added] == ["<|user|>"]
    assert source.defaults.stop == (*STOPS, "###")


def test_the_numbers_are_those_of_the_file(opened):
    opened(config={})
    with slmkit.load("ollama-store:m") as ours, slmkit.load(str(GGUF)) as file:
        text = ours.generate("Once", max_tokens=12, ignore_eos=True).text
        assert text == file.generate("Once", max_tokens=12, ignore_eos=True).text
