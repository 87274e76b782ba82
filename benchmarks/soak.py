"""A server under many clients for a long time: no stream lost or mixed up, memory flat, all of the cache given back.

    python benchmarks/soak.py [MODEL] [--seconds 1200] [--clients 32] [--cancels 0.2] [--seed 1]

Every request is asked alone first. Then clients ask them at random, through the APIs of OpenAI, Anthropic and Ollama,
all of them streamed; each answer has to be the one that the request got alone, to the letter. A part of the clients
stop reading and go, some in the way of a process that dies, and every second a client in a process of its own is
killed.
Ends with 1, and says why, if anything of that does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psutil

WORDS = ["the", "a", "dog", "cat", "went", "ran", "saw", "happy", "little", "big", "and", "to", "was", "found"]
MOST_GROWTH = 32 * 2**20  # bytes between the second quarter and the end
KILLED = """
import http.client, json, sys
host, path, body = sys.argv[1:]
connection = http.client.HTTPConnection(host)
connection.request("POST", path, body, {"Content-Type": "application/json"})
reply = connection.getresponse()
print("reading", flush=True)
while reply.read(1): pass
sys.stdin.read()
"""


@dataclass(frozen=True)
class Case:
    """A request.   text: what one event of its stream adds.   is_last: whether a line ends the stream."""

    path: str
    body: dict[str, Any]
    text: Callable[[dict[str, Any]], str]
    is_last: Callable[[bytes], bool]


@dataclass
class Report:
    """What happened."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    token_s: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="tiny")
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--cases", type=int, default=48, help="different requests")
    parser.add_argument("--cancels", type=float, default=0.2, help="part of the requests that are given up")
    parser.add_argument("--tokens", type=int, default=200, help="most tokens of an answer")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with server(args.model) as (process, port):
        return asyncio.run(soak(args, process, port))


