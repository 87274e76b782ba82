"""Phi-3-small, 8k and 128k (`model_type` "phi3small").

Dense and block-sparse attention take turns; each key/value head comes with its query heads in one interleaved matrix.
LayerNorm and biases everywhere, gegelu in the MLP, the embedding as head, and muP's multipliers: on the embedding, in
the attention scale, and under the logits. Source: arXiv 2404.14219 and the published configuration and code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slmkit.layers.fixed import fixed
from slmkit.layers.linear import Linear
from slmkit.layers.norm import LayerNorm
from slmkit.layers.replay import Replay
from slmkit.layers.rope import Rope
from slmkit.models.phi3_small_config import Config

if TYPE_CHECKING:
    from slmkit.layers.step import Step

F32 = NDArray[np.float32]


class Attention:
    """Causal attention, in sparse layers to the nearest blocks and every `blocksparse_vert_stride`-th before them.

    The matrix gives, for each key/value head, its queries, its key and its value. They are put in the order of the
    strands of the cache, each strand's queries, keys and values together, and what was found back into that of heads.
    """

    def __init__(self, config: Config, weights: Mapping[str, Any], ops: Any, layer: int) -> None:
        name = f"model.layers.{layer}.self_attn"
        self.query_key_value = _linear(ops, weights, f"{name}.query_key_value")
        self.dense = _linear(ops, weights, f"{name}.dense")
        self.config, self.ops, self.shares = config, ops, config.shares[layer]
        self.shared = config.num_attention_heads // config.num_key_value_heads
        rows = np.arange((self.shared + 2) * config.num_key_value_heads).reshape(config.num_key_value_heads, -1)
        heads = np.arange(config.num_attention_heads).reshape(config.num_key_value_heads, -1)
        own = [list(share.kv_heads) for share in self.shares]
        order = np.concatenate([rows[kv][:, part].ravel() for kv in own for part in (slice(-2), -2, -1)])
        self.by_strand = fixed(np.argsort(order).astype(np.int32))
        self.by_head = fixed(np.concatenate([heads[kv].ravel() for kv in own]).astype(np.int32))

    def __call__(self, x: F32, step: Step, cos: F32, sin: F32) -> F32:
        c, ops, tokens = self.config, self.ops, len(x)
        rows = ops.place_heads([self.query_key_value(x).reshape(tokens, -1, c.head_dim)], self.by_strand)
        found = []
        for share in self.shares:
            n, strand = len(share.kv_heads), step.strands[share.strand]
            k = n * self.shared  # queries before it; then n keys and n values
            q = ops.rotate_and_cache(rows[:, :k], rows[:, k : k + n], rows[:, k + n : k + 2 * n], cos, sin,
                                     step.cache, share.layer, strand.slots)  # fmt: skip
            out = ops.attention(q, step.cache, share.layer, strand.segments, c.attention_scale, 0, share.pattern)
            found.append(out.reshape(tokens, -1, c.head_dim))
            rows = rows[:, k + 2 * n :]
        return self.dense(ops.place_heads(found, self.by_head).reshape(tokens, -1))


class MLP:
    """down(gegelu(up x))."""

    def __init__(self, config: Config, weights: Mapping[str, Any], ops: Any, layer: int) -> None:
        name = f"model.layers.{layer}.mlp"
        self.up_proj = _linear(ops, weights, f"{name}.up_proj")
        self.down_proj = _linear(ops, weights, f"{name}.down_proj")
        self.ops, self.limit = ops, config.gegelu_limit

    def __call__(self, x: F32) -> F32:
        return self.down_proj(self.ops.gegelu(self.up_proj(x), self.limit))


class Block:
    """One Phi-3-small layer."""

    def __init__(self, config: Config, weights: Mapping[str, Any], ops: Any, layer: int) -> None:
        name = f"model.layers.{layer}"
        self.input_layernorm = _norm(config, weights, ops, f"{name}.input_layernorm")
        self.self_attn = Attention(config, weights, ops, layer)
        self.post_attention_layernorm = _norm(config, weights, ops, f"{name}.post_attention_layernorm")
        self.mlp = MLP(config, weights, ops, layer)
        self.add = ops.add

    def __call__(self, x: F32, step: Step, cos: F32, sin: F32) -> F32:  # x: (tokens, hidden)
        x = self.add(x, self.self_attn(self.input_layernorm(x), step, cos, sin))  # into x, which is the step's own
        out: F32 = self.add(x, self.mlp(self.post_attention_layernorm(x)))
        return out


class Phi3Small:
    """The whole model: ids to hidden states, hidden states to logits. It keeps no state between calls."""

    def __init__(self, config: Config, weights: Mapping[str, Any], ops: Any) -> None:
        self.config, self.ops = config, ops
        self.embed_tokens = ops.prepare(weights["model.embed_tokens.weight"])
        self.layers = [Block(config, weights, ops, i) for i in range(config.num_hidden_layers)]
        self.final_layernorm = _norm(config, weights, ops, "model.final_layernorm")
        tied = config.tie_word_embeddings
        self.lm_head = self.embed_tokens if tied else ops.prepare(weights["lm_head.weight"])
        self.rope = Rope(config.head_dim, config.rope_embedding_base, config.rope_scaling)
        self.run_layers = Replay(ops, self._run_layers)

    def embed(self, ids: NDArray[np.int32]) -> F32:
        """What the first layer takes: (tokens, hidden)."""
        x: F32 = self.ops.embed(self.embed_tokens, ids)
        x *= np.float32(self.config.mup_embedding_multiplier)
        return x

    def hidden(self, ids: NDArray[np.int32], step: Step) -> F32:
        """Last hidden states, before the final norm.   ids: (tokens,).   Returns (tokens, hidden)."""
        return self.run_layers(self.embed(ids), step, *self.rope(step.positions, step.lengths))

    def _run_layers(self, x: F32, step: Step, cos: F32, sin: F32) -> F32:
        for layer in self.layers:
            x = layer(x, step, cos, sin)
        return x

    def normed(self, x: F32) -> F32:
        """What the head reads: hidden states after the final norm."""
        return self.final_layernorm(x)

    def logits(self, x: F32) -> F32:
        """(tokens, hidden) -> (tokens, vocab), for the rows that need them; -inf for ids that stand for nothing."""
        out: F32 = self.ops.matmul(self.normed(x), self.lm_head)
        out /= np.float32(self.config.mup_width_multiplier)
        out[:, self.config.dummy_token_indices] = -np.inf
        return out


def _linear(ops: Any, weights: Mapping[str, Any], name: str) -> Linear:
    return Linear(ops, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _norm(config: Config, weights: Mapping[str, Any], ops: Any, name: str) -> LayerNorm:
    return LayerNorm(ops, weights[f"{name}.weight"], weights[f"{name}.bias"], config.layer_norm_epsilon)


def expected_tensors(c: Config) -> dict[str, tuple[int, ...]]:
    """Every tensor of a phi3small checkpoint and its shape; matrices are [out, in]."""
    hidden, ff = c.hidden_size, c.ff_intermediate_size
    qkv = (c.num_attention_heads + 2 * c.num_key_value_heads) * c.head_dim
    matrices = {"self_attn.query_key_value": (qkv, hidden), "self_attn.dense": (hidden, hidden),
                "mlp.up_proj": (2 * ff, hidden), "mlp.down_proj": (hidden, ff)}  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (c.vocab_size, hidden)}
    for i in range(c.num_hidden_layers):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes |= {f"model.layers.{i}.{norm}.{part}": (hidden,) for part in ("weight", "bias")}
        for name, shape in matrices.items():
            shapes |= {f"model.layers.{i}.{name}.weight": shape, f"model.layers.{i}.{name}.bias": shape[:1]}
    shapes |= {f"model.final_layernorm.{part}": (hidden,) for part in ("weight", "bias")}
    if not c.tie_word_embeddings:
        shapes["lm_head.weight"] = (c.vocab_size, hidden)
    return shapes


MODEL = Phi3Small
