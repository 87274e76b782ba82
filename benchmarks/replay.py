"""Decoding with recorded steps (layers/replay.py) and without, of one model or several, token by token in turns.

python benchmarks/replay.py MODEL [MODEL ...] --tokens 48

Models take turns with every token, so that a machine whose speed moves is fair to all; GB/s are the bytes of weights
that a token reads over the median of its times.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from slmkit.backends.native import Loaded, load
from slmkit.engine.scheduler import schedule
from slmkit.engine.sequence import Sequence
from slmkit.engine.step import forward
from slmkit.layers.replay import MOST_ROWS
from slmkit.options import LoadOptions

PROMPT = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--tokens", type=int, default=48)
    args = parser.parse_args()
    loaded = {name: load(name, LoadOptions(ctx=PROMPT + 2 * args.tokens + 8, offline=True)) for name in args.models}
    lines = {name: Sequence(list(range(300, 300 + PROMPT)), PROMPT, *(None,) * 3) for name in loaded}  # type: ignore[arg-type]
    times: dict[tuple[str, int], list[float]] = {(name, most): [] for name in loaded for most in (0, MOST_ROWS)}
    for name, one in loaded.items():
        advance(one, lines[name])
    for i in range(-2, args.tokens):  # two rounds to warm up
        for (name, most), took in times.items():
            loaded[name].model.run_layers.most_rows = most
            lines[name].ids.append(1)
            began = time.perf_counter()
            advance(loaded[name], lines[name])
            if i >= 0:
                took.append(time.perf_counter() - began)
    for (name, most), took in times.items():
        middle = statistics.median(took)
        rate = loaded[name].facts["token_bytes"] / middle / 1e9
        how = "recorded" if most else "call by call"
        print(f"{Path(name).name:12} {how:12}  {middle * 1e3:7.2f} ms a token  {rate:5.1f} GB/s")


def advance(loaded: Loaded, line: Sequence) -> None:
    forward(loaded.model, loaded.cache, schedule([line], loaded.cache))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
