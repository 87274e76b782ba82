"""The config.json of Phi-3-small, and what follows from it: which heads see what, and how the cache lies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from slmkit.layers.cache_layout import CacheLayout, Share, lay_out
from slmkit.layers.rope import LongRope
from slmkit.models.config import MOST_LAYERS, NEUTRAL, ConfigReader
from slmkit.models.longrope import read_longrope
from slmkit.ops.segments import BLOCK
from slmkit.ops.sparse import BlockSparse

# Ids of the published vocabulary that stand for nothing: all special ones but <|endoftext|>, the roles and <|end|>.
UNUSED_IDS = (100256, 100258, 100259, 100260, 100264, 100265, *range(100267, 100352))
# attention_bias was added for a server, and says nothing: the biases are there.
_NEUTRAL = NEUTRAL | {
    "attention_bias", "attention_dropout_prob", "embedding_dropout_prob", "ffn_dropout_prob",
    "blocksparse_triton_kernel_block_size", "pad_sequence_to_multiple_of_64",
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """The settings of a phi3small checkpoint that change its numbers, under the checkpoint's own names."""

    vocab_size: int
    hidden_size: int
    ff_intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    layer_norm_epsilon: float
    gegelu_limit: float
    rope_embedding_base: float
    rope_scaling: LongRope | None
    attention_scale: float
    mup_embedding_multiplier: float
    mup_width_multiplier: float
    dense_attention_every_n_layers: int
    blocksparse_block_size: int
    blocksparse_num_local_blocks: int
    blocksparse_vert_stride: int
    blocksparse_homo_head_pattern: bool
    dummy_token_indices: tuple[int, ...]
    tie_word_embeddings: bool

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], source: str = "config.json") -> Config:
        """Read and check a config.json; what it leaves out is as in the published configuration's code.

        Raises UnsupportedModel for a setting that is not implemented.
        """
        read = ConfigReader(raw, "phi3small", source)
        read.must_be("architectures", ["Phi3SmallForCausalLM"], default=["Phi3SmallForCausalLM"])
        read.must_be("hidden_act", "gegelu", default="gegelu")
        read.must_be("rope_position_scale", 1.0, default=1.0)
        heads = read.integer("num_attention_heads", default=32)
        kv_heads = read.integer("num_key_value_heads", default=8)
        hidden, vocab = read.integer("hidden_size", default=4096), read.integer("vocab_size", default=100352)
        context = read.integer("max_position_embeddings", default=8192)
        size = read.integer("blocksparse_block_size", default=64)
        read.require(heads % kv_heads == 0, f"{heads} attention heads cannot share {kv_heads} key/value heads evenly")
        read.require(hidden % (2 * heads) == 0, f"{hidden} features do not divide into {heads} heads of even size")
        read.require(size % BLOCK == 0, f"blocksparse_block_size is {size}, and must be a multiple of {BLOCK}")
        read.require("gegelu_limit" not in raw or raw["gegelu_limit"] is not None, "gegelu_limit is null, no number")
        head_dim = hidden // heads
        multiplier = read.number("mup_attn_multiplier", default=1.0)
        every = "dense_attention_every_n_layers"
        is_mup = read.boolean("mup_use_scaling", default=True)
        config = cls(
            vocab_size=vocab,
            hidden_size=hidden,
            ff_intermediate_size=_ff(read, raw, hidden),
            num_hidden_layers=read.integer("num_hidden_layers", default=32, most=MOST_LAYERS),
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            head_dim=head_dim,
            max_position_embeddings=context,
            layer_norm_epsilon=read.number("layer_norm_epsilon", default=1e-5),
            gegelu_limit=read.number("gegelu_limit", default=20.0),
            rope_embedding_base=read.number("rope_embedding_base", default=1e6),
            rope_scaling=_longrope(read, context, head_dim // 2),
            attention_scale=multiplier / head_dim if is_mup else head_dim**-0.5,
            mup_embedding_multiplier=_multiplier(read, raw, "mup_embedding_multiplier", 10.0),
            mup_width_multiplier=_multiplier(read, raw, "mup_width_multiplier", 8.0),
            dense_attention_every_n_layers=0 if _is_off(raw, every) else read.integer(every, default=2),
            blocksparse_block_size=size,
            blocksparse_num_local_blocks=read.integer("blocksparse_num_local_blocks", default=16),
            blocksparse_vert_stride=read.integer("blocksparse_vert_stride", default=8),
            blocksparse_homo_head_pattern=read.boolean("blocksparse_homo_head_pattern", default=False),
            dummy_token_indices=_masked(read, vocab),
            tie_word_embeddings=read.boolean("tie_word_embeddings", default=True),
        )
        read.finish(_NEUTRAL)
        return config

    @cached_property
    def _laid_out(self) -> tuple[CacheLayout, tuple[tuple[Share, ...], ...]]:
        every, stride = self.dense_attention_every_n_layers, self.blocksparse_vert_stride
        is_sparse = [not every or (i + 1) % every != 0 for i in range(self.num_hidden_layers)]
        step = max(1, stride // self.num_attention_heads)
        shifts = (np.arange(self.num_attention_heads, dtype=np.int32) * step + 1) % stride
        if self.blocksparse_homo_head_pattern:
            shifts[:] = 1 % stride
        size, local = self.blocksparse_block_size, self.blocksparse_num_local_blocks
        patterns = [BlockSparse(size, local, stride, own) for own in np.split(shifts, self.num_key_value_heads)]
        return lay_out(is_sparse, patterns, self.head_dim)

    @property
    def cache_layout(self) -> CacheLayout:
        """How its keys and values lie in the cache, so that blocks which no head sees again are given back."""
        return self._laid_out[0]

    @property
    def shares(self) -> tuple[tuple[Share, ...], ...]:
        """Where in that layout the key/value heads of each layer lie, and what their queries see."""
        return self._laid_out[1]


def _is_off(raw: Mapping[str, Any], key: str) -> bool:
    """Whether a setting is there to switch something off: null or 0."""
    return key in raw and not raw[key]


def _multiplier(read: ConfigReader, raw: Mapping[str, Any], key: str, default: float) -> float:
    return 1.0 if _is_off(raw, key) else read.number(key, default=default)


def _ff(read: ConfigReader, raw: Mapping[str, Any], hidden: int) -> int:
    pads = read.boolean("gegelu_pad_to_256", default=True)
    if not _is_off(raw, "ff_intermediate_size"):
        return read.integer("ff_intermediate_size", default=14336)
    width = read.integer("ff_dim_multiplier") * (hidden // 3) * 2
    return -(-width // 256) * 256 if pads else width


def _masked(read: ConfigReader, vocab: int) -> tuple[int, ...]:
    ids = read.ids("dummy_token_indices", vocab)
    return tuple(id for id in UNUSED_IDS if id < vocab) if ids is None else ids


def _longrope(read: ConfigReader, context: int, pairs: int) -> LongRope | None:
    rope = read.rope_parameters()

    def factors(original: int) -> tuple[float, float]:
        read.require(
            original <= context, f"LongRoPE from {original} tokens on has no meaning in a context of {context}"
        )
        rule = math.sqrt(1 + math.log(context / original) / math.log(original))
        return _mscale(read, rope, "long_mscale", rule), _mscale(read, rope, "short_mscale", 1.0)

    return read_longrope(read, pairs, min(context, 8192), factors, scaled=("short_mscale", "long_mscale"))


def _mscale(read: ConfigReader, rope: Mapping[str, Any], key: str, otherwise: float) -> float:
    """The factor that is given; one that is 0, below, or not there leaves it to the rule."""
    value = rope.get(key)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return otherwise if value is None or (is_number and value <= 0) else read.number(key, within=rope)
