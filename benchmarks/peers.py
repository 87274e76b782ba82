"""slmkit and other engines on the same work, interleaved, beside the machine's limits.

    python benchmarks/peers.py --slmkit PYTHON MODEL --llamacpp PYTHON MODEL.gguf ... --openvino PYTHON FOLDER
        --out RESULTS [--only decode-32 ...] [--rounds 3]

PYTHON is that of an environment with the engine: xllamacpp, openvino-genai, or slmkit (run this with one that has
slmkit too: it measures the limits). In every round each case goes through all engines in turn, each in a process of its
own, so that peaks of memory do not mix; the limits are measured just before. RESULTS.json gets every run; RESULTS.md
the best and the median of each case, and in brackets the median share of the limit; RESULTS.svg a chart, where
matplotlib is installed. The models must be of Phi-3-mini's shape, and their files in the page cache.

The share of the limit is the time that the machine needs at least, over the time taken. It needs at least that for
reading the weights once a step (a file less its embedding table) and every stream's cache, at the bandwidth measured,
and that for the multiply-adds, at the integer peak measured; the longer counts.
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
from slmkit.weights.gguf.file import open_gguf

DRIVERS = Path(__file__).parent / "peers"
DRIVEN = {"slmkit": "packed models", "llamacpp": "GGUF files", "openvino": "exported folders"}
# Of Phi-3-mini's shape: multiply-adds of a token in the layers, in the head, and for each key that it sees.
LAYERS, HIDDEN, FF, VOCABULARY = 32, 3072, 8192, 32064
LAYER_MACS = LAYERS * (4 * HIDDEN * HIDDEN + 3 * HIDDEN * FF)
HEAD_MACS = HIDDEN * VOCABULARY
ATTENTION_MACS = CACHE_VALUES = 2 * LAYERS * HIDDEN


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
    for driver, what in DRIVEN.items():
        parser.add_argument(f"--{driver}", nargs="+", metavar=("PYTHON", "MODEL"), help=f"its Python, then {what}")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    native.set_threads(args.threads)
    engines = {}
    for driver in DRIVEN:
        python, *models = getattr(args, driver) or [""]
        for model in models:
            engines[f"{driver} {Path(model).stem}"] = (python, driver, model)
    runs: list[dict[str, Any]] = []
    for number in range(args.rounds):
        for case in args.only:
            for name, engine in engines.items():
                runs.append(
                    {"engine": name, "round": number, "case": case, **one_run(engine, CASES[case], args.threads)}
                )
                print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
                write(args.out, runs, args.threads)


def one_run(engine: tuple[str, str, str], case: Case, threads: int) -> dict[str, Any]:
    """A process of one engine for one case, after a short answer that warms it up."""
    python, driver, model = engine
    sizes = map(str, (threads, case.prompt + max(case.tokens, 4) + 40, case.streams))
    command = [python, str(DRIVERS / f"run_{driver}.py"), model, *sizes]
    environment = os.environ | {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": str(threads)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        facts = answer(process, driver)
        if driver == "llamacpp":
            facts["token_bytes"] = gguf_token_bytes(model)
        warm = ask(process, driver, Case(32, 4))
        limits = measure_limits()
        assert limits is not None
        with taken_core(case.is_core_taken):
            got = ask(process, driver, case)
        assert process.stdin is not None
        process.stdin.close()
    run = {**facts, **got, **asdict(limits), "load_and_first_s": facts["load_s"] + warm["first_s"]}
    return {"rate": case.rate(got), "share": share(case, run), **run}


def gguf_token_bytes(model: str) -> int:
    """Bytes of all tensors but the embedding table, of which a token reads one row."""
    tensors = [t for file in open_gguf(Path(model)) for t in file.tensors.items()]
    return sum(tensor.n_bytes for name, tensor in tensors if name != "token_embd.weight")


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


def share(case: Case, run: dict[str, Any]) -> float | None:
    """Least time that the machine needs over the time taken, see above. None where a core is not there to be used."""
    if case.is_core_taken:
        return None
    cache_bytes = run.get("cache_bytes_per_token") or run["cache_bytes"] * CACHE_VALUES
    held = case.prompt if case.is_prefill else case.prompt + case.tokens / 2
    if case.is_prefill:
        tokens, logits, seconds = case.prompt, 1, run["first_s"]
        macs = ATTENTION_MACS * case.prompt * (case.prompt + 1) / 2
    else:
        tokens = logits = case.streams
        seconds, macs = run["rest_s"] / case.tokens, ATTENTION_MACS * case.streams * held
    macs += LAYER_MACS * tokens + HEAD_MACS * logits
    read = run["token_bytes"] + case.streams * held * cache_bytes
    return float(max(read / run["read_bytes_per_s"], macs / run["int8_macs_per_s"]) / seconds)


def write(out: Path, runs: list[dict[str, Any]], threads: int) -> None:
    out.with_suffix(".json").write_text(json.dumps({"threads": threads, "runs": runs}, indent=1))
    engines = list(dict.fromkeys(run["engine"] for run in runs))
    cases = list(dict.fromkeys(run["case"] for run in runs))
    lines = ["| what | " + " | ".join(engines) + " |", "|---|" + "--:|" * len(engines)]
    for case in cases:
        cells = [cell([run for run in runs if (run["engine"], run["case"]) == (e, case)]) for e in engines]
        lines.append(f"| {case}, tokens/s | " + " | ".join(cells) + " |")
    for case in cases:
        of = [[run for run in runs if (run["engine"], run["case"]) == (e, case)] for e in engines]
        peaks = [f"{max(run['peak_bytes'] for run in some) / 1e9:.2f}" if some else "" for some in of]
        lines.append(f"| {case}, peak memory, GB | " + " | ".join(peaks) + " |")
    short = [run for run in runs if run["case"] == "decode-32"]
    for what, key, some in (("load, s", "load_s", runs), ("load and first token, s", "load_and_first_s", runs),
                            ("first token of a prompt of 32, s", "first_s", short)):  # fmt: skip
        times = [[run[key] for run in some if run["engine"] == e] for e in engines]
        cells = [f"{min(t):.2f} / {statistics.median(t):.2f}" if t else "" for t in times]
        lines.append(f"| {what} | " + " | ".join(cells) + " |")
    out.with_suffix(".md").write_text("\n".join(lines) + "\n")
    draw(out.with_suffix(".svg"), runs, engines, cases)


def draw(path: Path, runs: list[dict[str, Any]], engines: list[str], cases: list[str]) -> None:
    """Three panels, of medians: tokens/s, share of the limit, peak memory."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no chart: matplotlib is not installed", file=sys.stderr)
        return
    figure = Figure(figsize=(1.2 * len(cases) + 3, 9), layout="constrained")
    panels = figure.subplots(3, 1)
    width = 0.8 / len(engines)
    whats = (("tokens/s", "rate", 1.0), ("share of the limit", "share", 1.0), ("peak memory, GB", "peak_bytes", 1e9))
    for panel, (label, key, unit) in zip(panels, whats, strict=True):
        for i, engine in enumerate(engines):
            of = {case: [run[key] / unit for run in runs if (run["engine"], run["case"]) == (engine, case)
                         and run[key] is not None] for case in cases}  # fmt: skip
            points = [(at + i * width, statistics.median(of[case])) for at, case in enumerate(cases) if of[case]]
            bars = panel.bar([x for x, _ in points], [y for _, y in points], width, label=engine)
            panel.bar_label(bars, fmt="%.2f" if key == "share" else "%.1f", fontsize=7)
        panel.set_xticks([at + 0.4 - width / 2 for at in range(len(cases))], cases)
        panel.set_ylabel(label)
    panels[0].legend(fontsize=8)
    figure.savefig(path)


def cell(runs: list[dict[str, Any]]) -> str:
    """Best / median (median share of the limit)."""
    if not runs:
        return ""
    rates, shares = [run["rate"] for run in runs], [run["share"] for run in runs if run["share"] is not None]
    text = f"{max(rates):.1f} / {statistics.median(rates):.1f}"
    return text + (f" ({statistics.median(shares):.2f})" if shares else "")


if __name__ == "__main__":
    main()
