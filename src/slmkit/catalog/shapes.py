"""What a model's size follows from: its published numbers, and the tensors that they make.

The tensors are counted by kind and not listed, so that 16 experts in 32 layers are three lines. Where slmkit runs an
architecture, a test holds these against the names and shapes that the model itself expects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum


class Role(Enum):
    """When a tensor is read: for every token, as a share of the experts, one row of it, or not while text is made."""

    LAYER = "layer"
    EXPERT = "expert"
    EMBEDDING = "embedding"
    HEAD = "head"
    VISION = "vision"


@dataclass(frozen=True)
class Tensors:
    """`count` tensors of one shape; matrices are [out, in].   name: of one of them, as the checkpoint has it."""

    role: Role
    name: str
    shape: tuple[int, ...]
    count: int = 1

    @property
    def weights(self) -> int:
        """Numbers in all of them together."""
        return self.count * math.prod(self.shape)


@dataclass(frozen=True)
class Shape:
    """The numbers of a configuration that sizes follow from, under the checkpoint's own names where it has them.

    experts_per_token of num_experts are used for a token; both are 1 in a dense model.
    window: most earlier tokens that a layer sees; 0 is all.
    """

    architecture: str  # the checkpoint's model_type
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    context: int
    num_experts: int = 1
    experts_per_token: int = 1
    window: int = 0

    @property
    def tensors(self) -> tuple[Tensors, ...]:
        """Everything that a checkpoint of this shape holds."""
        return _TENSORS[self.architecture](self)

    @property
    def parameters(self) -> int:
        """All weights."""
        return sum(t.weights for t in self.tensors)

    @property
    def active_parameters(self) -> int:
        """Weights that take part in one token: all but the experts that it does not visit."""
        idle = self.num_experts - self.experts_per_token
        experts = sum(t.weights for t in self.tensors if t.role is Role.EXPERT)
        return self.parameters - experts // self.num_experts * idle

    @property
    def attention_macs(self) -> int:
        """Multiply-adds of one query with one key and one value, in all layers."""
        return 2 * self.num_hidden_layers * self.num_attention_heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Features of all keys, or all values, of one token in one layer."""
        return self.num_key_value_heads * self.head_dim

    @property
    def q_width(self) -> int:
        """Features of all queries of one token in one layer."""
        return self.num_attention_heads * self.head_dim


def _phi3(s: Shape) -> tuple[Tensors, ...]:
    """RMSNorm, fused qkv, fused gate and up, no biases, a head of its own."""
    d, n, layer = s.hidden_size, s.num_hidden_layers, "model.layers.0"
    return (
        Tensors(Role.EMBEDDING, "model.embed_tokens.weight", (s.vocab_size, d)),
        Tensors(Role.LAYER, f"{layer}.self_attn.qkv_proj.weight", (s.q_width + 2 * s.kv_width, d), n),
        Tensors(Role.LAYER, f"{layer}.self_attn.o_proj.weight", (d, s.q_width), n),
        Tensors(Role.LAYER, f"{layer}.mlp.gate_up_proj.weight", (2 * s.intermediate_size, d), n),
        Tensors(Role.LAYER, f"{layer}.mlp.down_proj.weight", (d, s.intermediate_size), n),
        Tensors(Role.LAYER, f"{layer}.input_layernorm.weight", (d,), 2 * n),
        Tensors(Role.LAYER, "model.norm.weight", (d,)),
        Tensors(Role.HEAD, "lm_head.weight", (s.vocab_size, d)),
    )


def _phi3small(s: Shape) -> tuple[Tensors, ...]:
    """LayerNorm and biases everywhere; the embedding is also the head."""
    d, ff, n, layer = s.hidden_size, s.intermediate_size, s.num_hidden_layers, "model.layers.0"
    qkv = s.q_width + 2 * s.kv_width
    return (
        Tensors(Role.HEAD, "model.embed_tokens.weight", (s.vocab_size, d)),
        Tensors(Role.LAYER, f"{layer}.self_attn.query_key_value.weight", (qkv, d), n),
        Tensors(Role.LAYER, f"{layer}.self_attn.query_key_value.bias", (qkv,), n),
        Tensors(Role.LAYER, f"{layer}.self_attn.dense.weight", (d, s.q_width), n),
        Tensors(Role.LAYER, f"{layer}.self_attn.dense.bias", (d,), n),
        Tensors(Role.LAYER, f"{layer}.mlp.up_proj.weight", (2 * ff, d), n),
        Tensors(Role.LAYER, f"{layer}.mlp.up_proj.bias", (2 * ff,), n),
        Tensors(Role.LAYER, f"{layer}.mlp.down_proj.weight", (d, ff), n),
        Tensors(Role.LAYER, f"{layer}.mlp.down_proj.bias", (d,), n),
        Tensors(Role.LAYER, f"{layer}.input_layernorm.weight", (d,), 4 * n),  # two norms, weight and bias
        Tensors(Role.LAYER, "model.final_layernorm.weight", (d,), 2),
    )


