"""Bugs that others had, each made by an edit of a correct checkpoint, so that `transformers` itself computes them.

A reference that a bug does not change cannot catch it; make_phi3.py refuses to store one.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
from phi3_checkpoint import Tensors
from phi3_variations import head_dim

Config = dict[str, Any]
Bug = Callable[[Config, Tensors], None]  # edits its own copies
BUGS: dict[str, Bug] = {}
# Not an edit: the plain forward of `transformers` does it when it is handed a cache (see make_phi3.py).
CACHE_KEPT = "cache kept over the switch"


def with_bug(name: str, config: Config, tensors: Tensors) -> tuple[Config, Tensors]:
    config, tensors = deepcopy(config), {key: tensor.copy() for key, tensor in tensors.items()}
    BUGS[name](config, tensors)
    return config, tensors


def bug(name: str) -> Callable[[Bug], Bug]:
    def register(edit: Bug) -> Bug:
        BUGS[name] = edit
        return edit

    return register


def rope(config: Config) -> dict[str, Any]:
    return config.get("rope_parameters") or config["rope_scaling"]


def attention_factor(config: Config) -> float:
    """The factor on cos and sin that LongRoPE has by its formula, or was given."""
    scaling, original = rope(config), config["original_max_position_embeddings"]
    if "attention_factor" in scaling:
        return scaling["attention_factor"]
    factor = scaling.get("factor") or config["max_position_embeddings"] / original
    return math.sqrt(1 + math.log(factor) / math.log(original))


def edit_named(tensors: Tensors, suffix: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for name in tensors:
        if name.endswith(suffix):
            tensors[name] = np.ascontiguousarray(change(tensors[name]))


def edit_query_key_heads(
    config: Config, tensors: Tensors, change: Callable[[np.ndarray], np.ndarray], keys_too: bool = True
) -> None:
    """change: (heads, head_dim, hidden) -> same shape, over the query heads and, if asked, the key heads."""
    size = head_dim(config)
    n_heads = config["num_attention_heads"] + keys_too * config["num_key_value_heads"]

    def rows(weight: np.ndarray) -> np.ndarray:
        heads = change(weight[: n_heads * size].reshape(n_heads, size, -1))
        return np.concatenate([heads.reshape(n_heads * size, -1), weight[n_heads * size :]])

    edit_named(tensors, "qkv_proj.weight", rows)


def rotary_dim(config: Config) -> int:
    in_rope = (config.get("rope_parameters") or {}).get("partial_rotary_factor", 1.0)
    return int(head_dim(config) * config.get("partial_rotary_factor", in_rope))


@bug("gate and up swapped")
def _(config, tensors):
    edit_named(tensors, "gate_up_proj.weight", lambda w: np.roll(w, len(w) // 2, axis=0))


@bug("norm weights ignored")
def _(config, tensors):
    edit_named(tensors, "norm.weight", np.ones_like)


@bug("eps 1e-6")
def _(config, tensors):
    config["rms_norm_eps"] = 1e-6


@bug("theta 10000")
def _(config, tensors):
    config["rope_theta"] = 10000.0


@bug("rope pairs adjacent")
def _(config, tensors):
    """Features 2i and 2i + 1 turned together, as in GPT-J and in GGUF's llama files."""
    n = rotary_dim(config)
    edit_query_key_heads(config, tensors, lambda h: np.concatenate([h[:, 0:n:2], h[:, 1:n:2], h[:, n:]], axis=1))


@bug("rotated half last")
def _(config, tensors):
    n = rotary_dim(config)
    edit_query_key_heads(config, tensors, lambda h: np.concatenate([h[:, -n:], h[:, :-n]], axis=1))


@bug("whole head rotated")
def _(config, tensors):
    target = config.get("rope_parameters") or config
    target["partial_rotary_factor"] = 1.0


@bug("passed part scaled")
def _(config, tensors):
    """The attention factor on the features that are not rotated, too."""
    scale = np.ones((1, head_dim(config), 1), np.float32)
    scale[:, rotary_dim(config) :] = attention_factor(config)
    edit_query_key_heads(config, tensors, lambda h: h * scale)


@bug("score scale of head_dim 32")
def _(config, tensors):
    edit_query_key_heads(config, tensors, lambda h: h * np.float32((head_dim(config) / 32) ** 0.5), keys_too=False)


@bug("score scale of head_dim 16")
def _(config, tensors):
    edit_query_key_heads(config, tensors, lambda h: h * np.float32((head_dim(config) / 16) ** 0.5), keys_too=False)


@bug("qkv by head")
def _(config, tensors):
    """Rows read as one group of queries, key and value after the other, as Phi-3-small has them."""
    size, n_kv = head_dim(config), config["num_key_value_heads"]

    def rows(weight):
        groups = weight.reshape(n_kv, -1, size, weight.shape[1])
        q, k, v = groups[:, :-2], groups[:, -2], groups[:, -1]
        return np.concatenate([part.reshape(-1, weight.shape[1]) for part in (q, k, v)])

    edit_named(tensors, "qkv_proj.weight", rows)


@bug("kv heads tiled")
def _(config, tensors):
    """Query head h served by key head h % n_kv in place of h // group: the query heads in another order."""
    size, n_heads, n_kv = head_dim(config), config["num_attention_heads"], config["num_key_value_heads"]
    order = np.argsort(np.arange(n_heads) % n_kv, kind="stable")
    edit_query_key_heads(config, tensors, lambda h: h[order], keys_too=False)
    edit_named(
        tensors, "o_proj.weight", lambda w: w.reshape(len(w), n_heads, size)[:, order].reshape(len(w), n_heads * size)
    )


@bug("window one more")
def _(config, tensors):
    config["sliding_window"] += 1


@bug("window one less")
def _(config, tensors):
    config["sliding_window"] -= 1


@bug("no window")
def _(config, tensors):
    config["sliding_window"] = None


@bug("tables swapped")
def _(config, tensors):
    scaling = rope(config)
    scaling["short_factor"], scaling["long_factor"] = scaling["long_factor"], scaling["short_factor"]


@bug("always long")
def _(config, tensors):
    rope(config)["short_factor"] = rope(config)["long_factor"]


@bug("always short")
def _(config, tensors):
    rope(config)["long_factor"] = rope(config)["short_factor"]


def _move_switch(config: Config, by: int) -> None:
    rope(config)["attention_factor"] = attention_factor(config)
    config["original_max_position_embeddings"] += by


@bug("switch one late")
def _(config, tensors):
    _move_switch(config, 1)


@bug("switch one early")
def _(config, tensors):
    _move_switch(config, -1)


@bug("no attention factor")
def _(config, tensors):
    rope(config)["attention_factor"] = 1.0


@bug("attention factor once")
def _(config, tensors):
    """On the scores once, where cos and sin of both query and key carry it."""
    rope(config)["attention_factor"] = math.sqrt(attention_factor(config))


@bug("explicit attention_factor ignored")
def _(config, tensors):
    del rope(config)["attention_factor"]


@bug("explicit factor ignored")
def _(config, tensors):
    del rope(config)["factor"]


@bug("head not tied")
def _(config, tensors):
    embedding = tensors["model.embed_tokens.weight"]
    noise = np.random.default_rng(0).standard_normal(embedding.shape)
    config["tie_word_embeddings"] = False
    tensors["lm_head.weight"] = (noise * embedding.std()).astype(np.float32)
