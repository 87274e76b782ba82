"""Adapters of a loaded model, as Python users meet them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import adapters
import slmkit
import tiny
from slmkit.errors import CheckpointError, ModelNotFound, NotEnoughMemory, OptionError, UnsupportedModel
from slmkit.options import LoadOptions
from slmkit.sources.find import open_source
from vision_models import write_vision_model

PEFT = Path(__file__).parents[1] / "data" / "lora"
SETTINGS = {"max_tokens": 12, "ignore_eos": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("models") / "gqa")


@pytest.fixture(scope="module")
def other(folder, tmp_path_factory) -> Path:
    return adapters.write_for(tmp_path_factory.mktemp("adapters") / "other", folder, 3)


def test_each_request_has_the_adapter_that_it_names(folder, other):
    with slmkit.load(folder) as plain:
        alone = plain.generate("the dog", **SETTINGS).text
    with slmkit.load(folder, adapters={"peft": PEFT, "other": other}) as model:
        assert model.generate("the dog", **SETTINGS).text == alone
        assert model.generate("the dog", adapter="none", **SETTINGS).text == alone
        texts = {name: model.generate("the dog", adapter=name, **SETTINGS).text for name in ("peft", "other")}
        assert len({alone, *texts.values()}) == 3
        assert model.chat("hi", adapter="peft", **SETTINGS).text != model.chat("hi", **SETTINGS).text
        asked = ["peft", "none", "other", "peft", "none"]
        with ThreadPoolExecutor(5) as pool:
            together = list(pool.map(lambda a: model.generate("the dog", adapter=a, **SETTINGS).text, asked))
        assert together == [texts.get(name, alone) for name in asked]


@pytest.mark.parametrize("given", [str(PEFT), PEFT, {"default": str(PEFT)}])
def test_a_path_alone_answers_where_nothing_is_chosen(folder, given):
    with slmkit.load(folder, adapters=given) as model, slmkit.load(folder, adapters={"x": PEFT}) as named:
        with_it = named.generate("the dog", adapter="x", **SETTINGS).text
        assert model.generate("the dog", **SETTINGS).text == with_it
        assert model.generate("the dog", adapter="none", **SETTINGS).text == named.generate("the dog", **SETTINGS).text


def test_describe_has_the_adapters(folder):
    with slmkit.load(folder, adapters={"x": PEFT}) as model:
        assert model.describe()["adapters"] == {
            "x": {"path": str(PEFT), "base": "gqa", "ranks": [2, 4], "matrices": 9, "bytes": 25600}
        }
    with slmkit.load(folder) as model:
        assert model.describe()["adapters"] == {}


def test_a_name_that_was_not_loaded_is_refused(folder):
    with slmkit.load(folder, adapters={"x": PEFT}) as model, pytest.raises(OptionError, match=r"'y'.*x and none"):
        model.generate("the dog", adapter="y")
    with slmkit.load(folder) as model, pytest.raises(OptionError, match="name adapters when the model is loaded"):
        model.generate("the dog", adapter="y")


@pytest.mark.parametrize(
    "given", [5, {"x": 5}, {"": str(PEFT)}, {"x": ""}, {"none": str(PEFT)}, {"a\nb": str(PEFT)}, {5: str(PEFT)}, ["x"]]
)
def test_names_and_places_are_checked(given):
    with pytest.raises(OptionError, match="adapters "):
        LoadOptions(adapters=given)


def test_an_adapter_for_another_model_is_refused(folder, tmp_path):
    with pytest.raises(CheckpointError, match=r"is \[4, 64\], not \[4, 48\].*is it an adapter for another model"):
        slmkit.load(write_vision_model(tmp_path / "vision"), adapters=PEFT)
    with pytest.raises(CheckpointError, match="is it an adapter for another model"):
        slmkit.load("tiny", adapters=PEFT)
    with pytest.raises(ModelNotFound, match="there is no folder"):
        slmkit.load(folder, adapters={"x": str(tmp_path / "nothing")})


def test_an_adapter_of_an_image_tower_is_refused_by_name(tmp_path):
    model = write_vision_model(tmp_path / "vision")
    part = "model.vision_embed_tokens.img_processor.vision_model.encoder.layers.0.self_attn.q_proj"
    modules = {**adapters.matrices(model), part: (32, 32)}
    adapter = adapters.write(tmp_path / "adapter", adapters.tensors(modules), adapters.config(modules))
    with pytest.raises(
        UnsupportedModel, match=r"changes 'model\.vision_embed_tokens.*q_proj'; slmkit adapts matrices of"
    ):
        slmkit.load(model, adapters=adapter)


def test_published_models_are_told_apart_by_what_their_files_say(tmp_path):
    model = tiny.write_model(tmp_path / "model", _name_or_path="microsoft/Phi-3.5-mini-instruct")
    adapter = adapters.write_for(tmp_path / "a", model, base_model_name_or_path="microsoft/Phi-3-mini-4k-instruct")
    with pytest.raises(UnsupportedModel, match=r"made for microsoft/Phi-3-mini-4k-instruct, and .* is microsoft"):
        slmkit.load(model, adapters=adapter)


def test_adapters_are_counted_in_the_memory_that_a_model_takes(folder, monkeypatch):
    from slmkit.backends import native

    told = []
    real = native.plan_experts
    monkeypatch.setattr(native, "plan_experts", lambda *a: told.append(a[4].total) or real(*a))
    for given in (None, PEFT):
        slmkit.load(folder, adapters=given).close()
    assert told[1] - told[0] == 25600
    with pytest.raises(NotEnoughMemory):
        slmkit.load(folder, adapters=PEFT, memory="100KB")


def test_an_adapter_trained_over_quantized_weights_runs_over_ours(folder):
    """The added product has float32 inputs, whatever the weights are held in."""
    texts = set()
    for quantize in ("q8", "q4"):
        with slmkit.load(folder, quantize=quantize, adapters=PEFT) as model:
            texts.add(model.generate("the dog", **SETTINGS).text)
    assert all(texts)


@pytest.mark.parametrize("kind", ["F32", "Q4_K_M"])
def test_a_gguf_file_takes_the_adapters_of_the_original_model(tmp_path, kind):
    """Its matrices have other names in the file, and the checkpoint's in the model."""
    file = PEFT.parent / "gguf" / f"tiny-{kind}.gguf"
    expected = open_source(str(file)).expected
    modules = {name.removesuffix(".weight"): shape for name, shape in expected.items()
               if name.startswith("model.layers.") and len(shape) == 2}  # fmt: skip
    assert len(modules) == 8
    adapter = adapters.write(tmp_path / "a", adapters.tensors(modules), adapters.config(modules))  # type: ignore[arg-type]
    with slmkit.load(file) as plain, slmkit.load(file, adapters=adapter) as model:
        alone = plain.generate("the dog", **SETTINGS).text
        assert model.generate("the dog", **SETTINGS).text != alone
        assert model.generate("the dog", adapter="none", **SETTINGS).text == alone


def test_the_names_in_the_file_are_those_that_peft_writes():
    raw = json.loads((PEFT / "adapter_config.json").read_text())
    assert (raw["peft_version"], raw["peft_type"]) == ("0.21.2", "LORA")
