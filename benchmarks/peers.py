"""slmkit and other engines on the same work, interleaved, beside the machine's limits.

    python benchmarks/peers.py --slmkit MODEL --llamacpp PYTHON MODEL.gguf --out RESULTS [--only decode-32 ...]

Run with slmkit's own Python. Every round gives each engine, in turn, a process of its own: it loads the model, then
each case is preceded by a measurement of the limits. RESULTS.json gets every run; RESULTS.md the best and the median
of each case, and in brackets the median share of the limit; RESULTS.svg a chart, where matplotlib is installed. The
models must be of one shape, and their files in the page cache.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slmkit.bench.limits import measure_limits
from slmkit.ops import native

DRIVERS = Path(__file__).parent / "peers"


@dataclass(frozen=True)
class Case:
    """What is asked: prompts of so many tokens, `tokens` more of each after the first, so many streams."""

    prompt: int
    tokens: int
    streams: int = 1
    is_prefill: bool = False
    is_core_taken: bool = False

    def rate(self, run: dict[str, Any]) -> float:
        """Tokens/s, of all streams together."""
        return self.prompt / run["first_s"] if self.is_prefill else self.streams * self.tokens / run["rest_s"]


CASES = {
    "decode-32": Case(32, 48),
    "core-taken": Case(32, 16, is_core_taken=True),
    "decode-2000": Case(2000, 24),
    "decode-4000": Case(4000, 24),
    "prefill-512": Case(512, 1, is_prefill=True),
    "prefill-4000": Case(4000, 1, is_prefill=True),
    "streams-4": Case(32, 32, streams=4),
    "streams-8": Case(32, 32, streams=8),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slmkit", metavar="MODEL", help="a packed model")
    parser.add_argument("--llamacpp", nargs="+", metavar=("PYTHON", "MODEL"), help="its Python, then GGUF files")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    native.set_threads(args.threads)
    engines = {"slmkit": (sys.executable, "slmkit", args.slmkit)} if args.slmkit else {}
    for model in (args.llamacpp or [])[1:]:
        engines[f"llama.cpp {Path(model).stem}"] = (args.llamacpp[0], "llamacpp", model)
    runs: list[dict[str, Any]] = []
    for number in range(args.rounds):
        for name, engine in engines.items():
            for run in one_round(engine, args.only, args.threads):
                runs.append({"engine": name, "round": number, **run})
                print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
                write(args.out, runs, args.threads)


def one_round(engine: tuple[str, str, str], only: list[str], threads: int) -> Iterator[dict[str, Any]]:
    """One process of one engine through its cases."""
    python, driver, model = engine
    context = max(CASES[name].prompt + CASES[name].tokens for name in only) + 8
    command = [python, str(DRIVERS / f"run_{driver}.py"), model, str(threads), str(context)]
    environment = os.environ | {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": str(threads)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        facts = answer(process, driver)
        ask(process, driver, Case(32, 4))  # a warm-up
        for name in only:
            case, limits = CASES[name], measure_limits()
            assert limits is not None
            with taken_core(case.is_core_taken):
                got = ask(process, driver, case)
            yield {"case": name, "rate": case.rate(got), **got, **facts, **asdict(limits)}
        assert process.stdin is not None
        process.stdin.close()


def ask(process: subprocess.Popen[str], driver: str, case: Case) -> dict[str, Any]:
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(case)) + "\n")
    process.stdin.flush()
    return answer(process, driver)


def answer(process: subprocess.Popen[str], driver: str) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"{driver} ended with {process.wait()}; run its program by hand to see why: {process.args}")
    return dict(json.loads(line))


@contextlib.contextmanager
def taken_core(is_taken: bool) -> Iterator[None]:
    """Another program that keeps the first processor busy."""
    if not is_taken:
        yield
        return
    core = min(os.sched_getaffinity(0))
    # It ends with this program, however this ends.
    code = f"import os; os.sched_setaffinity(0, [{core}])\nwhile os.getppid() == {os.getpid()}: pass"
    busy = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


def share(run: dict[str, Any]) -> float | None:
    """Of the limit measured beside the run: bytes read for one stream, multiply-adds for a prompt. None if unknown."""
    case = CASES[run["case"]]
    if "token_bytes" not in run or case.streams > 1 or case.is_core_taken:
        return None
    if case.is_prefill:
        macs = run["layer_macs"] + run["attention_macs"] * (case.prompt + 1) / 2 + run["head_macs"] / case.prompt
        return float(run["rate"] * macs / run["int8_macs_per_s"])
    held = case.prompt + case.tokens / 2
    token_bytes = run["token_bytes"] + run["cache_bytes_per_token"] * held
    return float(run["rate"] * token_bytes / run["read_bytes_per_s"])


def write(out: Path, runs: list[dict[str, Any]], threads: int) -> None:
    out.with_suffix(".json").write_text(json.dumps({"threads": threads, "runs": runs}, indent=1))
    engines = list(dict.fromkeys(run["engine"] for run in runs))
    cases = list(dict.fromkeys(run["case"] for run in runs))
    lines = ["| what | " + " | ".join(engines) + " |", "|---|" + "--:|" * len(engines)]
    for case in cases:
        cells = [cell([run for run in runs if (run["engine"], run["case"]) == (e, case)]) for e in engines]
        lines.append(f"| {case}, tokens/s | " + " | ".join(cells) + " |")
    for what, key, unit in (("load, s", "load_s", 1.0), ("peak memory, GB", "peak_bytes", 1e9)):
        of = [[run[key] / unit for run in runs if run["engine"] == e] for e in engines]
        lines.append(f"| {what}, {'least' if key == 'load_s' else 'most'} | " + " | ".join(
            f"{(min if key == 'load_s' else max)(values):.2f}" for values in of) + " |")  # fmt: skip
    out.with_suffix(".md").write_text("\n".join(lines) + "\n")
    draw(out.with_suffix(".svg"), runs, engines, cases)


def draw(path: Path, runs: list[dict[str, Any]], engines: list[str], cases: list[str]) -> None:
    """Median tokens/s, a panel for each case."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no chart: matplotlib is not installed", file=sys.stderr)
        return
    figure = Figure(figsize=(2.2 * len(cases) + 1, 4), layout="constrained")
    for panel, case in zip(figure.subplots(1, len(cases), squeeze=False)[0], cases, strict=True):
        of = [[run["rate"] for run in runs if (run["engine"], run["case"]) == (e, case)] for e in engines]
        bars = panel.bar(engines, [statistics.median(rates) for rates in of])
        panel.bar_label(bars, fmt="%.1f")
        panel.set_title(case, fontsize=10)
        panel.tick_params(axis="x", rotation=60)
    figure.supylabel("tokens/s")
    figure.savefig(path)


def cell(runs: list[dict[str, Any]]) -> str:
    """Best / median (median share of the limit)."""
    rates, shares = [run["rate"] for run in runs], [s for run in runs if (s := share(run)) is not None]
    text = f"{max(rates):.1f} / {statistics.median(rates):.1f}"
    return text + (f" ({statistics.median(shares):.2f})" if shares else "")


if __name__ == "__main__":
    main()
