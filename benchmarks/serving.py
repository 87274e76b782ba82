"""Tokens per second that a server gives to several clients at once, ours beside llama.cpp's.

    python benchmarks/serving.py ./mini-q4 --llamacpp PYTHON MODEL.gguf [--clients 1 4 8 16] [--tokens 32] [--rounds 2]

Each client asks /v1/completions for a stream after a prompt of its own, 32 arbitrary ids, all at the same moment; the
servers take turns in every round, and the one that waits is stopped (SIGSTOP), so that it takes no core. PYTHON is
that of an environment with xllamacpp. A rate is all tokens of all clients over the time from the first request to the
last token.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

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

    def ask(self, tokens: int) -> int:
        """How many tokens one stream had."""
        number = next(NUMBERS)  # no prompt comes twice: both servers would know it again
        prompt = [((i + 977 * number) * 7919 + 13) % 31700 + 300 for i in range(32)]
        body = {"model": self.model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True}
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/v1/completions", json.dumps(body).encode(), headers)
        count = 0
        with urllib.request.urlopen(request, timeout=600) as reply:
            for line in reply:
                count += bool(line.startswith(b"data: {") and json.loads(line[6:]).get("choices"))
        return count


def ours(model: str) -> Server:
    code = "import sys; from slmkit.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "serve", model, "--port", "0", "--ctx", "512", "--keep-alive", "-1"]
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


def rate(server: Server, clients: int, tokens: int) -> float:
    with server.awake(), ThreadPoolExecutor(clients) as pool:
        began = time.perf_counter()
        counts = list(pool.map(server.ask, [tokens] * clients))
        return sum(counts) / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--llamacpp", nargs=2, metavar=("PYTHON", "MODEL"))
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 4, 8, 16])
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    servers = [ours(args.model)]
    if args.llamacpp:
        servers.append(theirs(*args.llamacpp, max(args.clients)))
    try:
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
            os.kill(server.process.pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
