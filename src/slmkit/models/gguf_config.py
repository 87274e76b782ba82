"""The settings that a GGUF file's metadata hold, in the words of config.json; gguf_metadata.py is the way back.

The words are those of llama.cpp's converters. A file is read to the same settings as the checkpoint it was made from,
so that models/phi3.py checks and runs both alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import nextafter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slmkit.errors import CheckpointError, UnsupportedModel
from slmkit.models.config import ConfigReader
from slmkit.untrusted import shown

SOURCE = "the GGUF file"  # what messages call the settings
# Of the published Phi-3.5-MoE; its GGUF files do not hold them.
ROUTER_EPS, MSCALE = 0.01, 1.243163121016122
QUANTIZATION_VERSION = 2  # of the block layouts; older ones lie differently in memory

# In models/config.py's sense: they change no number.
_NEUTRAL_SUFFIXES = ("vocab_size", "rope.scaling.finetuned")
# Switched on unless they have this value; what is absent has it.
_FIXED_SUFFIXES: dict[str, tuple[Any, ...]] = {"attention.causal": (True,), "rope.scaling.factor": (0, 1)}
# A table of LongRoPE's factors; some converters keep it in each block.
FACTORS = re.compile(r"(?:blk\.[0-9]{1,4}\.)?rope_factors_(long|short)\.weight")


class _Tensor(Protocol):
    @property
    def type(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


Tensors = Mapping[str, _Tensor]
Values = Callable[[str], NDArray[Any]]


def read_config(metadata: Mapping[str, Any], tensors: Tensors, tensor: Values) -> dict[str, Any]:
    """The model's settings as a config.json would have them.

    tensors: everything that has a type and a shape, by name.   tensor: gives the values of one of them.
    Raises UnsupportedModel for what slmkit cannot run and for settings that it does not know and that are switched on,
    CheckpointError for values that cannot be.
    """
    return CONFIGS[_architecture(metadata)](metadata, tensors, tensor)


def decimal(value: float) -> float:
    """A number that was stored as float32, as it was written before: 9.99999975e-06 is 1e-05."""
    near = np.float32(value) if abs(value) < 1e38 else None
    return float(str(near)) if near is not None and float(near) == value else value


def _architecture(metadata: Mapping[str, Any]) -> str:
    """The model's architecture. Raises UnsupportedModel if the file holds no model, or one that does not run here."""
    name, kind, version = (
        None if isinstance(value, (np.ndarray, list)) else value
        for value in (
            metadata.get("general.architecture"),
            metadata.get("general.type", "model"),
            metadata.get("general.quantization_version", QUANTIZATION_VERSION),
        )
    )
    known = ", ".join(CONFIGS)
    if name == "clip" or kind == "mmproj":
        raise UnsupportedModel(
            f"{SOURCE} is the vision part of a model (mmproj), which slmkit does not run; give the language model's "
            f"own file, of the architecture {known}"
        )
    if kind != "model":
        raise UnsupportedModel(f"{SOURCE} holds {shown(kind)}, no model; give a file whose general.type is 'model'")
    if not isinstance(name, str) or name not in CONFIGS:
        raise UnsupportedModel(
            f"{SOURCE} has general.architecture {shown(name)}, which is not implemented; the architectures here are: "
            f"{known}"
        )
    if version != QUANTIZATION_VERSION or isinstance(version, bool):
        raise UnsupportedModel(
            f"{SOURCE} has general.quantization_version {shown(version)}, and its blocks lie as no reader of today "
            f"expects; only {QUANTIZATION_VERSION} is accepted: take a newer file"
        )
    return name


def _phi3_config(metadata: Mapping[str, Any], tensors: Tensors, tensor: Values) -> dict[str, Any]:
    read, config = _decoder_config("phi3", metadata, tensors, tensor)
    read.finish(neutral=frozenset(f"phi3.{key}" for key in _NEUTRAL_SUFFIXES))
    return config


def _phimoe_config(metadata: Mapping[str, Any], tensors: Tensors, tensor: Values) -> dict[str, Any]:
    """The files keep neither the router's threshold nor LongRoPE's factors on cos and sin, and llama.cpp computes with
    others; the weights are the published model's, so what it was trained with is taken.
    """
    read, config = _decoder_config("phimoe", metadata, tensors, tensor)
    config |= {
        "num_local_experts": read.integer("phimoe.expert_count"),
        "num_experts_per_tok": read.integer("phimoe.expert_used_count"),
        "router_jitter_noise": ROUTER_EPS,
        "attention_bias": True,
        "lm_head_bias": True,
    }
    if config["rope_scaling"]:
        config["rope_scaling"].pop("attention_factor", None)
        config["rope_scaling"] |= {"short_mscale": MSCALE, "long_mscale": MSCALE}
    read.finish(neutral=frozenset(f"phimoe.{key}" for key in _NEUTRAL_SUFFIXES))
    return config


