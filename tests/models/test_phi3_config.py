"""Reading config.json: the published spellings, and one sentence for everything that cannot be computed."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoints import CASES, REFERENCE
from slmkit.errors import CheckpointError, ModelError, UnsupportedModel
from slmkit.models.phi3 import Config, expected_tensors
from slmkit.models.registry import architecture

MINI = {
    "model_type": "phi3", "vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
    "original_max_position_embeddings": 4096, "rope_theta": 10000.0, "sliding_window": 2047, "hidden_act": "silu",
    "tie_word_embeddings": False, "rope_scaling": None, "attention_bias": False, "attention_dropout": 0.0,
    "embd_pdrop": 0.0, "resid_pdrop": 0.0, "initializer_range": 0.02, "torch_dtype": "bfloat16", "use_cache": True,
    "bos_token_id": 1, "eos_token_id": 32000, "pad_token_id": 32000, "transformers_version": "4.41.2",
}  # fmt: skip
FACTORS = {"short_factor": [1.0] * 48, "long_factor": [2.0] * 48}
LONG = {**MINI, "max_position_embeddings": 131072, "sliding_window": 262144}
MEDIUM = {**MINI, "hidden_size": 5120, "intermediate_size": 17920, "num_hidden_layers": 40, "num_attention_heads": 40,
          "num_key_value_heads": 10}  # fmt: skip


@pytest.mark.parametrize(("config", "parameters"), [(MINI, 3_821_079_552), (MEDIUM, 13_960_238_080)])
def test_the_published_models_have_their_published_number_of_parameters(config, parameters):
    shapes = expected_tensors(Config.from_dict(config)).values()
    assert sum(shape[0] * (shape[1] if len(shape) > 1 else 1) for shape in shapes) == parameters


@pytest.mark.parametrize("spelling", ["su", "yarn", "longrope"])
@pytest.mark.parametrize("key", ["type", "rope_type"])
def test_longrope_has_three_names_and_one_meaning(spelling, key):
    scaling = Config.from_dict({**LONG, "rope_scaling": {**FACTORS, key: spelling}}).rope_scaling
    assert scaling.original_context == 4096
    assert scaling.attention_factor == 1.1902380714238083  # of the published 128k models
    new = {**FACTORS, "rope_type": spelling, "rope_theta": 10000.0, "original_max_position_embeddings": 4096}
    raw = {k: v for k, v in LONG.items() if k not in ("rope_scaling", "rope_theta", "original_max_position_embeddings")}
    assert Config.from_dict({**raw, "rope_parameters": new}).rope_scaling == scaling


@pytest.mark.parametrize("name", CASES)
def test_stored_attention_factors_are_computed(name):
    config = Config.from_dict(json.loads((REFERENCE / name / "config.json").read_text()))
    scaling = config.rope_scaling
    assert (scaling.attention_factor if scaling else 1.0) == pytest.approx(CASES[name]["attention_factor"], rel=1e-15)


@pytest.mark.parametrize(("window", "kept"), [(2047, 2047), (4095, 4095), (4096, 0), (262144, 0), (None, 0), (0, 0)])
def test_a_window_as_wide_as_the_context_is_none(window, kept):
    assert Config.from_dict({**MINI, "sliding_window": window}).sliding_window == kept


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu'; phi3 here has only 'silu'"),
        ({"attention_bias": True}, "attention_bias = True; phi3 here has only False"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "type 'linear' is not one of default, longrope"),
        ({"rope_scaling": {"type": ["su"], **FACTORS}}, r"rope type \['su'\] is not"),
        ({"rope_scaling": {"type": "su", "mscale": 1.0, **FACTORS}}, "rope_scaling in config.json has 'mscale'"),
        ({"rope_scaling": FACTORS}, "does not know it"),
        ({"num_key_value_heads": 5}, "32 attention heads cannot share 5 key/value heads evenly"),
        ({"num_attention_heads": 7, "num_key_value_heads": 7}, "3072 features do not divide into 7 heads"),
        ({"head_dim": None, "num_attention_heads": 7, "num_key_value_heads": 7}, "do not divide into 7 heads"),
        ({"head_dim": 95}, "a head of 95 features with 95 rotated cannot be paired"),
        ({"partial_rotary_factor": 0.01}, "a head of 96 features with 0 rotated cannot be paired"),
        ({"partial_rotary_factor": 1.5}, "a head of 96 features with 144 rotated cannot be paired"),
        ({"num_local_experts": 16}, "'num_local_experts' = 16, which phi3 here does not know; remove the key"),
        ({"qk_layernorm": True}, "'qk_layernorm' = True, which phi3 here does not know"),
        ({"rope_parameters": {"rope_type": "default"}, "rope_scaling": {"type": "su", **FACTORS}}, "both say how"),
        ({"rope_scaling": {"type": "su", **FACTORS, "original_max_position_embeddings": 8192}}, "4096, and 8192 among"),
        ({"rope_scaling": {"type": "su", **FACTORS}, "original_max_position_embeddings": 1}, "divides by its log"),
    ],
)  # fmt: skip
def test_what_is_not_implemented_is_named_with_its_value(change, message):
    with pytest.raises(UnsupportedModel, match=message) as raised:
        Config.from_dict({**MINI, **change})
    assert str(raised.value).count("\n") == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 10**12}, "hidden_size = 1000000000000; it must be a whole number, 1 to 2147483647"),
        ({"hidden_size": "3072"}, "hidden_size = '3072'"),
        ({"hidden_size": 3072.0}, "hidden_size = 3072.0"),
        ({"hidden_size": True}, "hidden_size = True"),
        ({"hidden_size": -1}, "hidden_size = -1"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers = 1000000000; it must be a whole number, 1 to 1000"),
        ({"vocab_size": 0}, "vocab_size = 0"),
        ({"rms_norm_eps": 0}, "rms_norm_eps = 0; a number above 0"),
        ({"rms_norm_eps": "1e-5"}, "rms_norm_eps = '1e-5'"),
        ({"rope_theta": 1e300}, r"rope_theta = 1e\+300; a number above 0 and below 1e30"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings = 1; true or false"),
        ({"rope_scaling": "su"}, "'su' for its rotary settings; it takes an object"),
        (
            {"rope_scaling": {"type": "su", "short_factor": [1.0] * 47, "long_factor": [1.0] * 48}},
            "47 usable values in short_f",
        ),
        ({"rope_scaling": {"type": "su", "short_factor": [1.0] * 48}}, "no usable values in long_factor; 48 numbers"),
        ({"rope_scaling": {"type": "su", **FACTORS, "long_factor": [0.0] * 48}}, "48 numbers above 0"),
        ({"rope_scaling": {"type": "su", **FACTORS, "factor": -1}}, "factor = -1"),
        ({"hidden_size": None}, "lacks hidden_size, which a phi3 model needs"),
    ],
)
def test_what_is_no_usable_value_is_named_with_what_is_needed(change, message):
    config = {key: value for key, value in {**MINI, **change}.items() if value is not None}
    with pytest.raises(CheckpointError, match=message) as raised:
        Config.from_dict(config)
    assert len(str(raised.value)) < 300


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*FACTORS, "type", "factor"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from([*MINI, "head_dim", "partial_rotary_factor", "rope_parameters", "x"]), values, max_size=4
    )
)
def test_whatever_config_json_holds_the_answer_is_a_config_or_one_of_our_errors(change):
    try:
        family = architecture({**MINI, **change})
        config = family.Config.from_dict({**MINI, **change})
    except ModelError as error:
        assert len(str(error)) < 500  # noqa: PT017
    else:
        expected_tensors(config)


def test_the_largest_sizes_that_are_accepted_cost_no_memory():
    huge = {**MINI, "hidden_size": 2**30, "intermediate_size": 2**31 - 1, "vocab_size": 2**31 - 1,
            "num_hidden_layers": 1000, "max_position_embeddings": 2**31 - 1}  # fmt: skip
    tracemalloc.start()
    expected_tensors(Config.from_dict(huge))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6


@pytest.mark.parametrize("kind", ["llama", "phi", None, 3, ["phi3"], "x" * 10_000])
def test_an_unknown_architecture_is_named_and_the_known_ones_listed(kind):
    with pytest.raises(UnsupportedModel, match=r"model_type .*; the architectures here are: phi3") as raised:
        architecture({"model_type": kind})
    assert len(str(raised.value)) < 250
