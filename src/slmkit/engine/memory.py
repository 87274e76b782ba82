"""How much memory there is, and how much context fits in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

from slmkit.engine.cache import block_bytes
from slmkit.errors import NotEnoughMemory, OptionError
from slmkit.ops.segments import BLOCK

CGROUP = Path("/sys/fs/cgroup")
RESERVE = 0.1  # of what is free stays free, for activations and for other programs
MOST_CONTEXTS = 16  # the cache is never made for more than this many full contexts


@dataclass(frozen=True)
class CachePlan:
    """The context of a model on this machine, and the cache that serves it.

    context: most tokens of one sequence.   n_blocks: blocks of 32 tokens for all sequences together.
    """

    context: int
    n_blocks: int
    bytes_per_token: int
    note: str


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


def plan_cache(
    model_context: int,
    asked: int | None,
    shape: tuple[int, int, int],
    kind: str,
    weight_bytes: int,
    free: int | None = None,
) -> CachePlan:
    """The context that is asked for, or the smaller of the model's and what fits.

    shape: layers, kv heads, head_dim.   kind: one of engine/cache.py: DTYPES.
    weight_bytes: mapped weights, which need memory too.
    Raises OptionError beyond the model's context, NotEnoughMemory beyond the machine's.
    """
    if asked is not None and asked > model_context:
        raise OptionError(f"ctx is {asked}; this model was made for at most {model_context} tokens")
    one = block_bytes(*shape, kind)
    free = free_bytes() if free is None else free
    room = max(0, int((free - weight_bytes) * (1 - RESERVE)))
    fits = room // one * BLOCK
    wanted = asked or model_context
    if (asked and wanted > fits) or fits < BLOCK:
        raise NotEnoughMemory(
            f"a context of {asked or BLOCK} tokens needs {_gb(-(-(asked or BLOCK) // BLOCK) * one)} for its cache "
            f"beside {_gb(weight_bytes)} of weights, and {_gb(free)} of memory is free; "
            f"{f'use --ctx {fits} or less, or ' if fits >= BLOCK else ''}close other programs"
        )
    context = min(wanted, fits)
    blocks_of_one = -(-context // BLOCK)
    n_blocks = min(fits // BLOCK, blocks_of_one * MOST_CONTEXTS)
    note = f"context {context} tokens"
    if context < model_context:
        why = "as asked" if asked else f"what fits in {_gb(free)} of free memory"
        note += f" of the model's {model_context}: {why}"
    return CachePlan(context, max(n_blocks, blocks_of_one), one // BLOCK, note)


def _gb(n: int) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e8 else f"{n / 1e6:.1f} MB"
