"""slmkit: MODEL THREADS CONTEXT STREAMS."""

from __future__ import annotations

from typing import Any

from driver import Run, serve

import slmkit
from slmkit.events import Finished


def load(path: str, threads: int, context: int, streams: int) -> tuple[Run, dict[str, Any]]:
    model = slmkit.load(path, threads=threads, ctx=context * streams, offline=True)

    def run(prompts: list[list[int]], tokens: int) -> tuple[float, float]:
        options = slmkit.Options(
            max_tokens=tokens + 1, ignore_eos=True, temperature=0.0, repetition_penalty=1.0, speculate=0
        )
        started = [model.events(slmkit.Request(ids=tuple(ids), options=options)) for ids in prompts]
        timings = [event.timing for events in started for event in events if isinstance(event, Finished)]
        first_s = max(t.first_token_s for t in timings)
        return first_s, max(t.total_s for t in timings) - first_s

    facts = model.describe()
    names = ("token_bytes", "cache_bytes_per_token", "layer_macs", "head_macs", "attention_macs")
    return run, {name: facts[name] for name in names}


if __name__ == "__main__":
    serve(load)
