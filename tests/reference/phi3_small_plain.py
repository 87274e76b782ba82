"""The `phi3small` forward pass once more, in NumPy and float64, from the equations alone and put in another way.

No remote code runs, so nothing published could be asked; this shares no code with the package and no formulation where
there is a choice: one token after the other against what came before, pairs of features as complex numbers, the keys
that a head sees as a set found by counting blocks, the sigmoid as a tangent. Angles are rounded to float32 step by
step as the architecture's own code does; all else is exact.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def logits(config: dict[str, Any], tensors: dict[str, np.ndarray], ids: list[int]) -> np.ndarray:
    """(len(ids), vocab) logits of one prompt."""
    w = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    size = config["hidden_size"] // heads
    turns = rotations(config, size, len(ids))
    pasts = [
        (np.empty((kv_heads, len(ids), size // 2), complex), np.empty((kv_heads, len(ids), size)))
        for _ in range(config["num_hidden_layers"])
    ]
    rows = []
    for position, id in enumerate(ids):
        x = w["model.embed_tokens.weight"][id] * config["mup_embedding_multiplier"]
        for i, past in enumerate(pasts):
            layer = f"model.layers.{i}."
            h = normed(x, w, layer + "input_layernorm", config)
            x = x + linear(attended(h, w, layer, config, past, turns, position, i), w, layer + "self_attn.dense")
            h = linear(normed(x, w, layer + "post_attention_layernorm", config), w, layer + "mlp.up_proj")
            x = x + linear(gated(h, config["gegelu_limit"]), w, layer + "mlp.down_proj")
        x = normed(x, w, "model.final_layernorm", config)
        row = (w["model.embed_tokens.weight"] / config["mup_width_multiplier"]) @ x
        row[config["dummy_token_indices"]] = -math.inf
        rows.append(row)
    return np.array(rows)


def attended(
    h: np.ndarray,
    w: dict[str, np.ndarray],
    layer: str,
    config: dict[str, Any],
    past: tuple[np.ndarray, np.ndarray],
    turns: np.ndarray,
    position: int,
    i: int,
) -> np.ndarray:
    """What all heads of one token take from its past, keys and values, to which its own are added first."""
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    shared, size = heads // kv_heads, len(h) // heads
    qkv = linear(h, w, layer + "self_attn.query_key_value")
    places = iter(range(0, len(qkv), size))
    taken = []
    for group in range(kv_heads):
        queries = [turned(qkv[at : at + size], turns[position]) for at in (next(places) for _ in range(shared))]
        at, value_at = next(places), next(places)
        past[0][group, position] = turned(qkv[at : at + size], turns[position])
        past[1][group, position] = qkv[value_at : value_at + size]
        for inner, query in enumerate(queries):
            head = group * shared + inner
            seen = sorted(visible(config, i, head, position))
            scale = 1 / size if config["mup_use_scaling"] else 1 / math.sqrt(size)
            odds = np.exp((past[0][group, seen] @ query.conj()).real * scale)  # small enough for no shift
            taken.append(odds @ past[1][group, seen] / odds.sum())
    return np.concatenate(taken)


def visible(config: dict[str, Any], layer: int, head: int, position: int) -> set[int]:
    """The positions that a head sees."""
    every = config["dense_attention_every_n_layers"]
    if every and layer % every == every - 1:
        return set(range(position + 1))
    size, local, stride = (config[f"blocksparse_{name}"] for name in ("block_size", "num_local_blocks", "vert_stride"))
    step = max(1, int(stride / config["num_attention_heads"]))
    own = position // size
    blocks = set(range(max(0, own - local + 1), own + 1))
    # the first block j with j + 1 + head * step divisible by the stride, and every stride-th from it
    first = (-1 - (0 if config["blocksparse_homo_head_pattern"] else head * step)) % stride
    blocks |= set(range(first, own + 1, stride))
    return {j for block in blocks for j in range(block * size, (block + 1) * size) if j <= position}


def rotations(config: dict[str, Any], size: int, length: int) -> np.ndarray:
    """(length, size / 2) complex numbers, times the table's factor."""
    divisor, factor = np.ones(size // 2), 1.0
    if (rope := config.get("rope_scaling")) is not None:
        original = rope["original_max_position_embeddings"]
        which = "long" if length > original else "short"
        divisor, factor = np.array(rope[f"{which}_factor"]), rope[f"{which}_mscale"]
        if factor <= 0:
            ratio = config["max_position_embeddings"] / original
            factor = math.sqrt(1 + math.log(ratio) / math.log(original)) if which == "long" else 1.0
    f32 = np.float32
    exponent = np.arange(0, size, 2, dtype=f32) / f32(size)
    frequency = f32(1) / (divisor.astype(f32) * f32(config["rope_embedding_base"]) ** exponent)
    angles = np.arange(length, dtype=f32)[:, None] * frequency
    return np.exp(1j * angles.astype(np.float64)) * factor


def turned(x: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """A head's features, i paired with i + half of them, as complex numbers."""
    return (x[: len(x) // 2] + 1j * x[len(x) // 2 :]) * turn


def gated(y: np.ndarray, limit: float) -> np.ndarray:
    pairs = y.reshape(-1, 2)
    return np.array([
        min(g, limit) * 0.5 * (1 + math.tanh(0.851 * min(g, limit))) * (1 + max(-limit, min(other, limit)))
        for g, other in pairs
    ])  # fmt: skip


def normed(x: np.ndarray, w: dict[str, np.ndarray], name: str, config: dict[str, Any]) -> np.ndarray:
    return (x - x.mean()) / math.sqrt(x.var() + config["layer_norm_epsilon"]) * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(x: np.ndarray, w: dict[str, np.ndarray], name: str) -> np.ndarray:
    return w[f"{name}.weight"] @ x + w[f"{name}.bias"]
