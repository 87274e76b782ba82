"""The table of published models: its sizes follow from shapes, and are those that were published."""

from __future__ import annotations

import math

import pytest

from slmkit.catalog.family import FAMILY, published
from slmkit.catalog.larger import LARGE
from slmkit.catalog.shapes import Role
from slmkit.models import registry
from slmkit.models.phi3 import Config, expected_tensors
from slmkit.weights.names import SHORT_NAMES

BY_ID = {model.id.partition("/")[2]: model for model in FAMILY}
# specs: counted from the published checkpoints' own tensors
PARAMETERS = {
    "Phi-3-mini-4k-instruct": 3_821_079_552,
    "Phi-3-mini-128k-instruct": 3_821_079_552,
    "Phi-3-small-8k-instruct": 7_392_272_384,
    "Phi-3-small-128k-instruct": 7_392_272_384,
    "Phi-3-medium-4k-instruct": 13_960_238_080,
    "Phi-3-medium-128k-instruct": 13_960_238_080,
    "Phi-3-vision-128k-instruct": 4_146_621_440,
    "Phi-3.5-mini-instruct": 3_821_079_552,
    "Phi-3.5-vision-instruct": 4_146_621_440,
    "Phi-3.5-MoE-instruct": 41_873_153_344,
}


def config(shape) -> dict[str, object]:
    """A config.json with the shape's numbers."""
    keys = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size",
            "vocab_size")  # fmt: skip
    return {"model_type": "phi3", "max_position_embeddings": shape.context} | {k: getattr(shape, k) for k in keys}


def test_the_table_has_the_ten_models_that_short_names_name():
    assert len(FAMILY) == 10
    assert {model.id for model in FAMILY} == set(SHORT_NAMES.values())
    assert all(SHORT_NAMES[name] == model.id for model in FAMILY for name in model.names)
    assert all(model.names for model in FAMILY)


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_shapes_add_up_to_the_published_number_of_parameters(name):
    assert BY_ID[name].shape.parameters == PARAMETERS[name]


def test_a_token_of_the_moe_uses_6_6_of_its_41_9_billion_parameters():
    moe = BY_ID["Phi-3.5-MoE-instruct"].shape
    assert round(moe.active_parameters / 1e9, 1) == 6.6
    dense = [model.shape for model in FAMILY if model.shape is not moe]
    assert all(shape.active_parameters == shape.parameters for shape in dense)


@pytest.mark.parametrize("name", [name for name, model in BY_ID.items() if model.shape.architecture == "phi3"])
def test_the_tensors_of_phi3_are_those_that_the_model_file_expects(name):
    shape = BY_ID[name].shape
    c = Config.from_dict(config(shape))
    assert c.head_dim == shape.head_dim
    expected: dict[tuple[int, ...], int] = {}
    for size in expected_tensors(c).values():
        expected[size] = expected.get(size, 0) + 1
    counted: dict[tuple[int, ...], int] = {}
    for tensors in shape.tensors:
        counted[tensors.shape] = counted.get(tensors.shape, 0) + tensors.count
    assert counted == expected
    assert {t.name for t in shape.tensors} <= set(expected_tensors(c))


def test_what_runs_here_is_asked_of_the_registry(monkeypatch):
    medium, small = BY_ID["Phi-3-medium-4k-instruct"], BY_ID["Phi-3-small-8k-instruct"]
    assert medium.runs_here
    monkeypatch.setattr("slmkit.catalog.family.ARCHITECTURES", {"phi3small": "somewhere"})
    assert small.runs_here
    assert not medium.runs_here
    assert set(registry.ARCHITECTURES) >= {"phi3"}


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("phi3.5", "microsoft/Phi-3.5-mini-instruct"),
        ("microsoft/phi-3.5-moe-INSTRUCT", "microsoft/Phi-3.5-MoE-instruct"),
        ("phi3:medium-128k", "microsoft/Phi-3-medium-128k-instruct"),
    ],
)
def test_a_model_is_found_by_short_name_and_by_id_in_any_case(name, id):
    assert published(name).id == id


@pytest.mark.parametrize("name", ["", "tiny", "phi", "someone/Phi-3.5-mini-instruct", "microsoft/Phi-3.5-mini"])
def test_other_names_are_no_published_model(name):
    assert published(name) is None


def test_facts_of_the_cards():
    assert len(BY_ID["Phi-3.5-mini-instruct"].languages) == len(BY_ID["Phi-3.5-MoE-instruct"].languages) == 23
    assert {name for name, model in BY_ID.items() if "image" in model.inputs} == {
        "Phi-3-vision-128k-instruct",
        "Phi-3.5-vision-instruct",
    }
    assert {model.context for model in FAMILY} == {4096, 8192, 131072}
    assert {model.licence for model in FAMILY} == {"MIT"}


def test_the_large_models_have_the_sizes_they_are_named_for():
    assert [round(large.shape.parameters / 1e9) for large in LARGE] == [69, 175]


def test_every_tensor_of_a_role_that_is_read_counts():
    for model in FAMILY:
        roles = {t.role for t in model.shape.tensors}
        assert Role.HEAD in roles
        assert (Role.VISION in roles) == ("image" in model.inputs)
        assert (Role.EXPERT in roles) == (model.shape.num_experts > 1)
        assert all(t.count > 0 and math.prod(t.shape) > 0 for t in model.shape.tensors)
