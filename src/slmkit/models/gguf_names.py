"""The names of tensors in GGUF files, in the words of the hub's checkpoints, and the way back."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from slmkit.errors import CheckpointError, UnsupportedModel
from slmkit.models.gguf_config import FACTORS, SOURCE
from slmkit.untrusted import shown

_BLOCK = re.compile(r"blk\.(0|[1-9][0-9]{0,3})\.([a-z_]+\.(?:weight|bias))")
_EXPERT = re.compile(r"(.+\.experts)\.[0-9]+\.(.+)")


@dataclass(frozen=True)
class Names:
    """How one family's tensors are called in GGUF.

    outside, block: GGUF tensor name -> the hub's, of those outside and inside a block (`model.layers.N.` goes before).
    joined: the hub's name -> the GGUF names of the parts that some files keep apart, in the order of their rows.
    stacked: a tensor that holds the same matrix of every expert -> the hub's name of one, with {} for its number.
    """

    outside: Mapping[str, str]
    block: Mapping[str, str]
    joined: Mapping[str, tuple[str, ...]]
    stacked: Mapping[str, str] = field(default_factory=dict)


def tensor_names(config: Mapping[str, Any], tensors: Collection[str]) -> dict[str, tuple[str, ...]]:
    """The hub's name of each tensor -> its names in the file; several are one tensor, their rows one after another.

    config: as read_config gives it.   tensors: the names in the file.
    Names that mean nothing here come out as they are, so that they are found to be too much. The factors of LongRoPE
    come out as buffers (weights/expect.py: IGNORED), because read_config has read them.
    Raises CheckpointError for a name that is the hub's already, and for a tensor that is there whole and in parts.
    """
    known = NAMES[config["model_type"]]
    found: dict[str, tuple[str, ...]] = {}
    for name in tensors:
        block = _BLOCK.fullmatch(name)
        in_block = block and _in_block(known, block[1], block[2], tensors)
        if name in known.outside:
            found[known.outside[name]] = (name,)
        elif block and block[2] in known.stacked:
            for expert in range(config["num_local_experts"]):
                one = known.stacked[block[2]].format(expert)
                found[f"model.layers.{block[1]}.{one}"] = (part_of(name, expert),)
        elif in_block:
            whole, parts = in_block
            if found.setdefault(whole, parts) != parts:
                raise CheckpointError(
                    f"{SOURCE} has {shown(name)} both whole and in parts; only one of the two can be meant: convert "
                    "the model again"
                )
        elif FACTORS.fullmatch(name):
            found[f"{name}.rotary_emb.inv_freq"] = (name,)
        elif name.startswith(("model.", "lm_head.")):
            raise CheckpointError(
                f"{SOURCE} has a tensor {shown(name)}, which is no name that GGUF uses for {config['model_type']}; "
                "convert the model again"
            )
        else:
            found[name] = (name,)
    return found


def part_of(name: str, number: int) -> str:
    """What weights/gguf/checkpoint.py calls one matrix of a tensor that is a stack of them."""
    return f"{name}[{number}]"


def check_in_gguf(model_type: str) -> None:
    """Raises UnsupportedModel for an architecture that GGUF files have no form for."""
    if model_type not in NAMES:
        raise UnsupportedModel(f"a {model_type} model cannot be written into a GGUF file; {', '.join(NAMES)} can")


def gguf_name(model_type: str, name: str) -> str:
    """GGUF's name of a tensor that the hub calls `name`; it must be one of the family's; an expert's is its stack's."""
    known = NAMES[model_type]
    for in_gguf, in_hub in known.outside.items():
        if name == in_hub:
            return in_gguf
    _, _, layer, rest = name.split(".", 3)  # model.layers.N.rest
    if expert := _EXPERT.fullmatch(rest):
        rest = f"{expert[1]}.{{}}.{expert[2]}"
        return f"blk.{layer}.{next(in_gguf for in_gguf, in_hub in known.stacked.items() if in_hub == rest)}"
    return f"blk.{layer}.{next(in_gguf for in_gguf, in_hub in known.block.items() if in_hub == rest)}"


def _in_block(known: Names, layer: str, name: str, tensors: Collection[str]) -> tuple[str, tuple[str, ...]] | None:
    """The hub's name of a tensor in a block and all its names in the file, or None if it means nothing here."""
    for whole, parts in known.joined.items():
        names = tuple(f"blk.{layer}.{part}" for part in parts)
        if name in parts and all(part in tensors for part in names):
            return f"model.layers.{layer}.{whole}", names
    return (f"model.layers.{layer}.{known.block[name]}", (f"blk.{layer}.{name}",)) if name in known.block else None


_PHI3 = Names(
    outside={
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
        "output.weight": "lm_head.weight",
    },
    block={
        "attn_norm.weight": "input_layernorm.weight",
        "attn_qkv.weight": "self_attn.qkv_proj.weight",
        "attn_output.weight": "self_attn.o_proj.weight",
        "ffn_norm.weight": "post_attention_layernorm.weight",
        "ffn_up.weight": "mlp.gate_up_proj.weight",  # gate first, then up
        "ffn_down.weight": "mlp.down_proj.weight",
    },
    joined={
        "self_attn.qkv_proj.weight": ("attn_q.weight", "attn_k.weight", "attn_v.weight"),
        "mlp.gate_up_proj.weight": ("ffn_gate.weight", "ffn_up.weight"),
    },
)

_PHIMOE = Names(
    outside={
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
        "output_norm.bias": "model.norm.bias",
        "output.weight": "lm_head.weight",
        "output.bias": "lm_head.bias",
    },
    block={
        f"{in_gguf}.{part}": f"{in_hub}.{part}"
        for in_gguf, in_hub in {
            "attn_norm": "input_layernorm",
            "attn_q": "self_attn.q_proj",
            "attn_k": "self_attn.k_proj",
            "attn_v": "self_attn.v_proj",
            "attn_output": "self_attn.o_proj",
            "ffn_norm": "post_attention_layernorm",
        }.items()
        for part in ("weight", "bias")
    }
    | {"ffn_gate_inp.weight": "block_sparse_moe.gate.weight"},
    joined={},
    stacked={
        "ffn_gate_exps.weight": "block_sparse_moe.experts.{}.w1.weight",
        "ffn_down_exps.weight": "block_sparse_moe.experts.{}.w2.weight",
        "ffn_up_exps.weight": "block_sparse_moe.experts.{}.w3.weight",
    },
)

NAMES: Mapping[str, Names] = {"phi3": _PHI3, "phimoe": _PHIMOE}
