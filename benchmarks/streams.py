"""Tokens per second of several answers decoded together.

    python benchmarks/streams.py MODEL [--streams 8] [--tokens 32]

Prompts of 32 arbitrary ids, greedy, two runs; the time is from the last first token to the last token.
"""

from __future__ import annotations

import argparse

import slmkit
from slmkit.events import Finished


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=32)
    args = parser.parse_args()
    with slmkit.load(args.model, ctx=512) as model:
        vocabulary = model.describe()["vocabulary"]
        for turn in range(2):
            rate = together(model, args.streams, args.tokens, vocabulary, turn)
            print(f"{args.streams} streams: {rate:.1f} tokens/s together", flush=True)


def together(model: slmkit.Model, streams: int, tokens: int, vocabulary: int, turn: int) -> float:
    options = slmkit.Options(max_tokens=tokens + 1, ignore_eos=True, temperature=0.0, speculate=0)
    prompts = [tuple((i * 7919 + 13 + n * 977 + turn) % vocabulary for i in range(32)) for n in range(streams)]
    started = [model.events(slmkit.Request(ids=ids, options=options)) for ids in prompts]
    timings = [event.timing for events in started for event in events if isinstance(event, Finished)]
    return streams * tokens / (max(t.total_s for t in timings) - max(t.first_token_s for t in timings))


if __name__ == "__main__":
    main()
