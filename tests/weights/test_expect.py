"""Tensors against what the model expects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from folders import EXPECTED, model_tensors, values, write_model

from slmkit.errors import CheckpointError
from slmkit.weights.checkpoint import Checkpoint
from slmkit.weights.expect import check_tensors

NORM = "model.norm.weight"
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
TIED = {name: shape for name, shape in EXPECTED.items() if name != HEAD}


def check(
    folder: Path, tensors: dict[str, tuple[str, np.ndarray]], expected: dict[str, tuple[int, ...]] = EXPECTED
) -> None:
    check_tensors(expected, Checkpoint.open(write_model(folder, tensors)))


def refusal(folder: Path, tensors: dict[str, tuple[str, np.ndarray]]) -> str:
    with pytest.raises(CheckpointError) as refused:
        check(folder, tensors)
    message = str(refused.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_what_is_expected_passes(tmp_path: Path, dtype: str) -> None:
    check(tmp_path, model_tensors(dtype))


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    tensors = model_tensors()
    del tensors[NORM]
    assert f"lacks '{NORM}'; fetch" in refusal(tmp_path, tensors)


def test_of_many_missing_tensors_three_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    message = refusal(tmp_path, {NORM: model_tensors()[NORM]})
    assert message.count(".weight'") == 3
    assert "and 2 more tensors" in message


def test_an_extra_tensor_is_named(tmp_path: Path) -> None:
    message = refusal(
        tmp_path, model_tensors() | {"model.layers.0.self_attn.qkv_proj.bias": ("F32", values((3,), "F32", 0))}
    )
    assert "also has 'model.layers.0.self_attn.qkv_proj.bias'" in message


def test_a_misnamed_tensor_is_named_with_the_likely_right_name(tmp_path: Path) -> None:
    tensors = model_tensors()
    tensors["model.layers.0.mlp.down_prj.weight"] = tensors.pop("model.layers.0.mlp.down_proj.weight")
    message = refusal(tmp_path, tensors)
    assert "lacks 'model.layers.0.mlp.down_proj.weight' (it has 'model.layers.0.mlp.down_prj.weight')" in message


@pytest.mark.parametrize("shape", [(47,), (48, 1), (1, 48), ()])
def test_a_misshapen_tensor_is_named_with_both_shapes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    message = refusal(tmp_path, model_tensors() | {NORM: ("F32", values(shape, "F32", 0))})
    assert f"'{NORM}' is {list(shape)}, not [48]" in message


def test_a_matrix_turned_over_is_misshapen(tmp_path: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    assert f"'{name}' is [48, 80], not [80, 48]" in refusal(
        tmp_path, model_tensors() | {name: ("F32", values((48, 80), "F32", 0))}
    )


@pytest.mark.parametrize(("dtype", "kind"), [("I8", np.int8), ("F64", np.float64)])
def test_a_tensor_of_an_unusable_type_is_refused(tmp_path: Path, dtype: str, kind: type) -> None:
    message = refusal(tmp_path, model_tensors() | {NORM: (dtype, np.ones(48, kind))})
    assert f"'{NORM}' is {dtype}; slmkit takes" in message


def test_rotary_buffers_are_ignored(tmp_path: Path) -> None:
    check(tmp_path, model_tensors() | {"model.layers.0.self_attn.rotary_emb.inv_freq": ("F32", values((8,), "F32", 0))})


def test_the_head_of_a_tied_model_may_repeat_the_embedding_and_not_differ(tmp_path: Path) -> None:
    tensors = model_tensors()
    tensors[HEAD] = tensors[EMBEDDING]
    check(tmp_path / "same", tensors, TIED)
    wide = (tensors[EMBEDDING][1].astype(np.uint32) << 16).view(np.float32)
    check(tmp_path / "same-in-f32", tensors | {HEAD: ("F32", wide)}, TIED)
    other = tensors[EMBEDDING][1].copy()
    other[-1, -1] ^= 1
    for i, different in enumerate((other, other[:-1], other.reshape(-1))):
        with pytest.raises(CheckpointError, match=r"ties lm_head\.weight to model\.embed_tokens\.weight"):
            check(tmp_path / str(i), tensors | {HEAD: ("BF16", different)}, TIED)


def test_a_thousand_missing_names_are_told_at_once(tmp_path: Path) -> None:
    """The search for near names is quadratic if every name gets one."""
    import time

    expected = {f"model.layers.{i}.mlp.down_proj.weight": (1, 1) for i in range(1000)}
    tensors = {f"model.layers.{i}.mlp.down_prj.weight": ("F32", np.ones((1, 1), np.float32)) for i in range(1000)}
    start = time.process_time()  # not the clock, which other programs move on
    with pytest.raises(CheckpointError, match="and 997 more tensors"):
        check(tmp_path, tensors, expected)
    assert time.process_time() - start < 2
