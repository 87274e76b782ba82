"""Phi-3.5-MoE (`model_type` "phimoe").

A decoder of equal blocks: LayerNorm, attention with rotary positions and biases, LayerNorm, and sixteen gated MLPs of
which sparsemixer chooses two for each token. Source: arXiv 2404.14219, routing: arXiv 2409.12136, and the published
configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slmkit.layers.experts import Experts, ExpertWeights
from slmkit.layers.linear import Linear
from slmkit.layers.norm import LayerNorm
from slmkit.layers.rope import LongRope, Rope
from slmkit.models.config import MOST_LAYERS, NEUTRAL, ConfigReader
from slmkit.models.longrope import read_longrope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slmkit.layers.step import Step

F32 = NDArray[np.float32]
CLASSES = (["PhiMoEForCausalLM"], ["PhimoeForCausalLM"])  # as published, and as `transformers` writes it
MOST_EXPERTS = 1024  # the published model has 16; the names of billions would not fit
# Of training alone.
TRAINING = frozenset({"input_jitter_noise", "router_aux_loss_coef", "output_router_logits"})


@dataclass(frozen=True)
class Config:
    """The settings of a phimoe checkpoint that change its numbers, under the checkpoint's own names."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int  # of one expert
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    num_local_experts: int
    num_experts_per_tok: int
    router_jitter_noise: float  # at inference: how far from the largest score another one still counts
    max_position_embeddings: int
    rms_norm_eps: float  # of LayerNorm, in spite of its name
    rope_theta: float
    rope_scaling: LongRope | None
    tie_word_embeddings: bool = False
    sliding_window: int = 0  # every earlier token is seen

    @property
    def rotary_dim(self) -> int:
        """Of each head: all of it."""
        return self.head_dim

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], source: str = "config.json") -> Config:
        """Read and check a config.json.   Raises UnsupportedModel for a setting that is not implemented.

        source: what messages call it, where the settings come from another file.
        """
        read = ConfigReader(raw, "phimoe", source)
        spelling = raw.get("architectures")
        read.must_be("architectures", spelling if spelling in CLASSES else CLASSES[0], default=CLASSES[0])
        read.must_be("hidden_act", "silu", default="silu")
        read.must_be("attention_bias", True, default=False)
        read.must_be("lm_head_bias", True, default=False)
        read.must_be("tie_word_embeddings", False, default=False)
        read.must_be("num_experts_per_tok", 2, default=2)
        heads, kv_heads, head_dim = read.attention_heads()
        read.require(head_dim % 2 == 0, f"a head of {head_dim} features cannot be paired")
        context = read.integer("max_position_embeddings")
        window = read.integer("sliding_window", default=0)
        read.require(window == 0 or window >= context, f"sliding_window is {window}, under the context of {context}")
        experts = read.integer("num_local_experts", most=MOST_EXPERTS)
        read.require(experts >= 2, "it has one expert, and two are chosen")
        config = cls(
            vocab_size=read.integer("vocab_size"),
            hidden_size=read.integer("hidden_size"),
            intermediate_size=read.integer("intermediate_size"),
            num_hidden_layers=read.integer("num_hidden_layers", most=MOST_LAYERS),
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            head_dim=head_dim,
            num_local_experts=experts,
            num_experts_per_tok=2,
            router_jitter_noise=read.number("router_jitter_noise", default=0.01),
            max_position_embeddings=context,
            rms_norm_eps=read.number("rms_norm_eps", default=1e-5),
            rope_theta=read.number("rope_theta", default=10000.0, within=read.rope_parameters()),
            rope_scaling=_longrope(read, context, head_dim // 2),
        )
        read.finish(NEUTRAL | TRAINING)
        return config


def _longrope(read: ConfigReader, context: int, pairs: int) -> LongRope | None:
    def factors(original: int) -> tuple[float, float]:
        rope = read.rope_parameters()
        return read.number("long_mscale", within=rope), read.number("short_mscale", within=rope)

    return read_longrope(read, pairs, min(context, 4096), factors,
                         plain=("rope_theta",), scaled=("short_mscale", "long_mscale"))  # fmt: skip


class Attention:
    """Causal attention; each key/value head serves num_attention_heads / num_key_value_heads query heads."""

    def __init__(self, config: Config, weights: Mapping[str, Any], ops: Any, layer: int) -> None:
        def linear(part: str) -> Linear:
            name = f"model.layers.{layer}.self_attn.{part}"
            return Linear(ops, weights[f"{name}.weight"], weights[f"{name}.bias"])

        self.q_proj, self.k_proj, self.v_proj = linear("q_proj"), linear("k_proj"), linear("v_proj")
        self.o_proj = linear("o_proj")
        self.config, self.ops, self.layer = config, ops, layer
        self.scale = config.head_dim**-0.5

    def __call__(self, x: F32, step: Step, cos: F32, sin: F32) -> F32:
        q, k, v = (p(x).reshape(len(x), -1, self.config.head_dim) for p in (self.q_proj, self.k_proj, self.v_proj))
        q = self.ops.rotate_and_cache(q, k, v, cos, sin, step.cache, self.layer, step.slots)
        return self.o_proj(self.ops.attention(q, step.cache, self.layer, step.segments, self.scale))


class SparseMoE:
    """Two experts for each token, summed with the router's weights."""

    def __init__(self, config: Config, weights: Mapping[str, Any], ops: Any, layer: int) -> None:
        name = f"model.layers.{layer}.block_sparse_moe"
        self.gate = Linear(ops, weights[f"{name}.gate.weight"])
        self.experts = Experts(
            ops,
            [
                ExpertWeights(*(weights[f"{name}.experts.{e}.{part}.weight"] for part in ("w1", "w2", "w3")))
                for e in range(config.num_local_experts)
            ],
            layer,
        )
        self.ops, self.eps = ops, config.router_jitter_noise

    def __call__(self, x: F32) -> F32:
        return self.experts(x, *self.ops.route(self.gate(x), self.eps))


class Block:
    """One Phi-3.5-MoE layer."""

    def __init__(self, config: Config, weights: Mapping[str, Any], ops: Any, layer: int) -> None:
        def norm(part: str) -> LayerNorm:
            name = f"model.layers.{layer}.{part}"
            return LayerNorm(ops, weights[f"{name}.weight"], weights[f"{name}.bias"], config.rms_norm_eps)

        self.input_layernorm, self.post_attention_layernorm = norm("input_layernorm"), norm("post_attention_layernorm")
        self.self_attn = Attention(config, weights, ops, layer)
        self.block_sparse_moe = SparseMoE(config, weights, ops, layer)
        self.add = ops.add

    def __call__(self, x: F32, step: Step, cos: F32, sin: F32) -> F32:  # x: (tokens, hidden)
        x = self.add(x, self.self_attn(self.input_layernorm(x), step, cos, sin))  # into x, which is the step's own
        out: F32 = self.add(x, self.block_sparse_moe(self.post_attention_layernorm(x)))
        return out


class PhiMoE:
    """The whole model: ids to hidden states, hidden states to logits. It keeps no state between calls."""

    def __init__(self, config: Config, weights: Mapping[str, Any], ops: Any) -> None:
        self.config, self.ops = config, ops
        self.embed_tokens = ops.prepare(weights["model.embed_tokens.weight"])
        self.layers = [Block(config, weights, ops, i) for i in range(config.num_hidden_layers)]
        self.norm = LayerNorm(ops, weights["model.norm.weight"], weights["model.norm.bias"], config.rms_norm_eps)
        self.lm_head = Linear(ops, weights["lm_head.weight"], weights["lm_head.bias"])
        self.rope = Rope(config.rotary_dim, config.rope_theta, config.rope_scaling)

    @property
    def experts(self) -> list[Experts]:
        """Of each layer."""
        return [layer.block_sparse_moe.experts for layer in self.layers]

    def embed(self, ids: NDArray[np.int32]) -> F32:
        """What the first layer takes: (tokens, hidden)."""
        x: F32 = self.ops.embed(self.embed_tokens, ids)
        return x

    def hidden(self, ids: NDArray[np.int32], step: Step) -> F32:
        """Last hidden states, before the final norm.   ids: (tokens,).   Returns (tokens, hidden)."""
        x = self.embed(ids)
        cos, sin = self.rope(step.positions, step.lengths)
        for layer in self.layers:
            x = layer(x, step, cos, sin)
        return x

    def normed(self, x: F32) -> F32:
        """What the head reads: hidden states after the final norm."""
        return self.norm(x)

    def logits(self, x: F32) -> F32:
        """(tokens, hidden) -> (tokens, vocab), for the rows that need them."""
        return self.lm_head(self.normed(x))


def expected_tensors(c: Config) -> dict[str, tuple[int, ...]]:
    """Every tensor of a phimoe checkpoint and its shape; matrices are [out, in]."""
    d, ff = c.hidden_size, c.intermediate_size
    q, kv = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (c.vocab_size, d)}
    for i in range(c.num_hidden_layers):
        name = f"model.layers.{i}"
        attention = {"q_proj": (q, d), "k_proj": (kv, d), "v_proj": (kv, d), "o_proj": (d, q)}
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes |= {f"{name}.{norm}.{part}": (d,) for part in ("weight", "bias")}
        for part, shape in attention.items():
            shapes |= {f"{name}.self_attn.{part}.weight": shape, f"{name}.self_attn.{part}.bias": shape[:1]}
        shapes[f"{name}.block_sparse_moe.gate.weight"] = (c.num_local_experts, d)
        for e in range(c.num_local_experts):
            expert = f"{name}.block_sparse_moe.experts.{e}"
            shapes |= {f"{expert}.w1.weight": (ff, d), f"{expert}.w2.weight": (d, ff), f"{expert}.w3.weight": (ff, d)}
    return shapes | {
        "model.norm.weight": (d,),
        "model.norm.bias": (d,),
        "lm_head.weight": (c.vocab_size, d),
        "lm_head.bias": (c.vocab_size,),
    }


MODEL = PhiMoE
