"""Tensors of a GGUF file are known by the hub's names, and are written under GGUF's."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from slmkit.errors import CheckpointError, UnsupportedModel
from slmkit.models.gguf_config import CONFIGS
from slmkit.models.gguf_names import NAMES, check_in_gguf, gguf_name, tensor_names
from slmkit.models.phi3 import Config, expected_tensors

SMALL = Config.from_dict(
    {"vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
     "max_position_embeddings": 64}
)  # fmt: skip


def held() -> set[str]:
    return {gguf_name("phi3", name) for name in expected_tensors(SMALL)}


def names(tensors: Iterable[str]) -> dict[str, tuple[str, ...]]:
    return tensor_names({"model_type": "phi3"}, list(tensors))


def test_every_tensor_has_the_hubs_name_and_back():
    assert names(held()).keys() == expected_tensors(SMALL).keys()
    assert all(gguf_name("phi3", name) == parts[0] for name, parts in names(held()).items())


def test_parts_that_some_files_keep_apart_are_joined_in_the_order_of_their_rows():
    apart = {f"blk.1.{part}.weight" for part in ("attn_v", "attn_k", "attn_q", "ffn_gate")}
    found = names(held() - {"blk.1.attn_qkv.weight"} | apart)
    assert found["model.layers.1.self_attn.qkv_proj.weight"] == tuple(f"blk.1.attn_{x}.weight" for x in "qkv")
    assert found["model.layers.1.mlp.gate_up_proj.weight"] == ("blk.1.ffn_gate.weight", "blk.1.ffn_up.weight")
    assert found["model.layers.0.mlp.gate_up_proj.weight"] == ("blk.0.ffn_up.weight",)
    assert found.keys() == expected_tensors(SMALL).keys()


def test_a_tensor_that_is_there_whole_and_in_parts_is_refused():
    parts = [f"blk.1.{part}.weight" for part in ("attn_v", "attn_k", "attn_q")]
    for tensors in ([*held(), *parts], [*parts, *held()]):
        with pytest.raises(CheckpointError, match=r"blk\.1\.attn_.* both whole and in parts"):
            names(tensors)


@pytest.mark.parametrize(
    "name", ["blk.0.attn_qkv.bias", "blk.0.attn_q.weight", "rope_freqs.weight", "blk.00.attn_norm.weight",
             "blk.99999.attn_norm.weight", "blk.0.ffn_gate_inp.weight", "output.bias", ""]
)  # fmt: skip
def test_a_tensor_that_means_nothing_comes_out_as_it_is(name):
    assert names(held() | {name})[name] == (name,)


@pytest.mark.parametrize("name", ["lm_head.weight", "model.norm.weight", "model.layers.0.mlp.down_proj.weight"])
def test_a_tensor_cannot_pass_itself_off_under_the_hubs_name(name):
    with pytest.raises(CheckpointError, match="no name that GGUF uses"):
        names(held() | {name})


def test_settings_and_names_are_there_for_the_same_architectures():
    assert CONFIGS.keys() == NAMES.keys()


def test_an_architecture_that_gguf_files_do_not_hold_here_is_refused_by_name():
    with pytest.raises(UnsupportedModel, match="phi3_v model cannot be written"):
        check_in_gguf("phi3_v")
