"""Where the time of a step goes: seconds by op of reading a prompt and of decoding a token, and what no kernel took.

    python benchmarks/profile.py MODEL [--prompt-tokens 512] [--streams 1]

Each op of the model is timed around its call, so its share has the call from Python in it; `python` is what lies
between them: the model's own lines and the step's bookkeeping. Steps are not recorded here (layers/replay.py), so
decoding takes a little longer than it does in use; peers/python_share.py measures what is left of Python then.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from typing import Any

from slmkit.backends.native import load
from slmkit.engine.scheduler import schedule
from slmkit.engine.sequence import Sequence
from slmkit.engine.step import forward
from slmkit.ops.segments import BLOCK
from slmkit.options import LoadOptions

TIMED = ("embed", "matmul", "rms_norm", "rotate_and_cache", "silu_mul", "attention", "add")


class Clock:
    """Seconds by op; matrix products by their shape."""

    def __init__(self, ops: Any) -> None:
        self.seconds: Counter[str] = Counter()
        for name in TIMED:
            setattr(ops, name, self._timed(name, getattr(ops, name)))

    def _timed(self, name: str, op: Any) -> Any:
        def run(*args: Any) -> Any:
            start = time.perf_counter()
            out = op(*args)
            took = time.perf_counter() - start
            self.seconds[f"matmul {args[1].n} x {args[1].k}" if name == "matmul" else name] += took
            return out

        return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--streams", type=int, default=1, help="sequences that decode together")
    parser.add_argument("--cache", choices=("q8", "f16", "f32"))
    args = parser.parse_args()
    ctx = (args.prompt_tokens + args.tokens + BLOCK) * args.streams
    loaded = load(args.model, LoadOptions(ctx=ctx, cache=args.cache))
    loaded.model.run_layers.most_rows = 0
    clock = Clock(loaded.model.ops)
    sequences = [prompt(args.prompt_tokens, n, loaded.facts["vocabulary"]) for n in range(args.streams)]
    read(loaded, sequences[:1])
    sequences[0].drop_cache(loaded.cache)
    clock.seconds.clear()
    show(f"prompt of {args.prompt_tokens} tokens", clock, read(loaded, sequences[:1]), 1)
    for sequence in sequences[1:]:
        read(loaded, [sequence])
    clock.seconds.clear()
    took = 0.0
    for _ in range(args.tokens):
        for sequence in sequences:
            sequence.ids.append(1)
        took += read(loaded, sequences)
    show(f"{args.streams} tokens after {args.prompt_tokens}", clock, took, args.tokens)


def prompt(tokens: int, n: int, vocabulary: int) -> Sequence:
    ids = [(i * 7919 + 13 + n * 977) % vocabulary for i in range(tokens)]
    return Sequence(ids, tokens, *(None,) * 3)  # type: ignore[arg-type]


def read(loaded: Any, sequences: list[Sequence]) -> float:
    """Seconds that it takes to read what the sequences have not read yet, in the engine's own steps."""
    start = time.perf_counter()
    while any(s.n_cached < len(s.ids) for s in sequences):
        forward(loaded.model, loaded.cache, schedule(sequences, loaded.cache))
    return time.perf_counter() - start


def show(title: str, clock: Clock, took: float, steps: int) -> None:
    print(f"{title}: {took / steps * 1e3:.1f} ms")
    for name, seconds in [*clock.seconds.most_common(), ("python", took - clock.seconds.total())]:
        print(f"  {name:24} {seconds / steps * 1e3:9.2f} ms  {seconds / took:6.1%}")


if __name__ == "__main__":
    main()