def _decoder_config(
    name: str, metadata: Mapping[str, Any], tensors: Tensors, tensor: Values
) -> tuple[ConfigReader, dict[str, Any]]:
    """What both families have."""
    read = _reader(metadata, name)

    def whole(key: str, default: int | None = None) -> int:
        return read.integer(f"{name}.{key}", default)

    heads, hidden, layers = whole("attention.head_count"), whole("embedding_length"), whole("block_count")
    kv_heads, context = whole("attention.head_count_kv", default=heads), whole("context_length")
    head_dim = whole("attention.key_length", default=max(hidden // heads, 1))
    read.require(whole("attention.value_length", default=head_dim) == head_dim,
                 "its values have another length than its keys")  # fmt: skip
    rotated = whole("rope.dimension_count", default=head_dim)
    read.require(0 < rotated <= head_dim, f"{rotated} of {head_dim} features of a head are to be rotated")
    told = f"{name}.attention.sliding_window" in metadata
    window = whole("attention.sliding_window", default=0) if told else _default_window(layers, kv_heads, context)
    config: dict[str, Any] = {
        "model_type": name,
        "vocab_size": _vocabulary(tensors),
        "hidden_size": hidden,
        "intermediate_size": whole("feed_forward_length"),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": context,
        "original_max_position_embeddings": whole("rope.scaling.original_context_length", default=context),
        "rms_norm_eps": read.number(f"{name}.attention.layer_norm_rms_epsilon"),
        "rope_theta": read.number(f"{name}.rope.freq_base", default=10000.0),
        "sliding_window": window or None,
        "tie_word_embeddings": "output.weight" not in tensors,
    }
    if head_dim * heads != hidden:
        read.require(f"{name}.attention.key_length" in metadata,
                     f"{hidden} features do not divide into {heads} heads")  # fmt: skip
        config["head_dim"] = head_dim
    if rotated != head_dim:
        config["partial_rotary_factor"] = _share(rotated, head_dim)
    config["rope_scaling"] = _rope_scaling(read, config, rotated // 2, tensors, tensor)
    return read, config


def _reader(metadata: Mapping[str, Any], name: str) -> ConfigReader:
    """Access to the keys of one architecture; float32 numbers as they were written."""
    raw: dict[str, Any] = {}
    for key, value in metadata.items():
        if not key.startswith(f"{name}."):
            continue
        if isinstance(value, (np.ndarray, list)):
            raise UnsupportedModel(f"{SOURCE} has a list in {shown(key)}; {name} here takes a single value")
        suffix = key.removeprefix(f"{name}.")
        if suffix in _FIXED_SUFFIXES:
            if value not in _FIXED_SUFFIXES[suffix]:
                raise UnsupportedModel(
                    f"{SOURCE} has {key} = {shown(value)}; {name} here has only {_FIXED_SUFFIXES[suffix][-1]!r}"
                )
            continue
        raw[key] = decimal(value) if isinstance(value, float) else value
    return ConfigReader(raw, name, SOURCE)


def _vocabulary(tensors: Tensors) -> int:
    """The rows of the embedding: files made before the key vocab_size have no other number of them."""
    embedding = tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise CheckpointError(f"{SOURCE} lacks a matrix token_embd.weight, which every model has; fetch it again")
    return embedding.shape[0]


def _default_window(layers: int, kv_heads: int, context: int) -> int:
    """Of files made before the key was; the rule is llama.cpp's (its change 8931), and knows the published models."""
    if layers in (32, 40) and context == 4096:
        return 2047
    if (layers, kv_heads, context) == (32, 32, 131072):
        return 262144
    return 131072 if (layers, context) == (40, 131072) else 0


def _share(part: int, whole: int) -> float:
    """The fraction of which int(whole * fraction) is `part`, whatever the rounding."""
    fraction = part / whole
    return fraction if int(whole * fraction) == part else nextafter(fraction, 1.0)


def _rope_scaling(
    read: ConfigReader, config: Mapping[str, Any], pairs: int, tensors: Tensors, tensor: Values
) -> dict[str, Any] | None:
    """config.json's rope_scaling, None for plain RoPE.   pairs: of features that are rotated in a head."""
    kind = read.text(f"{read.family}.rope.scaling.type", default="none")
    factor = read.number(f"{read.family}.rope.scaling.attn_factor", default=1.0)
    factors = {which: _factors(which, pairs, tensors, tensor) for which in ("long", "short")}
    # linear: _FIXED_SUFFIXES let only a factor through that changes nothing
    read.require(kind in ("none", "linear", "longrope"), f"rope type {shown(kind)} is not one of none, longrope")
    read.require((factors["long"] is None) == (factors["short"] is None),
                 "it has only one of rope_factors_long and rope_factors_short")  # fmt: skip
    if factors["long"] is None:
        read.require(kind != "longrope", "its rope type is longrope, and it has no rope_factors")
        read.require(factor == 1.0, f"rope.scaling.attn_factor is {factor}, and it has no rope_factors")
        lost = config["max_position_embeddings"] == 131072 and config["original_max_position_embeddings"] == 4096
        read.require(not lost, "it stretches a context of 4096 to 131072 and has no rope_factors, which early "
                               "converters lost; take a newer file")  # fmt: skip
        return None
    scaling: dict[str, Any] = {"type": "longrope", "long_factor": factors["long"], "short_factor": factors["short"]}
    if f"{read.family}.rope.scaling.attn_factor" in read.raw:
        scaling["attention_factor"] = factor
    return scaling


def _factors(which: str, pairs: int, tensors: Tensors, tensor: Values) -> list[float] | None:
    """One table of `pairs` factors; None if there is none. Where each block has its own, all must be the same."""
    names = [name for name in tensors if (match := FACTORS.fullmatch(name)) and match[1] == which]
    for name in names:
        if tensors[name].type != "F32" or tuple(tensors[name].shape) != (pairs,):
            raise CheckpointError(
                f"{SOURCE} has {name} as {tensors[name].type} {list(tensors[name].shape)}; F32 [{pairs}] is needed"
            )
    found = [np.array(tensor(name), np.float32) for name in names]
    for name, values in zip(names, found, strict=True):
        if values.tobytes() != found[0].tobytes():
            raise CheckpointError(f"{SOURCE} has other factors in {name} than in {names[0]}; one table is accepted")
    return [float(value) for value in found[0]] if found else None


# Architecture -> reads its settings; gguf_names.py has its tensors.
CONFIGS: Mapping[str, Callable[[Mapping[str, Any], Tensors, Values], dict[str, Any]]] = {
    "phi3": _phi3_config,
    "phimoe": _phimoe_config,
}
