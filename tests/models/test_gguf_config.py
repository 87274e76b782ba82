"""A GGUF file's settings are read as the config.json of the checkpoint it was made from."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from slmkit.errors import CheckpointError, SlmError, UnsupportedModel
from slmkit.models.gguf_config import SOURCE, decimal, read_config
from slmkit.models.gguf_metadata import write_config, write_factors
from slmkit.models.phi3 import Config

MINI = {
    "general.architecture": "phi3",
    "phi3.context_length": 4096,
    "phi3.embedding_length": 3072,
    "phi3.feed_forward_length": 8192,
    "phi3.block_count": 32,
    "phi3.attention.head_count": 32,
    "phi3.attention.head_count_kv": 32,
    "phi3.attention.layer_norm_rms_epsilon": 9.999999747378752e-06,
    "phi3.rope.dimension_count": 96,
    "phi3.rope.freq_base": 10000.0,
}
LONG = {"phi3.context_length": 131072, "phi3.rope.scaling.original_context_length": 4096}
ATTN_FACTOR = {"phi3.rope.scaling.attn_factor": float(np.float32(1.1902380714238083))}


@dataclass(frozen=True)
class Tensor:
    shape: tuple[int, ...]
    type: str = "F32"


MATRICES = {"token_embd.weight": Tensor((32064, 3072), "Q4_K"), "output.weight": Tensor((32064, 3072), "Q6_K")}
FACTORS = {f"rope_factors_{which}.weight": Tensor((48,)) for which in ("long", "short")}


def factors(name: str) -> np.ndarray:
    return np.arange(1, 49, dtype=np.float32) * (2 if "long" in name else 1)


def config(changes: dict[str, Any] | None = None, tensors: dict[str, Tensor] | None = None, values=factors) -> Config:
    """None removes a key."""
    metadata = {key: value for key, value in (MINI | (changes or {})).items() if value is not None}
    return Config.from_dict(read_config(metadata, MATRICES | (tensors or {}), values), SOURCE)


def test_phi_3_mini_is_read_as_its_config_json_says():
    published = {
        "vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "sliding_window": 2047, "rope_scaling": None, "tie_word_embeddings": False,
    }  # fmt: skip
    assert config() == Config.from_dict(published)


def test_longrope_has_its_factors_from_tensors_and_the_published_attention_factor():
    told, computed = (config(LONG | changes, FACTORS).rope_scaling for changes in (ATTN_FACTOR, {}))
    assert told is not None
    assert (told.short[:2], told.long[-1], told.original_context) == ((1.0, 2.0), 96.0, 4096)
    # the file's float32, and the formula's float64: the same float32, which is what the rotation uses
    assert np.float32(told.attention_factor) == np.float32(computed.attention_factor) == np.float32(1.1902380714238083)


def test_factors_may_lie_in_every_block_if_they_are_the_same():
    blocks = {f"blk.{i}.{name}": tensor for i in range(3) for name, tensor in FACTORS.items()}
    assert config(LONG, blocks) == config(LONG, FACTORS)
    with pytest.raises(CheckpointError, match=r"other factors in blk\.1"):
        config(LONG, blocks, lambda name: factors(name) + ("blk.1" in name))


@pytest.mark.parametrize(
    ("changes", "window"),
    [
        ({}, 2047),
        ({"phi3.block_count": 40}, 2047),
        ({"phi3.block_count": 31}, 0),
        ({"phi3.context_length": 4095}, 0),
        ({"phi3.attention.sliding_window": 0}, 0),
        ({"phi3.attention.sliding_window": 1000}, 1000),
        ({"phi3.attention.sliding_window": 262144}, 0),  # wider than the context
    ],
)
def test_the_window_is_the_files_or_llama_cpps_rule_for_files_without_the_key(changes, window):
    assert config(changes).sliding_window == window


def test_keys_that_older_files_lack_have_their_defaults():
    bare = config(dict.fromkeys(["phi3.attention.head_count_kv", "phi3.rope.dimension_count", "phi3.rope.freq_base"]))
    assert bare == config()


@pytest.mark.parametrize(("rotated", "head_dim"), [(96, 128), (64, 96), (72, 96), (26, 98), (2, 96)])
def test_a_part_of_each_head_may_be_rotated(rotated, head_dim):
    changes = {"phi3.embedding_length": 32 * head_dim, "phi3.rope.dimension_count": rotated}
    assert config(changes).rotary_dim == rotated


def test_without_output_the_head_is_the_embedding():
    raw = read_config(MINI, {"token_embd.weight": Tensor((100, 3072))}, factors)
    assert (raw["tie_word_embeddings"], raw["vocab_size"]) == (True, 100)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"general.architecture": "llama"}, "'llama', which is not implemented; the architectures here are: phi3"),
        ({"general.architecture": "phi2"}, "'phi2', which is not implemented"),
        ({"general.architecture": "clip"}, "vision part"),
        ({"general.architecture": None}, "None, which"),
        ({"general.architecture": np.arange(3)}, "None, which"),
        ({"general.type": "mmproj"}, "vision part"),
        ({"general.type": "adapter"}, "'adapter', no model"),
        ({"general.quantization_version": 1}, "quantization_version 1"),
        ({"phi3.rope.scaling.type": "yarn"}, "rope type 'yarn'"),
        ({"phi3.rope.scaling.type": "longrope"}, "no rope_factors"),
        ({"phi3.rope.scaling.factor": 4.0}, "rope.scaling.factor = 4.0"),
        ({"phi3.expert_count": 16}, "phi3.expert_count"),
        ({"phi3.logit_scale": 0.5}, "phi3.logit_scale"),
        ({"phi3.attention.scale": 0.125}, "phi3.attention.scale"),
        ({"phi3.attention.causal": False}, "attention.causal = False"),
        ({"phi3.attention.value_length": 64}, "another length"),
        ({"phi3.attention.head_count": np.full(32, 32)}, "a list in 'phi3.attention.head_count'"),
        ({"phi3.some.new.switch": True}, "phi3.some.new.switch"),
        ({"phi3.rope.scaling.attn_factor": 1.19}, "no rope_factors"),
        ({"phi3.embedding_length": 3073}, "do not divide into 32 heads"),
        ({"phi3.rope.dimension_count": 98}, "98 of 96"),
        (LONG, "lost"),
    ],
)
def test_what_is_switched_on_and_not_implemented_is_refused_by_name(changes, match):
    with pytest.raises(UnsupportedModel, match=match) as raised:
        config(changes)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("key", ["phi3.expert_count", "phi3.expert_used_count", "phi3.use_parallel_residual"])
def test_what_is_switched_off_is_accepted(key):
    assert config({key: 0}) == config()


@pytest.mark.parametrize("key", [key for key in MINI if key.startswith("phi3.")])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "4", True, 10**9, 2**63, b"", [1], 1e-400])
def test_no_value_gets_past_the_checks(key, value):
    """Refused, or a configuration of finite numbers within bounds."""
    with contextlib.suppress(SlmError):
        got = config({key: value})
        assert got.num_hidden_layers <= 1000
        assert 0 < got.rope_theta < 1e30
        assert 0 < got.rms_norm_eps < 1e30


@pytest.mark.parametrize(
    ("tensors", "match"),
    [
        ({"rope_factors_long.weight": Tensor((48,))}, "only one of"),
        (FACTORS | {"rope_factors_long.weight": Tensor((47,))}, r"F32 \[48\] is needed"),
        (FACTORS | {"rope_factors_long.weight": Tensor((48,), "F16")}, "F16"),
    ],
)
def test_factors_of_another_shape_are_refused(tensors, match):
    with pytest.raises(SlmError, match=match):
        config(LONG, tensors)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_factors_that_cannot_divide_are_refused(bad):
    with pytest.raises(CheckpointError, match="48 numbers above 0 are needed"):
        config(LONG, FACTORS, lambda name: np.where(factors(name) == 4, np.float32(bad), factors(name)))


def test_a_file_without_an_embedding_is_refused():
    for tensors in ({}, {"token_embd.weight": Tensor((5,))}):
        with pytest.raises(CheckpointError, match="token_embd"):
            read_config(MINI, tensors, factors)


@pytest.mark.parametrize("scaling", [None, "longrope"])
def test_settings_come_back_as_they_were_written(scaling):
    changes, tensors = (LONG | ATTN_FACTOR, FACTORS) if scaling else ({}, {})
    before = config(changes, tensors)
    keys = {"general.architecture": "phi3", **write_config("phi3", before)}
    stored = {key: float(np.float32(v)) if isinstance(v, float) else v for key, v in keys.items()}
    again = read_config(stored, MATRICES | tensors, write_factors(before).__getitem__)
    assert Config.from_dict(again) == before


@pytest.mark.parametrize("value", [1e-5, 1e-6, 10000.0, 1.1902381, 0.0, 1e37])
def test_a_float32_is_read_as_the_number_that_was_written(value):
    assert decimal(float(np.float32(value))) == value
