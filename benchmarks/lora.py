"""What an adapter costs: steps with and without, token by token in turns on one loaded model.

benchmarks/random_lora.py makes one.

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
    prompts: dict[str, list[float]] = {kind: [] for kind in kinds}
    answers: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(args.rounds):
        lines = {kind: [_line(args.prompt_tokens, i, name) for i, name in enumerate(names)]
                 for kind, names in kinds.items()}  # fmt: skip
        for kind, group in lines.items():
            prompts[kind].append(seconds(loaded, group))
        for _ in range(args.tokens):
            for kind, group in lines.items():
                for line in group:
                    line.ids.append(1)
                answers[kind].append(seconds(loaded, group))
        for line in (line for group in lines.values() for line in group):
            line.drop_cache(loaded.cache)
    print("streams, adapters     prompt tokens/s   decode tokens/s together (medians)")
    for kind, group_names in kinds.items():
        n, prompt, token = len(group_names), statistics.median(prompts[kind]), statistics.median(answers[kind])
        print(f"{kind:20} {n * args.prompt_tokens / prompt:12.1f} {n / token:16.2f}")


def seconds(loaded: Loaded, lines: list[Sequence]) -> float:
    """What it takes to read all that is not read yet."""
    began = time.perf_counter()
    while any(line.n_cached < len(line.ids) for line in lines):
        forward(loaded.model, loaded.cache, schedule(lines, loaded.cache))  # type: ignore[arg-type]
    return time.perf_counter() - began


def _line(tokens: int, n: int, adapter: str) -> Sequence:
    ids = [(i * 7919 + 13 + n * 977) % 30000 for i in range(tokens)]
    return Sequence(ids, tokens, *(None,) * 3, adapter=adapter)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
