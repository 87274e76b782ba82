"""Python's share of slmkit's decode step: what is not spent inside the kernels.

    python benchmarks/peers/python_share.py MODEL [--threads 2] [--tokens 48]

Every call into the compiled library is timed from outside, so the share holds all the rest: what the layers do in
Python, NumPy's arrays, sampling, delivery, and the clock readings themselves. It is an upper bound.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import slmkit
from slmkit.events import Chunk
from slmkit.ops.recording import Recording


class Kernels:
    """Adds up the seconds spent in single calls of kernels and in recorded ones."""

    def __init__(self, kernels: Any) -> None:
        self.kernels, self.seconds = kernels, 0.0

    def __getattr__(self, name: str) -> Any:
        timed = self.timed(getattr(self.kernels, name))
        setattr(self, name, timed)
        return timed

    def timed(self, call: Any) -> Any:
        def run(*args: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*args, **named)
            finally:
                self.seconds += time.perf_counter() - began

        return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--tokens", type=int, default=48)
    args = parser.parse_args()
    with slmkit.load(args.model, threads=args.threads, ctx=args.tokens + 64, offline=True) as model:
        timed = watch(model)
        decode(model, timed, 4)
        wall_s, kernels_s = decode(model, timed, args.tokens)
    step_ms = wall_s / args.tokens * 1e3
    print(f"step {step_ms:.2f} ms, outside the kernels {(wall_s - kernels_s) / args.tokens * 1e3:.3f} ms, "
          f"{(wall_s - kernels_s) / wall_s:.2%}")  # fmt: skip


def watch(model: slmkit.Model) -> Kernels:
    """Put the clock around what runs in kernels."""
    ops = model.backend.loaded.model.ops
    ops._set = kernels = Kernels(ops._set)
    Recording.run = kernels.timed(Recording.run)  # type: ignore[method-assign]
    return kernels


def decode(model: slmkit.Model, timed: Kernels, tokens: int) -> tuple[float, float]:
    """Seconds of so many tokens after the first, and those of them that were spent in kernels."""
    options = slmkit.Options(
        max_tokens=tokens + 1, ignore_eos=True, temperature=0.0, repetition_penalty=1.0, speculate=0
    )
    marks: list[tuple[float, float]] = []
    for event in model.events(slmkit.Request(ids=tuple(range(300, 332)), options=options)):
        if isinstance(event, Chunk):
            marks.append((time.perf_counter(), timed.seconds))
    (began, kernels_began), (ended, kernels_ended) = marks[0], marks[-1]
    return ended - began, kernels_ended - kernels_began


if __name__ == "__main__":
    main()
