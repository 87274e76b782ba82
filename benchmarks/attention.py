"""How fast attention alone is, beside what this machine can do at the same moment.

The shape is Phi-3.5-mini's: 32 heads of 96 features, each with keys of its own. A prompt is read as the engine reads
it, 256 tokens a step; its figure is the multiply-adds that causal attention needs, against those that floats in
registers reach. A decoded token reads its whole cache once; its figure is bytes, against plain reads of memory. Caches
take turns within a round, and every round measures the machine's limits anew.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from slmkit.engine.cache import DTYPES, Cache
from slmkit.ops.choose import choose
from slmkit.ops.segments import BLOCK, Segments

HEADS, HEAD_DIM, STEP = 32, 96, 256
LAYERS = 4  # of one cache, used in turn: far over any cache of the processor, as in a model
CASES = [
    "prefill:512",
    "prefill:2000",
    "prefill:4000",
    "decode:2000x1",
    "decode:2000x8",
    "decode:4000x1",
    "decode:4000x8",
]


@dataclass(frozen=True)
class Call:
    """One call of the op."""

    q: np.ndarray
    segments: Segments


class Case:
    """Timed attention of one kind, context and cache; `work` is multiply-adds or bytes of a run over one layer."""

    def __init__(self, ops: Any, name: str, cache: str) -> None:
        kind, size = name.split(":")
        context, _, streams = size.partition("x")
        self.name, self.cache, self.decodes = name, cache, kind == "decode"
        self.calls = _decode(int(context), int(streams)) if self.decodes else _prefill(int(context))
        self.ops, self.seconds = ops, list[float]()
        sequences = int(streams or 1)
        blocks = sequences * -(-int(context) // BLOCK)
        self.data = Cache(blocks, LAYERS, HEADS, HEAD_DIM, cache).data
        fill(self.data)
        if self.decodes:
            self.work = self.data.nbytes / LAYERS * int(context) / (-(-int(context) // BLOCK) * BLOCK)
        else:
            self.work = int(context) * (int(context) + 1) * HEADS * HEAD_DIM

    def run(self) -> None:
        """Adds the seconds of one layer."""
        start = time.perf_counter()
        for layer in range(LAYERS):
            for call in self.calls:
                self.ops.attention(call.q, self.data, layer, call.segments, HEAD_DIM**-0.5)
        self.seconds.append((time.perf_counter() - start) / LAYERS)


def fill(data: np.ndarray) -> None:
    """Numbers of the size that keys and values have."""
    if data.dtype == np.int8:
        data[...] = np.random.default_rng(0).integers(-127, 128, data.shape[1:], np.int8)
        data[..., BLOCK * HEAD_DIM :].view(np.float32)[...] = 0.02
    else:
        data[...] = np.random.default_rng(0).standard_normal(data.shape[1:], np.float32)


def _prefill(context: int) -> list[Call]:
    table = np.random.default_rng(1).permutation(-(-context // BLOCK)).astype(np.int32)[None]
    return [
        _call(np.array([0, min(STEP, context - at)], np.int32), np.array([at], np.int32), table)
        for at in range(0, context, STEP)
    ]


def _decode(context: int, streams: int) -> list[Call]:
    table = np.random.default_rng(1).permutation(streams * -(-context // BLOCK)).astype(np.int32).reshape(streams, -1)
    return [_call(np.arange(streams + 1, dtype=np.int32), np.full(streams, context - 1, np.int32), table)]


def _call(starts: np.ndarray, positions: np.ndarray, table: np.ndarray) -> Call:
    q = np.random.default_rng(2).standard_normal((starts[-1], HEADS, HEAD_DIM), np.float32)
    return Call(q, Segments(starts, positions, table))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=CASES, help="prefill:TOKENS or decode:CONTEXTxSTREAMS")
    parser.add_argument("--caches", nargs="+", default=list(DTYPES), choices=list(DTYPES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--kernels", default="auto")
    args = parser.parse_args()
    ops = choose(args.kernels, args.threads)
    print(f"{ops.description}; medians and bests of {args.rounds} rounds, shares of each round's own limits")
    print(f"{'case':>15} {'cache':>5} {'ms':>16} {'speed':>21} {'share':>11}")
    for name in args.cases:
        compare([Case(ops, name, cache) for cache in args.caches], args.rounds)


def compare(cases: list[Case], rounds: int) -> None:
    """One line a case, from rounds in which each runs once."""
    from slmkit.ops import native

    for case in cases:
        case.run()
        case.seconds.clear()  # what touched its memory first
    limits = []
    for _ in range(rounds):
        limits.append(native.limits() | {"float_macs_per_s": native.float_limit()})
        for case in cases:
            case.run()
    for case in cases:
        unit, limit = ("GB/s", "read_bytes_per_s") if case.decodes else ("GFMA/s", "float_macs_per_s")
        speed = [case.work / s for s in case.seconds]
        shares = [v / one[limit] for v, one in zip(speed, limits, strict=True)]
        print(
            f"{case.name:>15} {case.cache:>5} {median(case.seconds) * 1e3:8.2f} {min(case.seconds) * 1e3:7.2f} "
            f"{median(speed) / 1e9:7.1f} {max(speed) / 1e9:6.1f} {unit:>6} {median(shares):5.2f} {max(shares):5.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
