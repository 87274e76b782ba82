"""What an adapter costs: steps with and without, in turns on one loaded model. benchmarks/random_lora.py makes one.

python benchmarks/lora.py MODEL ADAPTER --tokens 24 --rounds 3
"""

from __future__ import annotations

import argparse
import statistics
import time

from slmkit.backends.native import Loaded, load
from slmkit.engine.scheduler import schedule
from slmkit.engine.sequence import Sequence
from slmkit.engine.step import forward
from slmkit.options import LoadOptions

STREAMS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("adapter")
    parser.add_argument("--prompt-tokens", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    names = [f"a{i}" for i in range(STREAMS)]
    loaded = load(args.model, LoadOptions(ctx=2048, adapters=dict.fromkeys(names, args.adapter)))
    kinds = {"1, none": [""], "1, one": names[:1], "4, none": [""] * STREAMS, "4, one": names[:1] * STREAMS,
             "4, each its own": names}  # fmt: skip
    times: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for i in range(args.rounds + 1):  # the first to warm up
        for kind, adapters in kinds.items():
            took = measure(loaded, adapters, args.prompt_tokens, args.tokens)
            if i:
                times[kind].append(took)
    print("streams, adapters     prompt tokens/s   decode tokens/s together (medians)")
    for kind, pairs in times.items():
        n = len(kinds[kind])
        prompt, decode = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{kind:20} {n * args.prompt_tokens / prompt:12.1f} {n * args.tokens / decode:16.2f}")


def measure(loaded: Loaded, adapters: list[str], n_prompt: int, tokens: int) -> tuple[float, float]:
    """Seconds for the prompts, and for the tokens after them."""
    assert loaded.cache is not None
    lines = [_line(n_prompt, i, adapter) for i, adapter in enumerate(adapters)]
    start = time.perf_counter()
    _read(loaded, lines)
    middle = time.perf_counter()
    for _ in range(tokens):
        for line in lines:
            line.ids.append(1)
        _read(loaded, lines)
    end = time.perf_counter()
    for line in lines:
        line.drop_cache(loaded.cache)
    return middle - start, end - middle


def _line(tokens: int, n: int, adapter: str) -> Sequence:
    ids = [(i * 7919 + 13 + n * 977) % 30000 for i in range(tokens)]
    return Sequence(ids, tokens, *(None,) * 3, adapter=adapter)  # type: ignore[arg-type]


def _read(loaded: Loaded, lines: list[Sequence]) -> None:
    while any(line.n_cached < len(line.ids) for line in lines):
        forward(loaded.model, loaded.cache, schedule(lines, loaded.cache))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
