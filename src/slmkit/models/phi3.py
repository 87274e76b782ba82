"""Phi-3-mini, Phi-3-medium and Phi-3.5-mini (`model_type` "phi3").

A decoder of equal blocks: RMSNorm, attention with one fused query/key/value matrix and rotary positions, RMSNorm, a
gated MLP with one fused gate/up matrix; no biases. Source: arXiv 2404.14219 and the published configurations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slmkit.layers.linear import Linear
from slmkit.layers.norm import RMSNorm
from slmkit.layers.replay import Replay
from slmkit.layers.rope import LongRope, Rope
from slmkit.models.config import MOST_LAYERS, ConfigReader
from slmkit.models.longrope import NAMES, read_longrope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slmkit.layers.step import Step

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Config:
    """The settings of a phi3 checkpoint that change its numbers, under the checkpoint's own names."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    rotary_dim: int
    rope_scaling: LongRope | None
    sliding_window: int  # 0: every earlier token is seen
    tie_word_embeddings: bool

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], source: str = "config.json") -> Config:
        """Read and check a config.json.   Raises UnsupportedModel for a setting that is not implemented.

        source: what messages call it, where the settings come from another file.
        """
        read = ConfigReader(raw, "phi3", source)
        read.must_be("architectures", ["Phi3ForCausalLM"], default=["Phi3ForCausalLM"])
        read.must_be("hidden_act", "silu", default="silu")
        read.must_be("attention_bias", False, default=False)
        heads, kv_heads, head_dim = read.attention_heads()
        context = read.integer("max_position_embeddings")
        rope = read.rope_parameters()
        rotated = read.number("partial_rotary_factor", default=1.0, within=rope)
        rotary_dim = int(head_dim * rotated)
        read.require(head_dim % 2 == 0 and rotary_dim % 2 == 0 and 0 < rotary_dim <= head_dim,
                     f"a head of {head_dim} features with {rotary_dim} rotated cannot be paired")  # fmt: skip
        window = read.integer("sliding_window", default=0)
        config = cls(
            vocab_size=read.integer("vocab_size"),
            hidden_size=read.integer("hidden_size"),
            intermediate_size=read.integer("intermediate_size"),
            num_hidden_layers=read.integer("num_hidden_layers", most=MOST_LAYERS),
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            head_dim=head_dim,
            max_position_embeddings=context,
            rms_norm_eps=read.number("rms_norm_eps", default=1e-5),
            rope_theta=read.number("rope_theta", default=10000.0, within=rope),
            rotary_dim=rotary_dim,
            rope_scaling=_longrope(read, context, rotary_dim // 2),
            sliding_window=window if window < context else 0,
            tie_word_embeddings=read.boolean("tie_word_embeddings", default=False),
        )
        read.finish()
        return config


def _longrope(read: ConfigReader, context: int, pairs: int) -> LongRope | None:
    rope = read.rope_parameters()

    def factors(original: int) -> tuple[float, None]:
        stretch = read.number("factor", default=context / original, within=rope)
        factor = 1.0 if stretch <= 1 else math.sqrt(1 + math.log(stretch) / math.log(original))
        return read.number("attention_factor", default=factor, within=rope), None

    return read_longrope(
        read,
        pairs,
        min(context, 4096),
        factors,
        names=(*NAMES, "yarn"),  # as early files spell it
        plain=("rope_theta", "partial_rotary_factor"),
        scaled=("factor", "attention_factor"),
    )


class Attention:
    """Causal attention; each key/value head serves num_attention_heads / num_key_value_heads query heads."""

    def __init__(self, config: Config, weights: Mapping[str, Any], ops: Any, layer: int) -> None:
        name = f"model.layers.{layer}.self_attn"
        self.qkv_proj = Linear(ops, weights[f"{name}.qkv_proj.weight"])
        self.o_proj = Linear(ops, weights[f"{name}.o_proj.weight"])
        self.config, self.ops, self.layer = config, ops, layer
        self.scale = config.head_dim**-0.5

    def __call__(self, x: F32, step: Step, cos: F32, sin: F32) -> F32:
        c = self.config
        heads = self.qkv_proj(x).reshape(len(x), -1, c.head_dim)  # all query heads, then keys, then values
        queries, kv_heads = c.num_attention_heads, c.num_key_value_heads
        q, k, v = heads[:, :queries], heads[:, queries : queries + kv_heads], heads[:, queries + kv_heads :]
        q = self.ops.rotate_and_cache(q, k, v, cos, sin, step.cache, self.layer, step.slots)
        return self.o_proj(self.ops.attention(q, step.cache, self.layer, step.segments, self.scale, c.sliding_window))


class MLP:
    """down(silu(gate x) * up x)."""

    def __init__(self, weights: Mapping[str, Any], ops: Any, layer: int) -> None:
        name = f"model.layers.{layer}.mlp"
        self.gate_up_proj = Linear(ops, weights[f"{name}.gate_up_proj.weight"])
        self.down_proj = Linear(ops, weights[f"{name}.down_proj.weight"])
        self.ops = ops

    def __call__(self, x: F32) -> F32:
        return self.down_proj(self.ops.silu_mul(self.gate_up_proj(x)))


class Block:
    """One Phi-3 layer."""

    def __init__(self, config: Config, weights: Mapping[str, Any], ops: Any, layer: int) -> None:
        name, eps = f"model.layers.{layer}", config.rms_norm_eps
        self.input_layernorm = RMSNorm(ops, weights[f"{name}.input_layernorm.weight"], eps)
        self.self_attn = Attention(config, weights, ops, layer)
        self.post_attention_layernorm = RMSNorm(ops, weights[f"{name}.post_attention_layernorm.weight"], eps)
        self.mlp = MLP(weights, ops, layer)
        self.add = ops.add

    def __call__(self, x: F32, step: Step, cos: F32, sin: F32) -> F32:  # x: (tokens, hidden)
        x = self.add(x, self.self_attn(self.input_layernorm(x), step, cos, sin))  # into x, which is the step's own
        out: F32 = self.add(x, self.mlp(self.post_attention_layernorm(x)))
        return out


class Phi3:
    """The whole model: ids to hidden states, hidden states to logits. It keeps no state between calls."""

    def __init__(self, config: Config, weights: Mapping[str, Any], ops: Any) -> None:
        self.config, self.ops = config, ops
        self.embed_tokens = ops.prepare(weights["model.embed_tokens.weight"])
        self.layers = [Block(config, weights, ops, i) for i in range(config.num_hidden_layers)]
        self.norm = RMSNorm(ops, weights["model.norm.weight"], config.rms_norm_eps)
        tied = config.tie_word_embeddings
        self.lm_head = self.embed_tokens if tied else ops.prepare(weights["lm_head.weight"])
        self.rope = Rope(config.rotary_dim, config.rope_theta, config.rope_scaling)
        self.run_layers = Replay(ops, self._run_layers)

    def embed(self, ids: NDArray[np.int32]) -> F32:
        """The rows of tokens: (tokens, hidden)."""
        x: F32 = self.ops.embed(self.embed_tokens, ids)
        return x

    def hidden(self, ids: NDArray[np.int32], step: Step) -> F32:
        """Last hidden states, before the final norm.   ids: (tokens,).   Returns (tokens, hidden)."""
        return self.run_layers(self.inputs(ids, step), step, *self.rope(step.positions, step.lengths))

    def _run_layers(self, x: F32, step: Step, cos: F32, sin: F32) -> F32:
        for layer in self.layers:
            x = layer(x, step, cos, sin)
        return x

    def inputs(self, ids: NDArray[np.int32], step: Step) -> F32:
        """What the first layer reads: (tokens, hidden)."""
        return self.embed(ids)

    def normed(self, x: F32) -> F32:
        """What the head reads: hidden states after the final norm."""
        return self.norm(x)

    def logits(self, x: F32) -> F32:
        """(tokens, hidden) -> (tokens, vocab), for the rows that need them."""
        out: F32 = self.ops.matmul(self.normed(x), self.lm_head)
        return out


def expected_tensors(c: Config) -> dict[str, tuple[int, ...]]:
    """Every tensor of a phi3 checkpoint and its shape; matrices are [out, in]."""
    qkv = (c.num_attention_heads + 2 * c.num_key_value_heads) * c.head_dim
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (c.vocab_size, c.hidden_size)}
    for i in range(c.num_hidden_layers):
        name = f"model.layers.{i}"
        shapes[f"{name}.input_layernorm.weight"] = (c.hidden_size,)
        shapes[f"{name}.self_attn.qkv_proj.weight"] = (qkv, c.hidden_size)
        shapes[f"{name}.self_attn.o_proj.weight"] = (c.hidden_size, c.num_attention_heads * c.head_dim)
        shapes[f"{name}.post_attention_layernorm.weight"] = (c.hidden_size,)
        shapes[f"{name}.mlp.gate_up_proj.weight"] = (2 * c.intermediate_size, c.hidden_size)
        shapes[f"{name}.mlp.down_proj.weight"] = (c.hidden_size, c.intermediate_size)
    shapes["model.norm.weight"] = (c.hidden_size,)
    if not c.tie_word_embeddings:
        shapes["lm_head.weight"] = (c.vocab_size, c.hidden_size)
    return shapes


MODEL = Phi3
