"""How much memory there is, and how much context fits in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from slmkit.engine.cache import block_bytes
from slmkit.engine.scheduler import STEP_TOKENS
from slmkit.errors import NotEnoughMemory, OptionError
from slmkit.layers.cache_layout import CacheLayout
from slmkit.ops.segments import BLOCK
from slmkit.untrusted import shown

CGROUP = Path("/sys/fs/cgroup")
RESERVE = 0.1  # of what is free stays free, for activations and for other programs
_UNITS = {"": 1, "b": 1, "k": 10**3, "m": 10**6, "g": 10**9, "kb": 10**3, "mb": 10**6, "gb": 10**9,
          "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}  # fmt: skip
MOST_CONTEXTS = 16  # the cache is never made for more than this many full contexts


@dataclass(frozen=True)
class CachePlan:
    """The context of a model on this machine, and the cache that serves it.

    context: most tokens of one sequence.   n_blocks: blocks for all sequences together, of any strand.
    bytes_per_token: of one that every layer and head still sees.
    """

    context: int
    n_blocks: int
    bytes_per_token: int
    note: str


@dataclass(frozen=True)
class ExpertBytes:
    """Bytes of all weights, of the experts among them, and of one layer's experts."""

    total: int
    experts: int
    layer: int


def free_bytes() -> int:
    """Memory that can be used now: what the system calls available, or what the container's limit leaves."""
    free = psutil.virtual_memory().available
    try:
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        # file pages not used lately are given back when memory is needed, as Kubernetes counts too
        return max(0, min(free, limit - used + int(stat.get("inactive_file", 0))))
    except (OSError, ValueError):  # no such file, or "max"
        return free


def memory_bytes(text: str) -> int:
    """An amount of memory: a number and KB, MB, GB or GiB.   Raises OptionError."""
    found = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([KMG]?i?B?)\s*", text, re.IGNORECASE)
    unit = found[2].lower() if found else ""
    if not found or unit not in _UNITS or not float(found[1]):
        raise OptionError(f"memory is {shown(text)}; it takes a number of bytes or with a unit: 16GB, 12.5GiB, 800MB")
    return int(float(found[1]) * _UNITS[unit])


def usable_bytes(bound: str | None) -> int:
    """Memory that is free now, or less by a bound such as "16GB".   Raises OptionError."""
    return min(free_bytes(), memory_bytes(bound)) if bound else free_bytes()


def plan_experts(
    model_context: int,
    asked: int | None,
    layout: CacheLayout,
    kind: str,
    weights: ExpertBytes,
    free: int,
    encoding: int = 0,
) -> tuple[CachePlan, int]:
    """As plan_cache for a model whose experts need not all be in memory; and the bytes of experts that may be.

    Experts come first, with up to three quarters of what the other weights leave; a context that was asked for comes
    before them, as long as the experts of one layer fit: a step of many tokens uses them all.
    """
    fixed = weights.total - weights.experts
    try:
        plan = plan_cache(model_context, asked, layout, kind,
                          fixed + min(weights.experts, max(weights.layer, (free - fixed) * 3 // 4)),
                          free, encoding)  # fmt: skip
    except NotEnoughMemory:
        plan = plan_cache(model_context, asked, layout, kind, fixed + weights.layer, free, encoding)
    one = block_bytes(layout.layers, layout.kv_heads, layout.head_dim, kind)

    def left() -> int:
        return int((free - fixed) * (1 - RESERVE)) - plan.n_blocks * one

    if left() < weights.experts:  # experts that are here are worth more than room for many sequences
        plan = replace(plan, n_blocks=layout.blocks_of(plan.context, STEP_TOKENS))
    return plan, min(weights.experts, max(weights.layer, left()))


def plan_cache(
    model_context: int,
    asked: int | None,
    layout: CacheLayout,
    kind: str,
    weight_bytes: int,
    free: int | None = None,
    encoding: int = 0,
) -> CachePlan:
    """The context that is asked for, or the smaller of the model's and what fits.

    kind: one of engine/cache.py: DTYPES.
    weight_bytes: mapped weights, which need memory too.   encoding: what an image needs while it is encoded.
    Raises OptionError beyond the model's context, NotEnoughMemory beyond the machine's.
    """
    if asked is not None and asked > model_context:
        raise OptionError(f"ctx is {asked}; this model was made for at most {model_context} tokens")
    one = block_bytes(layout.layers, layout.kv_heads, layout.head_dim, kind)
    free = free_bytes() if free is None else free
    room = max(0, int((free - weight_bytes - encoding) * (1 - RESERVE)))
    fits = layout.tokens_in(room // one, STEP_TOKENS)
    wanted = asked or model_context
    if (asked and wanted > fits) or fits < BLOCK:
        image = f" and {_gb(encoding)} for an image" if encoding else ""
        raise NotEnoughMemory(
            f"a context of {asked or BLOCK} tokens needs {_gb(cache_bytes(layout, asked or BLOCK, kind))} for its "
            f"cache beside {_gb(weight_bytes)} of weights{image}, and {_gb(free)} of memory is free; "
            f"{f'use --ctx {fits} or less, or ' if fits >= BLOCK else ''}close other programs"
        )
    context = min(wanted, fits)
    blocks_of_one = layout.blocks_of(context, STEP_TOKENS)
    n_blocks = min(room // one, blocks_of_one * MOST_CONTEXTS)
    note = f"context {context} tokens"
    if context < model_context:
        why = "as asked" if asked else f"what fits in {_gb(free)} of free memory"
        note += f" of the model's {model_context}: {why}"
    return CachePlan(context, max(n_blocks, blocks_of_one), len(layout.strands) * one // BLOCK, note)


def cache_bytes(layout: CacheLayout, tokens: int, kind: str) -> int:
    """What a context of so many tokens takes at most."""
    return layout.blocks_of(tokens, STEP_TOKENS) * block_bytes(layout.layers, layout.kv_heads, layout.head_dim, kind)


def layout_of(config: Any) -> CacheLayout:
    """The model's own, or that of layers and heads that see all alike."""
    own: CacheLayout | None = getattr(config, "cache_layout", None)
    return own or CacheLayout(config.num_hidden_layers, config.num_key_value_heads, config.head_dim)


def _gb(n: int) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e8 else f"{n / 1e6:.1f} MB"
