"""How fast matrix products are in each packed format, beside what this machine can do at the same moment.

The shapes are those of Phi-3.5-mini's matrices, the weights random bytes, in as many copies as are far over any cache.
Formats take turns within a round, so that whatever else the machine does meets them alike, and every round measures the
machine's limits anew. For one token the share of the read bandwidth counts, for many that of the 8-bit multiply-adds.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np

from slmkit.bench.limits import measure_limits
from slmkit.ops.choose import choose
from slmkit.ops.matrix import QUANTIZED, Matrix, layout

SHAPES = ["9216x3072", "3072x3072", "16384x3072", "3072x8192", "32064x3072"]
FORMATS = list(QUANTIZED)
STREAMED = 128 << 20  # bytes read by one timing of few tokens, at least


def random_matrix(format: str, n: int, k: int) -> Matrix:
    """Any bytes are a matrix, as long as its scales are numbers: 1e-3 and 1e-4 are, or the bits of small halves."""
    rng = np.random.default_rng(0)
    arrays = {}
    for name, (dtype, shape) in layout(format, n, k).items():
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        arrays[name] = rng.integers(0, 256, size, np.uint8).view(dtype).reshape(shape)
    if "scale" in arrays:
        arrays["scale"][:] = 1e-3
    if format != "q4_s" and "scale" not in arrays:
        header = 32 if format == "q6_k" else 64
        arrays["data"][..., :header] = np.full(header // 2, 1e-4, np.float16).view(np.uint8)
    return Matrix(format, n, k, **arrays)


class Product:
    """Timed products of one format, shape and number of tokens."""

    def __init__(self, ops: Any, matrix: Matrix, tokens: int) -> None:
        self.tokens, self.macs = tokens, matrix.n * matrix.k * tokens
        copies = max(1, STREAMED // matrix.nbytes) if tokens < 64 else 1
        self.weights = [ops.prepare(replace(matrix, data=matrix.data.copy())) for _ in range(copies)]
        self.x = np.random.default_rng(1).standard_normal((tokens, matrix.k), np.float32)
        self.ops, self.nbytes = ops, matrix.nbytes
        self.seconds: list[float] = []

    def run(self) -> None:
        """Adds the seconds of one product."""
        start = time.perf_counter()
        for weight in self.weights:
            self.ops.matmul(self.x, weight)
        self.seconds.append((time.perf_counter() - start) / len(self.weights))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=SHAPES, help="outputs x inputs")
    parser.add_argument("--formats", nargs="+", default=FORMATS, choices=FORMATS)
    parser.add_argument("--tokens", nargs="+", type=int, default=[1, 4, 8, 64, 512])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--kernels", default="auto")
    args = parser.parse_args()
    ops = choose(args.kernels, args.threads)
    print(f"{ops.description}; medians and bests of {args.rounds} rounds, shares of each round's own limits")
    print(f"{'shape':>12} {'tokens':>6} {'format':>6} {'GB/s':>12} {'share':>11} {'G macs/s':>13} {'share':>11}")
    for shape in args.shapes:
        n, k = (int(size) for size in shape.split("x"))
        matrices = {format: random_matrix(format, n, k) for format in args.formats}
        for tokens in args.tokens:
            compare({f: Product(ops, m, tokens) for f, m in matrices.items()}, args.rounds, f"{shape:>12} {tokens:6}")


def compare(products: dict[str, Product], rounds: int, title: str) -> None:
    """One line a format, from rounds in which each runs once."""
    for product in products.values():
        product.run()
        product.seconds.clear()  # what touched its memory first
    limits = []
    for _ in range(rounds):
        limits.append(measure_limits())
        for product in products.values():
            product.run()
    for format, p in products.items():
        read = [p.nbytes / s for s in p.seconds]
        macs = [p.macs / s for s in p.seconds]
        of_read = [r / m.read_bytes_per_s for r, m in zip(read, limits, strict=True) if m]
        of_macs = [r / m.int8_macs_per_s for r, m in zip(macs, limits, strict=True) if m]
        print(
            f"{title} {format:>6} {median(read) / 1e9:6.1f} {max(read) / 1e9:5.1f} {median(of_read):5.2f} "
            f"{max(of_read):5.2f} {median(macs) / 1e9:7.1f} {max(macs) / 1e9:5.1f} {median(of_macs):5.2f} "
            f"{max(of_macs):5.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