def _phimoe(s: Shape) -> tuple[Tensors, ...]:
    """LayerNorm, separate q, k, v with biases, a router and experts without, a head with a bias."""
    d, ff, n, layer = s.hidden_size, s.intermediate_size, s.num_hidden_layers, "model.layers.0"
    experts = n * s.num_experts
    return (
        Tensors(Role.EMBEDDING, "model.embed_tokens.weight", (s.vocab_size, d)),
        Tensors(Role.LAYER, f"{layer}.self_attn.q_proj.weight", (s.q_width, d), n),
        Tensors(Role.LAYER, f"{layer}.self_attn.q_proj.bias", (s.q_width,), n),
        Tensors(Role.LAYER, f"{layer}.self_attn.k_proj.weight", (s.kv_width, d), 2 * n),
        Tensors(Role.LAYER, f"{layer}.self_attn.k_proj.bias", (s.kv_width,), 2 * n),
        Tensors(Role.LAYER, f"{layer}.self_attn.o_proj.weight", (d, s.q_width), n),
        Tensors(Role.LAYER, f"{layer}.self_attn.o_proj.bias", (d,), n),
        Tensors(Role.LAYER, f"{layer}.block_sparse_moe.gate.weight", (s.num_experts, d), n),
        Tensors(Role.EXPERT, f"{layer}.block_sparse_moe.experts.0.w1.weight", (ff, d), 2 * experts),
        Tensors(Role.EXPERT, f"{layer}.block_sparse_moe.experts.0.w2.weight", (d, ff), experts),
        Tensors(Role.LAYER, f"{layer}.input_layernorm.weight", (d,), 4 * n),
        Tensors(Role.LAYER, "model.norm.weight", (d,), 2),
        Tensors(Role.HEAD, "lm_head.weight", (s.vocab_size, d)),
        Tensors(Role.HEAD, "lm_head.bias", (s.vocab_size,)),
    )


def _phi3_v(s: Shape) -> tuple[Tensors, ...]:
    """Phi-3-mini, and beside it CLIP ViT-L/14 at 336 pixels with two projections: the same in both vision models."""
    d, c, ff, layers, seen = s.hidden_size, 1024, 4096, 24, "model.vision_embed_tokens"
    clip = f"{seen}.img_processor.vision_model"
    return (
        *_phi3(s),
        Tensors(Role.VISION, f"{clip}.embeddings.class_embedding", (c,)),
        Tensors(Role.VISION, f"{clip}.embeddings.patch_embedding.weight", (c, 3, 14, 14)),
        Tensors(Role.VISION, f"{clip}.embeddings.position_embedding.weight", (577, c)),
        Tensors(Role.VISION, f"{clip}.pre_layrnorm.weight", (c,), 4),  # and post_layernorm, weight and bias
        Tensors(Role.VISION, f"{clip}.encoder.layers.0.self_attn.q_proj.weight", (c, c), 4 * layers),
        Tensors(Role.VISION, f"{clip}.encoder.layers.0.self_attn.q_proj.bias", (c,), 4 * layers),
        Tensors(Role.VISION, f"{clip}.encoder.layers.0.layer_norm1.weight", (c,), 4 * layers),
        Tensors(Role.VISION, f"{clip}.encoder.layers.0.mlp.fc1.weight", (ff, c), layers),
        Tensors(Role.VISION, f"{clip}.encoder.layers.0.mlp.fc1.bias", (ff,), layers),
        Tensors(Role.VISION, f"{clip}.encoder.layers.0.mlp.fc2.weight", (c, ff), layers),
        Tensors(Role.VISION, f"{clip}.encoder.layers.0.mlp.fc2.bias", (c,), layers),
        Tensors(Role.VISION, f"{seen}.glb_GN", (1, 1, 4 * c)),
        Tensors(Role.VISION, f"{seen}.sub_GN", (1, 1, 1, 4 * c)),
        Tensors(Role.VISION, f"{seen}.img_projection.0.weight", (d, 4 * c)),
        Tensors(Role.VISION, f"{seen}.img_projection.2.weight", (d, d)),
        Tensors(Role.VISION, f"{seen}.img_projection.0.bias", (d,), 2),
    )


def _gpt3(s: Shape) -> tuple[Tensors, ...]:
    """A GPT-2 made large: LayerNorm, biases, learned positions, two matrices in the MLP, the embedding as head."""
    d, ff, n = s.hidden_size, s.intermediate_size, s.num_hidden_layers
    return (
        Tensors(Role.HEAD, "model.embed_tokens.weight", (s.vocab_size, d)),
        Tensors(Role.EMBEDDING, "positions", (s.context, d)),
        Tensors(Role.LAYER, "attention in", (3 * d, d), n),
        Tensors(Role.LAYER, "attention out", (d, d), n),
        Tensors(Role.LAYER, "mlp in", (ff, d), n),
        Tensors(Role.LAYER, "mlp out", (d, ff), n),
        Tensors(Role.LAYER, "biases and norms", (5 * d + ff + 4 * d,), n),
        Tensors(Role.LAYER, "last norm", (2 * d,)),
    )


_TENSORS = {
    "phi3": _phi3,
    "phi3small": _phi3small,
    "phi3_v": _phi3_v,
    "phimoe": _phimoe,
    "llama": _phi3,  # q, k, v and gate, up are separate there, which changes no count
    "gpt3": _gpt3,
}
