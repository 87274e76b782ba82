"""Adapters that are damaged, for another model, or ask for what is not done here are refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import adapters
from slmkit.errors import CheckpointError, ModelNotFound, SlmError, UnsupportedModel
from slmkit.weights.lora.adapter import open_adapter
from slmkit.weights.lora.config import LoraConfig

MODULES = {
    f"model.layers.{i}.{name}": shape
    for i in range(3)
    for name, shape in (("self_attn.qkv_proj", (24, 8)), ("mlp.down_proj", (8, 12)))
}
EXPECTED = {f"{name}.weight": shape for name, shape in MODULES.items()} | {
    "model.embed_tokens.weight": (128, 8), "lm_head.weight": (128, 8), "model.norm.weight": (8,),
}  # fmt: skip
PREFIX = "base_model.model.model.layers.0.self_attn.qkv_proj"


def opened(folder: Path, known_as: str = "", expected=EXPECTED):
    return open_adapter(folder, expected, "the-model", known_as)


def made(tmp_path: Path, held=None, modules=MODULES, **changes):
    written = adapters.config(modules, **changes)
    return adapters.write(tmp_path / "adapter", adapters.tensors(modules) if held is None else held, written)


def test_a_whole_adapter_gives_its_matrices_with_the_scale_in_b(tmp_path):
    held = adapters.tensors(MODULES)
    found = opened(made(tmp_path, held)).matrices()
    assert found.keys() == MODULES.keys()
    a, b = found["model.layers.0.self_attn.qkv_proj"]
    np.testing.assert_array_equal(a.data, held[f"{PREFIX}.lora_A.weight"])
    np.testing.assert_array_equal(b.data, held[f"{PREFIX}.lora_B.weight"] * np.float32(1.5))


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_is_widened(tmp_path, kind):
    held = adapters.tensors(MODULES)
    for name, values in held.items():
        held[name] = values.astype(np.float16) if kind == "float16" else (values.view(np.uint32) >> 16).astype("u2")
    a, _ = opened(made(tmp_path, held)).matrices()["model.layers.0.self_attn.qkv_proj"]
    stored = held[f"{PREFIX}.lora_A.weight"]
    wide = stored.astype("f4") if kind == "float16" else (stored.astype(np.uint32) << 16).view("f4")
    np.testing.assert_array_equal(a.data, wide)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"peft_type": "LOHA"}, "peft_type 'LOHA'"),
        ({"peft_type": "absent"}, "peft_type None"),
        ({"task_type": "SEQ_CLS"}, "task_type 'SEQ_CLS'"),
        ({"use_dora": True}, "'use_dora' True"),
        ({"bias": "lora_only"}, "bias 'lora_only'"),
        ({"lora_bias": True}, "'lora_bias' True"),
        ({"modules_to_save": ["lm_head"]}, "'modules_to_save' ['lm_head']"),
        ({"fan_in_fan_out": True}, "'fan_in_fan_out' True"),
        ({"use_qalora": True}, "'use_qalora' True"),
        ({"alora_invocation_tokens": [1, 2]}, "'alora_invocation_tokens' [1, 2]"),
        ({"layer_replication": [[0, 2]]}, "'layer_replication' [[0, 2]]"),
        ({"target_parameters": ["w"]}, "'target_parameters' ['w']"),
        ({"trainable_token_indices": [5]}, "'trainable_token_indices' [5]"),
        ({"ensure_weight_tying": True}, "'ensure_weight_tying' True"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights 'pissa'"),
        ({"init_lora_weights": "olora"}, "init_lora_weights 'olora'"),
        ({"a_key_of_next_year": {"on": 1}}, "'a_key_of_next_year' {'on': 1}"),
        ({"r": 0}, "r 0"),
        ({"r": 1 << 20}, "r 1048576"),
        ({"r": True}, "r True"),
        ({"r": "absent"}, "r None"),
        ({"lora_alpha": "16"}, "lora_alpha '16'"),
        ({"use_rslora": "yes"}, "use_rslora 'yes'"),
        ({"rank_pattern": [4]}, "rank_pattern [4]"),
        ({"rank_pattern": {"down_proj": 0}}, "rank_pattern 0"),
        ({"alpha_pattern": {"(a+)+$": 3}}, "the pattern '(a+)+$' in alpha_pattern"),
        ({"target_modules": {"q": 1}}, "target_modules {'q': 1}"),
        ({"layers_to_transform": ["0"]}, "layers_to_transform ['0']"),
        ({"rank_pattern": {"down_proj": 5}}, "lora_A of 'model.layers.0.mlp.down_proj'"),
        ({"target_modules": ["qkv_proj"]}, "tensors for 'model.layers.0.mlp.down_proj', which is not among"),
        ({"target_modules": ["qkv_proj", "down_proj", "lm_head"]}, "lacks the tensors for 'lm_head'"),
        ({"exclude_modules": ["down_proj"]}, "tensors for 'model.layers.0.mlp.down_proj', which is not among"),
        ({"layers_to_transform": [0, 1]}, "tensors for 'model.layers.2.self_attn.qkv_proj', which is not among"),
    ],
)
def test_a_configuration_that_would_change_the_answer_is_refused_by_name(tmp_path, changes, told):
    with pytest.raises((UnsupportedModel, CheckpointError)) as refused:
        opened(made(tmp_path, **changes))
    assert told in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"target_modules": r".*\.(qkv_proj|down_proj)"},
        {"target_modules": "all-linear"},
        {"layers_to_transform": [0, 1, 2], "layers_pattern": "layers"},
        {"lora_dropout": 0.3, "inference_mode": False, "peft_version": "0.99", "revision": "main"},
        {"loftq_config": {}, "runtime_config": None, "megatron_core": "megatron.core", "qalora_group_size": 16},
        {"init_lora_weights": "gaussian", "task_type": None},
    ],
)
def test_what_changes_no_answer_is_accepted(tmp_path, changes):
    assert len(opened(made(tmp_path, **changes)).modules) == len(MODULES)


def test_scale_and_rank_follow_the_first_name_that_fits_as_in_peft():
    ranks = {"^model.layers.1.mlp.down_proj": 2, "mlp.down_proj": 4}
    alphas = {r"layers\.1\.mlp\.down_proj": 16}
    raw = adapters.config(MODULES, r=8, lora_alpha=4, rank_pattern=ranks, alpha_pattern=alphas)
    read = LoraConfig.from_dict(raw, "here")
    first, second = (f"model.layers.{i}.mlp.down_proj" for i in (0, 1))
    assert (read.rank(first), read.rank(second), read.rank("model.layers.1.self_attn.qkv_proj")) == (4, 2, 8)
    assert (read.scale(first), read.scale(second)) == (1.0, 8.0)
    stabilized = LoraConfig.from_dict({**raw, "use_rslora": True}, "here")
    assert stabilized.scale(first) == 2.0


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        (f"{PREFIX}.lora_magnitude_vector.weight", np.ones(24, "f4"), "which is DoRA"),
        (f"{PREFIX}.lora_B.bias", np.ones(24, "f4"), "which is a bias"),
        ("base_model.model.model.embed_tokens.lora_embedding_A", np.ones((4, 128), "f4"), "an adapted embedding"),
        ("base_model.model.lm_head.modules_to_save.weight", np.ones((128, 8), "f4"), "a module that was trained whole"),
        ("model.layers.0.self_attn.qkv_proj.lora_A.weight", np.ones((4, 8), "f4"), "slmkit runs lora_A and lora_B"),
        (f"{PREFIX}.lora_A.default.weight", np.ones((4, 8), "f4"), "slmkit runs lora_A and lora_B"),
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", np.ones((4, 8), "f4"),
         "changes 'model.layers.0.self_attn.q_proj', which the-model does not have (it was made for 'a-model')"),
        ("base_model.model.model.layers.3.mlp.down_proj.lora_A.weight", np.ones((4, 12), "f4"),
         "changes 'model.layers.3.mlp.down_proj', which the-model does not have"),
        ("base_model.model.model.embed_tokens.lora_A.weight", np.ones((4, 8), "f4"),
         "slmkit adapts matrices of the language model's layers and its head"),
        (f"{PREFIX}.lora_A.weight", np.ones((4, 9), "f4"), "is [4, 9], not [4, 8]"),
        (f"{PREFIX}.lora_B.weight", np.ones((24, 5), "f4"), "is [24, 5], not [24, 4]"),
        (f"{PREFIX}.lora_A.weight", np.ones((4, 8), "i1"), "of type I8"),
        (f"{PREFIX}.lora_A.weight", np.ones(4, "f4"), "is [4], not [4, 8]"),
    ],
)  # fmt: skip
def test_every_tensor_is_used_or_refused(tmp_path, name, values, told):
    held = adapters.tensors(MODULES) | {name: values}
    with pytest.raises((UnsupportedModel, CheckpointError)) as refused:
        opened(made(tmp_path, held, target_modules=".*"))
    assert told in str(refused.value)


def test_half_a_pair_is_refused(tmp_path):
    held = adapters.tensors(MODULES)
    del held[f"{PREFIX}.lora_B.weight"]
    with pytest.raises(CheckpointError, match=r"lacks lora_B of 'model\.layers\.0\.self_attn\.qkv_proj'"):
        opened(made(tmp_path, held))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(tmp_path, value):
    held = adapters.tensors(MODULES)
    held[f"{PREFIX}.lora_B.weight"][3, 1] = value
    with pytest.raises(CheckpointError, match="values that are not finite"):
        opened(made(tmp_path, held)).matrices()


def test_no_tensors_at_all_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="holds no tensors"):
        opened(made(tmp_path, {}))


@pytest.mark.parametrize(
    ("base", "known_as", "is_refused"),
    [
        ("microsoft/Phi-3-mini-4k-instruct", "microsoft/Phi-3.5-mini-instruct", True),
        ("/models/of/mine/phi", "microsoft/Phi-3.5-mini-instruct", False),
        ("microsoft/Phi-3.5-mini-instruct", "microsoft/Phi-3.5-mini-instruct", False),
        ("microsoft/phi-3.5-mini-instruct", "microsoft/Phi-3.5-mini-instruct", False),
        ("microsoft/Phi-3-mini-4k-instruct", "", False),
        (None, "microsoft/Phi-3.5-mini-instruct", False),
    ],
)
def test_an_adapter_for_another_published_model_of_the_same_shapes_is_refused(tmp_path, base, known_as, is_refused):
    folder = made(tmp_path, base_model_name_or_path=base)
    if is_refused:
        with pytest.raises(UnsupportedModel, match="was made for microsoft/Phi-3-mini-4k-instruct, and the-model is"):
            opened(folder, known_as)
    else:
        opened(folder, known_as)


def test_folders_without_an_adapter_are_refused(tmp_path):
    with pytest.raises(ModelNotFound, match="is no folder"):
        opened(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match=r"has no adapter_config\.json"):
        opened(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(adapters.config(MODULES)))
    with pytest.raises(CheckpointError, match=r"has no adapter_model\.safetensors"):
        opened(tmp_path)
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(UnsupportedModel, match="never reads pickles"):
        opened(tmp_path)


@pytest.mark.parametrize("text", ["[]", "{", '{"r": 1, "r": 2}', '{"peft_type": NaN}', "\xff"])
def test_a_damaged_configuration_is_refused(tmp_path, text):
    folder = made(tmp_path)
    (folder / "adapter_config.json").write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError):
        opened(folder)


def test_a_truncated_file_is_refused_at_every_length(tmp_path):
    folder = made(tmp_path)
    data = (folder / "adapter_model.safetensors").read_bytes()
    for length in range(0, len(data), 97):
        (folder / "adapter_model.safetensors").write_bytes(data[:length])
        with pytest.raises(SlmError):
            opened(folder)
