"""The `phi3` forward pass once more, in NumPy and float64, written from the architecture's equations alone.

It shares no code with `transformers` and says how far a float32 result is from the exact one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from phi3_variations import head_dim

if TYPE_CHECKING:
    from phi3_checkpoint import Tensors

QUERIES_AT_ONCE = 512  # bounds the score matrix of a 4097-token prompt


def logits(config: dict[str, Any], tensors: Tensors, ids: np.ndarray, positions: np.ndarray, angles: str) -> np.ndarray:
    """(len(positions), vocab) logits of one prompt.

    angles: which steps of position * inv_freq are rounded to float32; all else is exact.
    "float32": each step, as in the architecture's own code. At position 4096 an angle keeps 12 bits after the point,
    so what is rounded there is a part of the model.   "float64 inv_freq": the frequencies once, and the product.
    "exact": none.
    """
    weights = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    cos, sin = rotation(config, len(ids), angles)
    x = weights["model.embed_tokens.weight"][ids]
    for layer in range(config["num_hidden_layers"]):
        part = f"model.layers.{layer}."
        h = rms_norm(x, weights[part + "input_layernorm.weight"], config)
        x = (
            x
            + attention(config, h @ weights[part + "self_attn.qkv_proj.weight"].T, cos, sin)
            @ weights[part + "self_attn.o_proj.weight"].T
        )
        h = rms_norm(x, weights[part + "post_attention_layernorm.weight"], config)
        gate, up = np.split(h @ weights[part + "mlp.gate_up_proj.weight"].T, 2, axis=1)
        x = x + (gate / (1 + np.exp(-gate)) * up) @ weights[part + "mlp.down_proj.weight"].T
    h = rms_norm(x[positions], weights["model.norm.weight"], config)
    head = "model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"
    return h @ weights[head].T


def rms_norm(x: np.ndarray, weight: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    return x / np.sqrt((x * x).mean(axis=1, keepdims=True) + config["rms_norm_eps"]) * weight


def rotation(config: dict[str, Any], length: int, angles: str) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin, (length, rotated features), times the attention factor."""
    rope = {
        "rope_theta": config.get("rope_theta"),
        "partial_rotary_factor": config.get("partial_rotary_factor", 1.0),
        **(config.get("rope_parameters") or config.get("rope_scaling") or {}),
    }
    n = int(head_dim(config) * rope["partial_rotary_factor"])
    extension, scale = np.ones(n // 2), 1.0
    if "long_factor" in rope:
        original = config["original_max_position_embeddings"]
        extension = np.array(rope["long_factor"] if length > original else rope["short_factor"])
        ratio = rope.get("factor") or config["max_position_embeddings"] / original
        scale = rope.get("attention_factor") or math.sqrt(1 + math.log(ratio) / math.log(original))
    precise, coarse = {
        "float32": (np.float32, np.float32),
        "float64 inv_freq": (np.float64, np.float32),
        "exact": (np.float64, np.float64),
    }[angles]
    exponent = (2 * np.arange(n // 2)).astype(precise) / precise(n)
    inv_freq = precise(1) / (extension.astype(precise) * (precise(rope["rope_theta"]) ** exponent))
    turn = np.arange(length, dtype=coarse)[:, None] * inv_freq.astype(coarse)
    turn = np.concatenate([turn, turn], axis=1).astype(np.float64)
    return np.cos(turn) * scale, np.sin(turn) * scale


def rotate(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """x: (length, head_dim); feature i of the rotated part pairs with feature i + half of it."""
    n = cos.shape[1]
    turned = np.concatenate([-x[:, n // 2 : n], x[:, : n // 2]], axis=1)
    return np.concatenate([x[:, :n] * cos + turned * sin, x[:, n:]], axis=1)


def attention(config: dict[str, Any], qkv: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    size, n_heads, n_kv = head_dim(config), config["num_attention_heads"], config["num_key_value_heads"]
    length, window = len(qkv), config["sliding_window"] or len(qkv)
    heads = [qkv[:, i * size : (i + 1) * size] for i in range(n_heads + 2 * n_kv)]
    out = np.empty((length, n_heads * size))
    for head in range(n_heads):
        group = head // (n_heads // n_kv)
        q, k, v = rotate(heads[head], cos, sin), rotate(heads[n_heads + group], cos, sin), heads[n_heads + n_kv + group]
        for first in range(0, length, QUERIES_AT_ONCE):
            rows = np.arange(first, min(first + QUERIES_AT_ONCE, length))[:, None]
            distance = rows - np.arange(length)
            scores = np.where((distance >= 0) & (distance < window), q[rows[:, 0]] @ k.T / math.sqrt(size), -np.inf)
            p = np.exp(scores - scores.max(axis=1, keepdims=True))
            out[rows[:, 0], head * size : (head + 1) * size] = p @ v / p.sum(axis=1, keepdims=True)
    return out