@contextmanager
def server(model: str) -> Iterator[tuple[psutil.Process, int]]:
    """`slm serve` as a process of its own, and its port."""
    command = [sys.executable, "-m", "slmkit", "serve", model, "--quiet", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield psutil.Process(process.pid), int(process.stdout.readline().rpartition(":")[2])
        finally:
            process.terminate()


async def soak(args: argparse.Namespace, process: psutil.Process, port: int) -> int:
    luck = random.Random(args.seed)
    cases = [case(luck, args) for _ in range(args.cases)]
    alone = [await ask(port, one, Report()) for one in cases]
    print(f"{len(cases)} requests alone; now {args.clients} clients for {args.seconds:g} s", flush=True)
    report, end = Report(), time.monotonic() + args.seconds

    async def client(number: int) -> None:
        luck = random.Random(args.seed * 1000 + number)
        while time.monotonic() < end:
            at = luck.randrange(len(cases))
            pieces = luck.randrange(1, 40) if luck.random() < args.cancels else None
            text = await ask(port, cases[at], report, pieces, is_rude=luck.random() < 0.5)
            if text is not None and text != alone[at]:
                report.wrong.append(f"{cases[at].path}: {text!r} instead of {alone[at]!r}")

    watching = [asyncio.create_task(watch(process, report)), asyncio.create_task(kill(port, cases, report))]
    await asyncio.gather(*(client(number) for number in range(args.clients)))
    for task in watching:
        task.cancel()
    return verdict(report, await asyncio.to_thread(left_over, port, process))


def case(luck: random.Random, args: argparse.Namespace) -> Case:
    """A random request to a random API."""
    prompt = " ".join(luck.choices(WORDS, k=luck.randrange(1, 200)))
    tokens, seed = luck.randrange(1, args.tokens + 1), luck.randrange(10**6)
    messages, kind = [{"role": "user", "content": prompt}], luck.randrange(4)
    if kind == 0:
        body = {"prompt": prompt, "max_tokens": tokens, "temperature": 1.0, "seed": seed}
        return Case("/v1/completions", body | common(args), lambda e: e["choices"][0]["text"], done)
    if kind == 1:
        body = {"messages": messages, "max_tokens": tokens, "temperature": 0.7, "seed": seed}
        return Case("/v1/chat/completions", body | common(args), delta, done)
    if kind == 2:
        body = {"messages": messages, "max_tokens": tokens, "temperature": 0}
        return Case("/v1/messages", body | common(args), lambda e: e.get("delta", {}).get("text", ""), stopped)
    options = {"num_predict": tokens, "temperature": 0.9, "seed": seed}
    body = {"messages": messages, "options": options}
    return Case("/api/chat", body | common(args), lambda e: e["message"]["content"], is_done)


def common(args: argparse.Namespace) -> dict[str, Any]:
    return {"model": args.model, "stream": True}


def delta(event: dict[str, Any]) -> str:
    return str(event["choices"][0]["delta"].get("content") or "")


def done(line: bytes) -> bool:
    return line == b"data: [DONE]"


def stopped(line: bytes) -> bool:
    return line.startswith(b"data:") and json.loads(line[5:])["type"] == "message_stop"


def is_done(line: bytes) -> bool:
    return bool(json.loads(line)["done"])


async def ask(port: int, one: Case, report: Report, pieces: int | None = None, is_rude: bool = False) -> str | None:
    """The text of the answer; None for one that was given up after so many pieces, or refused."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        body = json.dumps(one.body).encode()
        head = f"POST {one.path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        began = last = time.perf_counter()
        status = int((await reader.readline()).split()[1])
        if status != 200:
            report.outcomes[f"status {status}"] += 1
            if status != 503:
                report.wrong.append(f"{one.path} answered {status}: {(await reader.read())[-300:]!r}")
            await asyncio.sleep(0.1)
            return None
        text, n, is_over = "", 0, False
        while await reader.readline() != b"\r\n":
            pass
        async for raw in reader:
            line = raw.strip()
            is_over = is_over or (bool(line) and not line.startswith(b"event:") and one.is_last(line))
            if not line.startswith((b"data: {", b"{")):
                continue
            now = time.perf_counter()
            if piece := one.text(json.loads(line.removeprefix(b"data: "))):
                (report.token_s if n else report.first_s).append(now - (last if n else began))
                text, last, n = text + piece, now, n + 1
            if pieces is not None and n >= pieces:
                report.outcomes["died" if is_rude else "given up"] += 1
                return None
        report.outcomes["answered"] += 1
        if not is_over:
            report.wrong.append(f"{one.path}: the stream ended before its end, after {text!r}")
        return text
    finally:
        if is_rude and pieces is not None:
            writer.transport.abort()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def watch(process: psutil.Process, report: Report) -> None:
    """The server's memory, twice a second."""
    while True:
        report.memory.append(process.memory_info().rss)
        await asyncio.sleep(0.5)


async def kill(port: int, cases: list[Case], report: Report) -> None:
    """Every second a process that reads a stream, and is killed meanwhile."""
    for one in cases * 1000:
        command = (sys.executable, "-c", KILLED, f"127.0.0.1:{port}", one.path, json.dumps(one.body))
        child = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert child.stdout is not None
            await child.stdout.readline()
        finally:
            child.kill()
            await child.wait()
        report.outcomes["killed"] += 1
        await asyncio.sleep(1)


def left_over(port: int, process: psutil.Process) -> dict[str, float]:
    """What the server still holds, ten seconds after the last client at most."""
    names = ("num_requests_running", "num_requests_waiting", "gpu_cache_usage_perc")
    held: dict[str, float] = {}
    for _ in range(100):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
            lines = [line.partition("{") for line in reply.read().decode().splitlines()]
        held = {name: float(rest.split()[-1]) for name, _, rest in lines if name in names}
        if not any(held.values()):
            break
        time.sleep(0.1)
    return held | {"threads": process.num_threads(), "file descriptors": process.num_fds()}


def verdict(report: Report, held: dict[str, float]) -> int:
    quarter = max(1, len(report.memory) // 4)
    before, after = (
        statistics.median(part) for part in (report.memory[quarter : 2 * quarter], report.memory[-quarter:])
    )
    print("\n| requests | |\n|---|---:|")
    for name, count in sorted(report.outcomes.items()):
        print(f"| {name} | {count:,} |")
    print("\n| latency | p50 | p99 | most |\n|---|---:|---:|---:|")
    for name, times in (("first token", report.first_s), ("each further piece", report.token_s)):
        cuts = statistics.quantiles(times, n=100)
        print(f"| {name} | {cuts[49] * 1e3:.1f} ms | {cuts[98] * 1e3:.1f} ms | {max(times) * 1e3:.0f} ms |")
    print(f"\nmemory {before / 2**20:.1f} MiB in the second quarter, {after / 2**20:.1f} MiB in the last")
    print("held at the end: " + ", ".join(f"{value:g} {name}" for name, value in held.items()))
    faults = [f"{len(report.wrong)} answers are wrong, such as {report.wrong[0]}"] if report.wrong else []
    if after - before > MOST_GROWTH:
        faults.append(f"memory grew by {(after - before) / 2**20:.0f} MiB")
    faults += [f"{name} is {held[name]:g}" for name in held if name.islower() and "_" in name and held[name]]
    print("\n".join(f"FAILED: {fault}" for fault in faults) or "every answer is the one that its request gets alone")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
