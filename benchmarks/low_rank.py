"""What the products of an adapter cost by themselves: of rank 16 on every matrix of Phi-3.5-mini's layers, one token.

python benchmarks/low_rank.py

One op (`add_low_rank`, float16), beside dense products with A and B and a sum, all float32. Every layer has matrices of
its own, so that they come from memory; medians of 15 passes, in turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from slmkit.ops import native
from slmkit.ops.choose import cores
from slmkit.ops.matrix import Matrix

LAYERS, RANK, PASSES = 32, 16, 15
SHAPES = [(9216, 3072), (3072, 3072), (16384, 3072), (3072, 8192)]  # of a layer, [out, in]


def main() -> None:
    native.set_threads(cores())
    ops = native.Native(native.kernel_sets()[0])
    rng = np.random.default_rng(0)
    x = {k: rng.standard_normal((1, k), np.float32) for _, k in SHAPES}
    low, out = np.ones((1, RANK), np.float32), {n: np.zeros((1, n), np.float32) for n, _ in SHAPES}
    parts: dict[str, list[Callable[[], object]]] = {"A": [], "B": [], "sum": [], "one op": []}
    for n, k in SHAPES * LAYERS:
        a, b = rng.standard_normal((RANK, k), np.float32), rng.standard_normal((n, RANK), np.float32)
        narrow, wide = ops.prepare(Matrix("f32", RANK, k, a)), ops.prepare(Matrix("f32", n, RANK, b))
        halves = Matrix("f16", RANK, k, a.astype(np.float16)), Matrix("f16", n, RANK, b.astype(np.float16))
        both = ops.low_rank(*halves, 2.0)
        parts["A"].append(lambda w=narrow, k=k: ops.matmul(x[k], w))  # type: ignore[misc]
        parts["B"].append(lambda w=wide: ops.matmul(low, w))  # type: ignore[misc]
        parts["sum"].append(lambda n=n: ops.add(out[n], out[n]))  # type: ignore[misc]
        parts["one op"].append(lambda w=both, n=n, k=k: ops.add_low_rank(out[n], x[k], w))  # type: ignore[misc]
    times: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(PASSES):
        for name, calls in parts.items():
            began = time.perf_counter()
            for call in calls:
                call()
            times[name].append(time.perf_counter() - began)
    print(", ".join(f"{name} {statistics.median(took) * 1e3:.1f} ms" for name, took in times.items()))


if __name__ == "__main__":
    main()
