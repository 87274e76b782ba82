"""A model's settings as the metadata of a GGUF file, in the words of llama.cpp's converters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmkit.errors import UnsupportedModel
from slmkit.models import phi3, phimoe
from slmkit.models.gguf_config import MSCALE, ROUTER_EPS


def write_config(architecture: str, config: phi3.Config | phimoe.Config) -> dict[str, Any]:
    """The metadata of a model, `phi3.*` or `phimoe.*`: whole numbers as int, the others as float.

    Raises UnsupportedModel for settings that GGUF has no word for, and for heads whose features are not those of the
    model divided among them: llama.cpp expects an attn_output of [features, features].
    """
    if config.head_dim * config.num_attention_heads != config.hidden_size:
        raise UnsupportedModel(
            f"{config.num_attention_heads} heads of {config.head_dim} features in a model of {config.hidden_size} "
            "cannot be written into a GGUF file: llama.cpp does not load such a model"
        )
    keys: dict[str, Any] = {
        "context_length": config.max_position_embeddings,
        "rope.scaling.original_context_length": (
            config.rope_scaling.original_context if config.rope_scaling else config.max_position_embeddings
        ),
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "block_count": config.num_hidden_layers,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.dimension_count": config.rotary_dim,
        "rope.freq_base": config.rope_theta,
        "attention.sliding_window": config.sliding_window,
        "vocab_size": config.vocab_size,
    }
    if isinstance(config, phimoe.Config):
        _check_sayable(config)
        keys |= {"expert_count": config.num_local_experts, "expert_used_count": config.num_experts_per_tok}
    if config.rope_scaling:
        keys["rope.scaling.attn_factor"] = config.rope_scaling.attention_factor
    return {f"{architecture}.{key}": value for key, value in keys.items()}


def _check_sayable(config: phimoe.Config) -> None:
    """GGUF has no words for the router's threshold and for LongRoPE's factors on cos and sin: see _phimoe_config."""
    rope = config.rope_scaling
    scales = {MSCALE, rope.attention_factor, rope.short_attention_factor} if rope else {MSCALE}
    if config.router_jitter_noise != ROUTER_EPS or scales != {MSCALE}:
        raise UnsupportedModel(
            "a GGUF file has no words for router_jitter_noise and the mscales; a model can be written if they are the "
            f"published {ROUTER_EPS} and {MSCALE}"
        )


def write_factors(config: phi3.Config | phimoe.Config) -> dict[str, NDArray[np.float32]]:
    """The tensors that hold LongRoPE's factors, by name; none for plain RoPE."""
    rope = config.rope_scaling
    if rope is None:
        return {}
    tables = {"rope_factors_long.weight": rope.long, "rope_factors_short.weight": rope.short}
    return {name: np.asarray(values, np.float32) for name, values in tables.items()}
