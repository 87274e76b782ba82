"""What a step of the server takes beside the model itself, with many streams at once.

    python benchmarks/overhead.py [MODEL] [--clients 32] [--tokens 128] [--rounds 5] [--temperature T]

Clients ask /v1/chat/completions for streams, all at the same moment. Three things take turns in every round, with the
same conversations, of which every answer has all its tokens:

- forward: the bare model on a batch of that many sequences, one token each; nothing but `hidden` and `logits`.
- engine: a step of the same batch through the Python API, where one answer alone is read as it comes.
- server: a step of `slm serve`, a process of its own, while a client process reads the streams from raw sockets.

A step of the last two is the time in which all answers grow by a token, from the moment when the last of them has
begun to the moment when the first of them ends. What it has over the forward pass is the overhead: Python, the sockets,
and, as the client and the kernels' threads have to share the cores with the server, also what that takes.
Medians over the rounds, and in brackets the quickest one.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import statistics
import time
from dataclasses import dataclass

from soak import WORDS, server

import slmkit
from slmkit.engine.scheduler import schedule
from slmkit.engine.sequence import Sequence
from slmkit.engine.step import assemble
from slmkit.events import Chunk, Finished


@dataclass(frozen=True)
class Case:
    """A conversation and how it is answered, to the letter the same wherever it is asked."""

    content: str
    tokens: int
    temperature: float | None
    seed: int

    @property
    def messages(self) -> tuple[slmkit.Message, ...]:
        return (slmkit.Message("user", self.content),)

    @property
    def request(self) -> slmkit.Request:
        options = slmkit.Options(max_tokens=self.tokens, temperature=self.temperature, seed=self.seed)
        return slmkit.Request(messages=self.messages, options=options)

    def body(self, model: str) -> bytes:
        named = {"max_tokens": self.tokens, "temperature": self.temperature, "seed": self.seed}
        messages = [{"role": "user", "content": self.content}]
        return json.dumps({"model": model, "messages": messages, "stream": True, **named}).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="tiny")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--temperature", type=float, help="0: greedy; else, and by default, the model's own top_p too")
    args = parser.parse_args()
    times: dict[str, list[float]] = {"forward": [], "engine": [], "server": []}
    with slmkit.load(args.model) as model, server(args.model) as (_, port):
        cases = chosen(model, args)
        for turn in range(args.rounds + 1):
            measured = forward(model, cases), engine(model, cases), asyncio.run(streams(port, args.model, cases))
            if turn:  # the first one reads and makes what is made once
                for name, seconds in zip(times, measured, strict=True):
                    times[name].append(seconds * 1e3)
    base = statistics.median(times["forward"])
    for name, each in times.items():
        middle = statistics.median(each)
        over = "" if name == "forward" else f"   overhead {middle - base:6.2f} ms"
        print(f"{name:8} {middle:6.2f} ms a step ({min(each):.2f}){over}")


def chosen(model: slmkit.Model, args: argparse.Namespace) -> list[Case]:
    """As many conversations as there are clients, whose answers do not end before their last token."""
    contents = (" ".join(random.Random(number).choices(WORDS, k=24)) for number in itertools.count())
    cases = (Case(content, args.tokens, args.temperature, seed) for seed, content in enumerate(contents))
    found: list[Case] = []
    while len(found) < args.clients:
        tried = list(itertools.islice(cases, args.clients))
        answers = [model.events(case.request) for case in tried]
        for case, events in zip(tried, answers, strict=True):
            found += [case for event in events if isinstance(event, Finished) and event.reason == "length"]
    return found[: args.clients]


def forward(model: slmkit.Model, cases: list[Case]) -> float:
    """Seconds of the bare model for a token of each."""
    bare, cache = model.backend.loaded.model, model.backend.loaded.cache  # type: ignore[attr-defined]
    lines = []
    for case in cases:
        ids = list(model.render(case.messages).ids)
        lines.append(Sequence(ids, len(ids), *(None,) * 3))  # type: ignore[arg-type]
    seconds: list[float] = []
    while len(seconds) < cases[0].tokens:
        if all(line.n_cached == len(line.ids) for line in lines):
            for line in lines:
                line.ids.append(300)
        plan = schedule(lines, cache)
        ids, step = assemble(plan, cache)
        began = time.perf_counter()
        bare.logits(bare.hidden(ids, step))
        took = time.perf_counter() - began
        for work in plan:
            work.sequence.n_cached += work.count
        if len(ids) == len(lines):
            seconds.append(took)
    for line in lines:
        line.drop_cache(cache)
    return statistics.fmean(seconds)


def engine(model: slmkit.Model, cases: list[Case]) -> float:
    """Seconds of a step of the engine alone."""
    started = [model.events(case.request) for case in cases]
    last = [time.perf_counter() for event in started[-1] if isinstance(event, Chunk)]
    ends = [(events, event.timing) for events in started[:-1] for event in events if isinstance(event, Finished)]
    return pace(last, min(events.job.started + timing.total_s for events, timing in ends))  # type: ignore[attr-defined]


class Stream(asyncio.Protocol):
    """One client: it notes when each piece of text came, and makes nothing of it."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self.asked, self.times = head % len(body) + body, list[float]()
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self.asked)

    def data_received(self, data: bytes) -> None:
        self.times += [time.perf_counter()] * data.count(b'"delta":{"content":')

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(None)


async def streams(port: int, model: str, cases: list[Case]) -> float:
    """Seconds of a step of the server."""
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    asked = [Stream(head, case.body(model)) for case in cases]
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.create_connection(lambda s=stream: s, "127.0.0.1", port) for stream in asked))
    await asyncio.gather(*(stream.ended for stream in asked))
    times = [stream.times for stream in asked]
    return pace(max(times, key=min), min(map(max, times)))


def pace(last: list[float], over: float) -> float:
    """Seconds from piece to piece.   last: when those of the answer came that began last.   over: when one ends."""
    inside = [each for each in last if each <= over]
    if len(inside) < len(last) / 2:
        raise SystemExit("the answers were hardly under way together; ask for more --tokens")
    return (inside[-1] - inside[0]) / (len(inside) - 1)


if __name__ == "__main__":
    main()
