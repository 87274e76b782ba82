"""How much faster Phi-3-small's sparse layers are than its dense ones: time against the pairs that they look at.

The published shape: 32 heads of 128 features, 8 for keys and values, blocks of 64, the nearest 16 and every 8th. A
prompt is read as the engine reads it, 256 tokens a step; a decoded token reads what it sees of the cache. Dense and
sparse take turns, and the figure is the median ratio of their times.

    python benchmarks/sparse_attention.py [--cache q8] [--rounds 7]
"""

from __future__ import annotations

import argparse
import time
from statistics import median
from typing import Any

import numpy as np

from slmkit.engine.cache import DTYPES, Cache
from slmkit.models.phi3_small_config import Config
from slmkit.ops.choose import choose
from slmkit.ops.segments import BLOCK, Segments
from slmkit.ops.sparse import BlockSparse

STEP = 256
CONFIG = Config.from_dict({})
PATTERNS = [share.pattern for share in CONFIG.shares[0] if share.pattern]
KV_HEADS = CONFIG.num_key_value_heads // len(PATTERNS)
HEADS = CONFIG.num_attention_heads // len(PATTERNS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", default="q8", choices=list(DTYPES))
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048, 4096, 8192])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--every", type=int, default=1, help="of a prompt, run every so many-th step only")
    parser.add_argument("--kernels", default="auto")
    args = parser.parse_args()
    ops = choose(args.kernels)
    print(f"{ops.description}, {args.cache} cache; milliseconds of a layer, medians of {args.rounds} rounds")
    print(f"{'':>16} {'dense':>8} {'sparse':>8} {'ratio':>6} {'pairs':>6}")
    for length in args.lengths:
        data = filled(length, args.cache)
        prefill = [(at, min(STEP, length - at)) for at in range(0, length, STEP)][args.every // 2 :: args.every]
        compare(f"prefill {length}", ops, data, prefill, args.rounds)
        compare(f"decode {length}", ops, data, [(length - 1, 1)] * 20, args.rounds)


def compare(name: str, ops: Any, data: np.ndarray, steps: list[tuple[int, int]], rounds: int) -> None:
    times: list[tuple[float, float]] = []
    for _ in range(rounds + 1):
        times.append((run(ops, data, steps, [None] * len(PATTERNS)), run(ops, data, steps, PATTERNS)))
    dense, sparse = (median(each) * 1e3 for each in zip(*times[1:], strict=True))
    ratio = median(sparse / dense for dense, sparse in times[1:])
    calls = 1 if name.startswith("prefill") else len(steps)
    print(
        f"{name:>16} {dense / calls:8.2f} {sparse / calls:8.2f} {ratio:6.2f} {share_of_pairs(steps):6.2f}", flush=True
    )


def run(ops: Any, data: np.ndarray, steps: list[tuple[int, int]], patterns: list[BlockSparse | None]) -> float:
    """Seconds of one layer: both halves of its heads, each with keys of its own."""
    table = np.random.default_rng(1).permutation(len(data)).astype(np.int32)[None]
    q = np.random.default_rng(2).standard_normal((STEP, HEADS, CONFIG.head_dim), np.float32)
    began = time.perf_counter()
    for at, count in steps:
        segments = Segments(np.array([0, count], np.int32), np.array([at], np.int32), table)
        for layer, pattern in enumerate(patterns):
            ops.attention(q[:count], data, layer, segments, CONFIG.attention_scale, 0, pattern)
    return time.perf_counter() - began


def share_of_pairs(steps: list[tuple[int, int]]) -> float:
    """Of the pairs of causal queries and keys that all heads of a dense layer have."""
    seen = whole = 0
    for at, count in steps:
        rows = np.arange(at, at + count)
        seen += sum(int(pattern.visible(rows, np.arange(at + count)).sum()) for pattern in PATTERNS)
        whole += CONFIG.num_attention_heads * int((rows + 1).sum())
    return seen / whole


def filled(length: int, kind: str) -> np.ndarray:
    """Numbers of the size that keys and values have."""
    data = Cache(-(-length // BLOCK), len(PATTERNS), KV_HEADS, CONFIG.head_dim, kind).data
    rng = np.random.default_rng(0)
    if kind == "q8":
        data[...] = rng.integers(-127, 128, data.shape[1:], np.int8)
        data[..., BLOCK * CONFIG.head_dim :].view(np.float32)[...] = 0.02
    else:
        data[...] = rng.standard_normal(data.shape[1:], np.float32)
    return data


if __name__ == "__main__":
    main()
