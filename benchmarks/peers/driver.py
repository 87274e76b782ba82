"""What every engine's small program shares: requests as lines of JSON on stdin, answers on stdout."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

# run(prompts, tokens) -> (seconds to every stream's first token, seconds of `tokens` more of each)
Run = Callable[[list[list[int]], int], tuple[float, float]]
Load = Callable[[str, int, int, int], tuple[Run, dict[str, Any]]]

VOCABULARY = 32000


def serve(load: Load) -> None:
    """Load the model that the command line names (MODEL THREADS CONTEXT STREAMS), then answer until stdin ends."""
    # An engine may print; its words go to stderr, so that only answers are read from stdout.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    model, (threads, context, streams) = sys.argv[1], map(int, sys.argv[2:5])
    began = time.perf_counter()
    run, facts = load(model, threads, context, streams)
    _say(answers, {"load_s": time.perf_counter() - began, **facts})
    n_asked = 0
    for line in sys.stdin:
        asked = json.loads(line)
        prompts = [prompt(asked["prompt"], n_asked + stream) for stream in range(asked["streams"])]
        n_asked += asked["streams"]
        first_s, rest_s = run(prompts, asked["tokens"])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        _say(answers, {"first_s": first_s, "rest_s": rest_s, "peak_bytes": peak})


def prompt(length: int, stream: int) -> list[int]:
    """Arbitrary ids, others for each stream and run, the same for each engine; no two prompts share a beginning."""
    return [((i + 977 * stream) * 7919 + 13) % (VOCABULARY - 300) + 300 for i in range(length)]


def _say(answers: Any, what: dict[str, Any]) -> None:
    answers.write(json.dumps(what) + "\n")
    answers.flush()
