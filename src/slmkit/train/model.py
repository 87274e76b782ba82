"""Phi-3 in torch, as it is trained: the same names and shapes as a published checkpoint.

Written to be read next to `models/phi3.py`, which runs what this file trains. Only what the recipes use is here:
plain RoPE, grouped-query attention, a tied embedding.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from slmkit.train.recipe import ModelShape


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, over the last axis."""

    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, self.weight.shape, self.weight, self.eps)


def rotation_tables(length: int, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of RoPE, each (length, head_dim), the two halves alike.

    Source: RoFormer, arXiv 2104.09864, section 3.4.2; pairs are split in halves, as in Phi-3's checkpoints.
    """
    inv_freq = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angles = torch.outer(torch.arange(length, dtype=torch.float32), inv_freq)
    return torch.cat([angles.cos()] * 2, dim=-1), torch.cat([angles.sin()] * 2, dim=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair of features by its angle; x: (batch, heads, tokens, head_dim)."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


class Attention(nn.Module):
    """Causal attention with one fused projection for queries, keys and values."""

    def __init__(self, shape: ModelShape):
        super().__init__()
        self.n_heads, self.n_kv_heads = shape.num_attention_heads, shape.num_key_value_heads
        self.head_dim = shape.hidden_size // shape.num_attention_heads
        self.qkv_proj = nn.Linear(shape.hidden_size, (self.n_heads + 2 * self.n_kv_heads) * self.head_dim, bias=False)
        self.o_proj = nn.Linear(self.n_heads * self.head_dim, shape.hidden_size, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        heads = self.qkv_proj(x).view(batch, tokens, -1, self.head_dim).transpose(1, 2)
        q, k, v = heads.split([self.n_heads, self.n_kv_heads, self.n_kv_heads], dim=1)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        grouped = self.n_kv_heads != self.n_heads
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, tokens, -1))


class MLP(nn.Module):
    """down(silu(gate) * up), gate and up in one projection."""

    def __init__(self, shape: ModelShape):
        super().__init__()
        self.gate_up_proj = nn.Linear(shape.hidden_size, 2 * shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        return self.down_proj(functional.silu(gate) * up)


class Block(nn.Module):
    """One Phi-3 layer."""

    def __init__(self, shape: ModelShape):
        super().__init__()
        self.input_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.mlp = MLP(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """Embedding, blocks and last norm; named so that parameters carry the published `model.` prefix."""

    def __init__(self, shape: ModelShape):
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.num_hidden_layers))
        self.norm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)


class Phi3(nn.Module):
    """Token ids in, logits out; the head is the embedding again (`tie_word_embeddings`)."""

    def __init__(self, shape: ModelShape):
        super().__init__()
        self.shape = shape
        self.model = Decoder(shape)
        head_dim = shape.hidden_size // shape.num_attention_heads
        cos, sin = rotation_tables(shape.max_position_embeddings, head_dim, shape.rope_theta)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.initialise()

    def initialise(self) -> None:
        """Normal weights; the two projections that write to the residual stream are smaller the deeper the model.

        Source: GPT-2's report, section 2.3, for the factor 1 / sqrt(2 * layers).
        """
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                writes_residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                std = 0.02 if "embed" in name else weight.shape[1] ** -0.5 * 0.5
                nn.init.normal_(weight, std=std / math.sqrt(2 * len(self.model.layers)) if writes_residual else std)

    def hidden(self, ids: Tensor) -> Tensor:
        """Last hidden states after the final norm: (batch, tokens) -> (batch, tokens, hidden_size)."""
        x = self.model.embed_tokens(ids)
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        for block in self.model.layers:
            x = block(x, cos, sin)
        return self.model.norm(x)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (batch, tokens, vocab_size) of what follows each position."""
        return functional.linear(self.hidden(ids), self.model.embed_tokens.weight)
