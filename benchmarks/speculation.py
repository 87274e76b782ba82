"""What speculation by looking back gains on real texts, at a model's true speed.

    python benchmarks/speculation.py MODEL [--tokens 192] [--kind "code edit"]

The texts of tests/data/speculation are answered with and without speculation. Each answer is made to be the text
that a person wrote, by a logits processor, so weights may be random: the time is that of the model, and the drafts come
true as often as they do in that text. Both answers advance in turns of a dozen tokens, so that other programs slow both
alike; the ratio is that of their times from the first token to the last.
"""

from __future__ import annotations

import argparse
import itertools
import json
import lzma
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slmkit.backends.native import load
from slmkit.engine.job import Job, Task
from slmkit.engine.step import Engine
from slmkit.engine.worker import new_job
from slmkit.events import Event, Finished, Usage
from slmkit.options import FALLBACKS, LoadOptions, Options
from slmkit.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(__file__).parents[1] / "tests" / "data"
TURN = 12


@dataclass
class Case:
    """A prompt and the answer that a person gave."""

    kind: str
    prompt: list[int]
    answer: list[int]


class Forced:
    """A logits processor that leaves one token: the text's next."""

    def __init__(self, text: list[int]) -> None:
        self.text = text

    def __call__(self, ids: Any, logits: Any) -> Any:
        forced = np.full_like(logits, -np.inf)
        forced[self.text[len(ids)]] = 0
        return forced


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, default=192, help="most tokens of an answer")
    parser.add_argument("--kind", help="only texts of this kind")
    args = parser.parse_args()
    loaded = load(args.model, LoadOptions(ctx=2048))
    assert loaded.cache is not None
    engines = [Engine(loaded.model, loaded.cache) for _ in range(2)]
    ratios: dict[str, list[float]] = {}
    print("kind        prompt answer  drafted accepted  tokens/step  tokens/s without, with   ratio")
    for case in cases(args.tokens, args.kind):
        jobs = [job(case, loaded.tokenizer, speculate) for speculate in (0, None)]
        usage, (without, with_) = race(engines, jobs)
        n = len(case.answer) - 1
        ratios.setdefault(case.kind, []).append(without / with_)
        print(
            f"{case.kind:12}{len(case.prompt):6}{n + 1:7}{usage.drafted_tokens:9}{usage.accepted_tokens:9}"
            f"{n / (n - usage.accepted_tokens):13.2f}{n / without:17.2f}{n / with_:7.2f}{without / with_:8.2f}",
            flush=True,
        )
    for kind, found in ratios.items():
        print(f"{kind}: median {statistics.median(found):.2f}, from {min(found):.2f} to {max(found):.2f}")
    costs = engines[1].drafter.costs
    print("cost of a step of 1, 2, ... rows:", " ".join(f"{costs.of(r) / costs.of(1):.2f}" for r in range(1, 18)))


def cases(most: int, kind: str | None) -> list[Case]:
    """The stored texts in tokens of Phi-3."""
    spec = json.loads(lzma.decompress((DATA / "phi3" / "tokenizer.json.xz").read_bytes()))
    tokenizer = Tokenizer(spec, {"bos_token": "<s>", "eos_token": "<|endoftext|>"})
    rows = [json.loads(line) for line in (DATA / "speculation" / "texts.jsonl").read_text().splitlines()]
    return [
        Case(r["kind"], list(tokenizer.encode(r["prompt"])), list(tokenizer.encode(r["answer"]))[1 : most + 1])
        for r in rows
        if kind in (None, r["kind"])
    ]


def job(case: Case, tokenizer: Tokenizer, speculate: int | None) -> Job:
    """The request for the case's answer."""
    options = Options(speculate=speculate).over(FALLBACKS)
    forced = Forced(case.prompt + case.answer)
    return new_job(Task(tuple(case.prompt), options, len(case.answer), frozenset(), tokenizer, processors=(forced,)))


def race(engines: list[Engine], jobs: list[Job]) -> tuple[Usage, list[float]]:
    """Seconds of both jobs after the first token, and the usage of the second."""
    lines = [job.live[0] for job in jobs]
    engines[0].add(jobs[0])
    while not lines[0].n_generated:
        engines[0].step()
    lines[1].share_cache(lines[0], engines[1].cache)  # the prompt is read once; its last token again, for its logits
    lines[1].n_cached = min(lines[1].n_cached, len(lines[1].ids) - 1)
    engines[1].add(jobs[1])
    engines[1].step()
    seconds = [0.0, 0.0]
    for turn in itertools.count():
        for i in (0, 1) if turn % 2 else (1, 0):
            began = time.perf_counter()
            while jobs[i].live and lines[i].n_generated < (turn + 1) * TURN:
                engines[i].step()
            seconds[i] += time.perf_counter() - began
        if not jobs[0].live and not jobs[1].live:
            (usage,) = (event.usage for event in told(jobs[1]) if isinstance(event, Finished))
            return usage, seconds
    raise AssertionError


def told(job: Job) -> Iterator[Event]:
    """The events of an ended job; its error is raised."""
    while (item := job.outbox.get(wait=False)) is not None:
        if isinstance(item, BaseException):
            raise item
        yield item


if __name__ == "__main__":
    main()
