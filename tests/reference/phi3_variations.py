"""The variations of the `phi3` architecture that have a stored reference: their configs, prompts and bugs to catch."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Block edges of 16 and 32 tokens are where a cache or a tiled kernel goes wrong.
SHORT_LENGTHS = (1, 16, 17, 31, 32, 33, 64)
STEP_LENGTHS = tuple(range(28, 41))
WINDOW = 7


@dataclass(frozen=True)
class Variation:
    """One tiny checkpoint and what is asked of it.

    config: keys that differ from BASE.   lengths: one random prompt for each.
    step_lengths: prefixes of one further sequence, each read by a forward pass of its own, as decoding must
    reproduce them token by token.   greedy: (prompt length, continuation length).
    bugs: names in phi3_bugs.BUGS that the stored logits must show.
    full_precision: False rounds the weights to bfloat16 (no float16 loses them either), so that the checkpoint
    can be rewritten in any of the three types without a change of its logits.
    """

    about: str
    config: dict[str, Any]
    bugs: tuple[str, ...] = ()
    lengths: tuple[int, ...] = SHORT_LENGTHS
    step_lengths: tuple[int, ...] = STEP_LENGTHS
    greedy: tuple[int, int] = (28, 24)
    full_precision: bool = False
    n_shards: int = 1
    remove: tuple[str, ...] = field(default=())


BASE: dict[str, Any] = {
    "architectures": ["Phi3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "auto_map": {
        "AutoConfig": "configuration_phi3.Phi3Config",
        "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM",
    },
    "bos_token_id": 1,
    "embd_pdrop": 0.0,
    "eos_token_id": 120,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "max_position_embeddings": 4096,
    "model_type": "phi3",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "original_max_position_embeddings": 4096,
    "pad_token_id": 120,
    "resid_pdrop": 0.0,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "sliding_window": 2047,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "transformers_version": "4.41.2",
    "use_cache": True,
    "vocab_size": 128,
}


def longrope_factors(n_pairs: int, seed: int) -> dict[str, list[float]]:
    """Two lists that rise as the published ones do: short from 1 to about 3, long from 1 to about 64."""
    rng = np.random.default_rng(seed)
    short = np.sort(rng.uniform(1.05, 3.0, n_pairs)).astype(np.float32)
    long = np.sort(np.exp(rng.uniform(0.1, np.log(64.0), n_pairs))).astype(np.float32)
    assert len(set(short)) == len(set(long)) == n_pairs
    return {"long_factor": [float(f) for f in long], "short_factor": [float(f) for f in short]}


def longrope(spelling: str, seed: int, n_pairs: int = 8, **extra: Any) -> dict[str, Any]:
    return {**longrope_factors(n_pairs, seed), **extra, "type": spelling}


# The switch at 32 tokens keeps most LongRoPE cases short; three more have it where the real models do.
SWITCH_AT_32 = {"max_position_embeddings": 1024, "original_max_position_embeddings": 32, "sliding_window": 262144}
SWITCH_AT_4096 = {
    "max_position_embeddings": 131072,
    "num_hidden_layers": 1,
    "num_key_value_heads": 2,
    "sliding_window": 262144,
}
LONG_LENGTHS = (1, 4095, 4096, 4097)
LONG_STEPS = (4094, 4095, 4096, 4097, 4098, 4099)
LONG_GREEDY = (4091, 12)

COMMON_BUGS = ("gate and up swapped", "rope pairs adjacent", "norm weights ignored", "eps 1e-6", "qkv by head")
LONGROPE_BUGS = (
    "tables swapped",
    "always long",
    "always short",
    "switch one late",
    "switch one early",
    "no attention factor",
    "attention factor once",
    "cache kept over the switch",
)

VARIATIONS: dict[str, Variation] = {
    "mha": Variation("every head has its own keys, as in Phi-3-mini", {}, COMMON_BUGS, full_precision=True),
    "gqa": Variation(
        "4 heads share 2 key heads", {"num_key_value_heads": 2}, (*COMMON_BUGS, "kv heads tiled"), full_precision=True
    ),
    "mqa": Variation(
        "4 heads share one key head; another rope_theta",
        {"num_key_value_heads": 1, "rope_theta": 500.0},
        ("theta 10000", "rope pairs adjacent"),
    ),
    "window": Variation(
        "sliding window of 7 keys, itself included",
        {"num_key_value_heads": 2, "sliding_window": WINDOW},
        ("window one more", "window one less", "no window"),
        (1, 6, 7, 8, 9, 16, 17, 31, 32, 33, 64),
    ),
    "longrope": Variation(
        "LongRoPE whose switch is at 32 tokens",
        {**SWITCH_AT_32, "rope_scaling": longrope("longrope", 1)},
        (*COMMON_BUGS, *LONGROPE_BUGS),
        (1, 16, 17, 31, 32, 33, 34, 64),
    ),
    "longrope-4096-su": Variation(
        "LongRoPE at its real lengths, spelled `su`",
        {**SWITCH_AT_4096, "rope_scaling": longrope("su", 2)},
        LONGROPE_BUGS,
        LONG_LENGTHS,
        LONG_STEPS,
        LONG_GREEDY,
    ),
    "longrope-4096-yarn": Variation(
        "LongRoPE at its real lengths, spelled `yarn`",
        {**SWITCH_AT_4096, "rope_scaling": longrope("yarn", 3)},
        LONGROPE_BUGS,
        LONG_LENGTHS,
        LONG_STEPS,
        LONG_GREEDY,
    ),
    "longrope-4096-parameters": Variation(
        "LongRoPE at its real lengths, in the `rope_parameters` style of transformers 5",
        {
            **SWITCH_AT_4096,
            "dtype": "float32",
            "transformers_version": "5.23.0",
            "rope_parameters": {
                **longrope_factors(8, 4),
                "original_max_position_embeddings": 4096,
                "partial_rotary_factor": 1.0,
                "rope_theta": 10000.0,
                "rope_type": "longrope",
            },
        },
        LONGROPE_BUGS,
        LONG_LENGTHS,
        LONG_STEPS,
        LONG_GREEDY,
        remove=("rope_scaling", "rope_theta", "torch_dtype"),
    ),
    "longrope-attention-factor": Variation(
        "LongRoPE with an explicit `attention_factor`, which replaces the computed one",
        {
            **SWITCH_AT_32,
            "num_hidden_layers": 1,
            "num_key_value_heads": 2,
            "rope_scaling": longrope("longrope", 5, attention_factor=1.1),
        },
        ("explicit attention_factor ignored", "no attention factor", "tables swapped"),
    ),
    "longrope-factor": Variation(
        "LongRoPE with an explicit `factor`, from which the attention factor is computed",
        {
            **SWITCH_AT_32,
            "num_hidden_layers": 1,
            "num_key_value_heads": 2,
            "rope_scaling": longrope("longrope", 6, factor=4.0),
        },
        ("explicit factor ignored", "no attention factor", "tables swapped"),
    ),
    "longrope-partial": Variation(
        "LongRoPE over three quarters of a head, a tied head and a window wider than any context",
        {
            **SWITCH_AT_32,
            "num_key_value_heads": 2,
            "partial_rotary_factor": 0.75,
            "tie_word_embeddings": True,
            "rope_scaling": longrope("longrope", 7, n_pairs=6),
        },
        (
            "tables swapped",
            "rope pairs adjacent",
            "rotated half last",
            "no attention factor",
            "passed part scaled",
            "cache kept over the switch",
        ),
    ),
    "partial-half": Variation(
        "half of each head is rotated",
        {"num_key_value_heads": 2, "partial_rotary_factor": 0.5},
        ("whole head rotated", "rotated half last", "rope pairs adjacent"),
    ),
    "partial-three-quarters": Variation(
        "three quarters of each head are rotated, in the `rope_parameters` style",
        {
            "num_key_value_heads": 2,
            "dtype": "float32",
            "transformers_version": "5.23.0",
            "rope_parameters": {"partial_rotary_factor": 0.75, "rope_theta": 10000.0, "rope_type": "default"},
        },
        ("whole head rotated", "rotated half last", "rope pairs adjacent"),
        remove=("rope_scaling", "rope_theta", "torch_dtype"),
    ),
    "tied": Variation(
        "the embedding is also the head; no lm_head.weight", {"tie_word_embeddings": True}, ("head not tied",)
    ),
    "medium": Variation(
        "10 heads share 2 key heads, as in Phi-3-medium; two shards",
        {"hidden_size": 160, "num_attention_heads": 10, "num_hidden_layers": 1, "num_key_value_heads": 2},
        ("kv heads tiled", "rope pairs adjacent"),
        n_shards=2,
    ),
    "head-24": Variation(
        "head_dim 24, which fills no whole lane of 32",
        {"hidden_size": 96, "num_hidden_layers": 1, "num_key_value_heads": 2},
        ("score scale of head_dim 32", "rope pairs adjacent"),
    ),
    "head-dim-key": Variation(
        "an explicit `head_dim` of 24 that is not hidden_size / num_attention_heads",
        {"head_dim": 24, "num_hidden_layers": 1, "num_key_value_heads": 2},
        ("score scale of head_dim 16", "rope pairs adjacent"),
    ),
    "hidden-48": Variation(
        "hidden 48, ff 80, vocabulary 131: no multiples of 32",
        {"hidden_size": 48, "intermediate_size": 80, "num_key_value_heads": 2, "vocab_size": 131},
        ("gate and up swapped", "kv heads tiled"),
    ),
    "odd-sizes": Variation(
        "hidden 60, 5 heads of 12, ff 77, vocabulary 101: multiples of no lane",
        {
            "hidden_size": 60,
            "intermediate_size": 77,
            "num_attention_heads": 5,
            "num_key_value_heads": 1,
            "vocab_size": 101,
            "eos_token_id": 93,
            "pad_token_id": 93,
        },
        ("gate and up swapped", "rope pairs adjacent"),
    ),
}


def config_of(variation: Variation) -> dict[str, Any]:
    """The config.json of a variation, keys sorted as the published files have them."""
    merged = {**BASE, **variation.config}
    return {key: merged[key] for key in sorted(merged) if key not in variation.remove}


def head_dim(config: dict[str, Any]) -> int:
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
