"""Tokens per second that a server gives to several clients at once, ours beside llama.cpp's and our engine's own.

    python benchmarks/serving.py ./mini-q4 --llamacpp PYTHON MODEL.gguf [--clients 1 4 8 16] [--tokens 32] [--rounds 2]
    python benchmarks/serving.py ./mini-q4 --engine --clients 8
    python benchmarks/serving.py ./mini-q4 --prefix 2000 --rounds 3

Each client asks /v1/completions for a stream after a prompt of its own, 32 arbitrary ids, all at the same moment; the
servers take turns in every round, and the one that waits is stopped (SIGSTOP), so that it takes no core. PYTHON is
that of an environment with xllamacpp. A rate is all tokens of all clients over the time from the first request to the
last token. --engine: the same requests in this process, without a server. --prefix: seconds to the first token after a
prompt of so many ids and 32 others, cold and when another request began alike.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import slmkit
from slmkit.events import Finished

LLAMACPP = """
import sys, time, xllamacpp
path, clients = sys.argv[1], int(sys.argv[2])
p = xllamacpp.CommonParams()
p.model.path, p.n_ctx, p.n_parallel, p.verbosity, p.kv_unified = path, 256 * clients, clients, 0, False
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 2
server = xllamacpp.Server(p)
print(server.listening_address, flush=True)
time.sleep(10**6)
"""


NUMBERS = itertools.count()


@dataclass
class Server:
    """A running server.   model: the name that its requests have."""

    name: str
    url: str
    model: str
    process: subprocess.Popen[str]

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        self.process.send_signal(signal.SIGCONT)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        self.process.kill()

    def ask(self, prompt: list[int], tokens: int) -> int:
        """How many tokens one stream had."""
        body = {"model": self.model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True}
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/v1/completions", json.dumps(body).encode(), headers)
        count = 0
        with urllib.request.urlopen(request, timeout=600) as reply:
            for line in reply:
                count += bool(line.startswith(b"data: {") and json.loads(line[6:]).get("choices"))
        return count


class Engine:
    """The engine alone, in this process."""

    name = "engine"

    def __init__(self, path: str) -> None:
        self._model = slmkit.load(path, ctx=512)

    def awake(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()  # it does nothing when it is not asked

    def ask(self, prompt: list[int], tokens: int) -> int:
        options = slmkit.Options(max_tokens=tokens, temperature=0.0)
        events = self._model.events(slmkit.Request(ids=tuple(prompt), options=options))
        return sum(event.usage.completion_tokens for event in events if isinstance(event, Finished))

    def stop(self) -> None:
        self._model.close()


def fresh(n: int) -> list[int]:
    """Ids of a prompt that nobody had: no server knows it again."""
    number = next(NUMBERS)
    return [((i + 977 * number) * 7919 + 13 + number) % 31700 + 300 for i in range(n)]


def ours(model: str, ctx: int = 512) -> Server:
    code = "import sys; from slmkit.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "serve", model, "--port", "0", "--ctx", str(ctx), "--keep-alive", "-1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    url = next(word for line in process.stdout for word in line.split() if word.startswith("http://"))
    with urllib.request.urlopen(f"{url}/v1/models") as reply:
        name = json.load(reply)["data"][0]["id"]
    return Server("slmkit", url.rstrip("/."), name, process)


def theirs(python: str, model: str, clients: int) -> Server:
    command = [python, "-c", LLAMACPP, model, str(clients)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    return Server("llama.cpp", process.stdout.readline().strip(), "any", process)


def rate(server: Server | Engine, clients: int, tokens: int) -> float:
    prompts = [fresh(32) for _ in range(clients)]
    with server.awake(), ThreadPoolExecutor(clients) as pool:
        began = time.perf_counter()
        counts = list(pool.map(server.ask, prompts, [tokens] * clients))
        return sum(counts) / (time.perf_counter() - began)


def shared(server: Server, n: int, rounds: int) -> None:
    """Prints the time to a first token, of prompts that nobody had and of those that begin like them."""
    with server.awake():
        server.ask(fresh(32), 4)
        for _ in range(rounds):
            prefix, times = fresh(n), []
            for prompt in (prefix + fresh(32), prefix + fresh(32)):
                began = time.perf_counter()
                server.ask(prompt, 1)
                times.append(time.perf_counter() - began)
            cold, again = times
            print(f"{n} ids: first token after {cold:.2f} s; shared: {again:.2f} s, {again / cold:.1%}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--llamacpp", nargs=2, metavar=("PYTHON", "MODEL"))
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 4, 8, 16])
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--engine", action="store_true", help="beside the engine without a server")
    parser.add_argument("--prefix", type=int, metavar="N", help="time a shared prefix of so many ids, and nothing else")
    args = parser.parse_args()
    servers: list[Server | Engine] = []
    try:
        servers.append(server := ours(args.model, (args.prefix or 448) + 64))
        if args.prefix:
            return shared(server, args.prefix, args.rounds)
        if args.llamacpp:
            servers.append(theirs(*args.llamacpp, max(args.clients)))
        if args.engine:
            servers.append(Engine(args.model))
        for server in servers:
            rate(server, 1, 4)  # what is read and made at first use
        for clients in args.clients:
            rates: dict[str, list[float]] = {server.name: [] for server in servers}
            for _ in range(args.rounds):
                for server in servers:
                    rates[server.name].append(rate(server, clients, args.tokens))
            told = "  ".join(
                f"{name} {max(each):6.1f} / {statistics.median(each):6.1f}" for name, each in rates.items()
            )
            print(f"{clients:3} clients, tokens/s together, best / median: {told}", flush=True)
    finally:
        for server in servers:
            server.stop()


if __name__ == "__main__":
    main()
