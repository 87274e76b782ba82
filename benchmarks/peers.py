"""slmkit and other engines on the same work, interleaved, beside the machine's limits.

    python benchmarks/peers.py --slmkit PYTHON MODEL --llama-cpp-python PYTHON MODEL.gguf ... --openvino PYTHON FOLDER
        --onnxruntime PYTHON FOLDER --llamacpp PYTHON MODEL.gguf --out RESULTS [--only "32 tokens" ...] [--rounds 3]

PYTHON is that of an environment with the engine: llama-cpp-python, openvino-genai, onnxruntime-genai, xllamacpp, or
slmkit (run this with one that has slmkit too: it measures the limits). In every round each case goes through all
engines in turn, each in a process of its own, so that peaks of memory do not mix; the limits are measured just before.
RESULTS.json gets every run, after those that it has; RESULTS.md the best and the median of each case, and in brackets
the median share of the limit; RESULTS.svg a chart, where matplotlib is installed. The models must be of Phi-3-mini's
shape, and their files in the page cache.

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
DRIVEN = {
    "slmkit": "packed models",
    "llama_cpp_python": "GGUF files",
    "openvino": "exported folders",
    "onnxruntime": "built folders",
    "llamacpp": "GGUF files",
}
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
    is_core_taken: bool = False

    @property
    def phases(self) -> tuple[str, ...]:
        """Which figures a run gives: reading a short prompt, or several, is none that anybody waits for."""
        return ("prefill", "decode") if self.prompt >= 512 else ("decode",)

    def rates(self, run: dict[str, Any]) -> dict[str, float]:
        """Tokens/s of each phase, of all streams together."""
        rates = {"prefill": self.prompt / run["first_s"], "decode": self.streams * self.tokens / run["rest_s"]}
        return {phase: rates[phase] for phase in self.phases}


CASES = {
    "32 tokens": Case(32, 48),
    "a core taken": Case(32, 16, is_core_taken=True),
    "512 tokens": Case(512, 32),
    "2000 tokens": Case(2000, 24),
    "4000 tokens": Case(4000, 24),
    "4 streams": Case(32, 32, streams=4),
    "8 streams": Case(32, 32, streams=8),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for driver, what in DRIVEN.items():
        parser.add_argument(
            f"--{driver.replace('_', '-')}", nargs="+", metavar=("PYTHON", "MODEL"), help=f"its Python, then {what}"
        )
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
    kept = args.out.with_suffix(".json")
    runs: list[dict[str, Any]] = json.loads(kept.read_text())["runs"] if kept.exists() else []
    done = 1 + max((run["round"] for run in runs), default=-1)
    for number in range(done, done + args.rounds):
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
        if DRIVEN[driver] == "GGUF files":
            facts["token_bytes"] = gguf_token_bytes(model)
        warm = ask(process, driver, Case(32, 4))
        limits = measure_limits()
        assert limits is not None
        with taken_core(case.is_core_taken):
            got = ask(process, driver, case)
        assert process.stdin is not None
        process.stdin.close()
    run = {**facts, **got, **asdict(limits), "load_and_first_s": facts["load_s"] + warm["first_s"]}
    shares = {} if case.is_core_taken else {phase: share(case, phase, run) for phase in case.phases}
    return {"rates": case.rates(got), "shares": shares, **run}


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


def share(case: Case, phase: str, run: dict[str, Any]) -> float:
    """Least time that the machine needs over the time taken, see above."""
    cache_bytes = run.get("cache_bytes_per_token") or run["cache_bytes"] * CACHE_VALUES
    held = case.prompt if phase == "prefill" else case.prompt + case.tokens / 2
    if phase == "prefill":
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
    figures = list(dict.fromkeys((run["case"], phase) for run in runs for phase in run["rates"]))
    lines = ["| what | " + " | ".join(engines) + " |", "|---|" + "--:|" * len(engines)]
    for case, phase in figures:
        cells = [cell(of(runs, engine, case), phase) for engine in engines]
        lines.append(f"| {phase}, {case}: tokens/s | " + " | ".join(cells) + " |")
    for case in dict.fromkeys(case for case, _ in figures):
        peaks = [max((run["peak_bytes"] / 1e9 for run in of(runs, engine, case)), default=0.0) for engine in engines]
        lines.append(
            f"| peak memory, {case}: GB | " + " | ".join(f"{peak:.2f}" if peak else "" for peak in peaks) + " |"
        )
    for what, key, case in (("load, s", "load_s", ""), ("load and first token, s", "load_and_first_s", ""),
                            ("first token of a prompt of 32, s", "first_s", "32 tokens")):  # fmt: skip
        times = [[run[key] for run in of(runs, engine, case)] for engine in engines]
        cells = [f"{min(t):.2f} / {statistics.median(t):.2f}" if t else "" for t in times]
        lines.append(f"| {what} | " + " | ".join(cells) + " |")
    out.with_suffix(".md").write_text("\n".join(lines) + "\n")
    draw(out.with_suffix(".svg"), runs, engines, figures)


def of(runs: list[dict[str, Any]], engine: str, case: str) -> list[dict[str, Any]]:
    """The runs of an engine, of one case or of all."""
    return [run for run in runs if run["engine"] == engine and case in ("", run["case"])]


def cell(runs: list[dict[str, Any]], phase: str) -> str:
    """Best / median (median share of the limit)."""
    if not runs:
        return ""
    rates = [run["rates"][phase] for run in runs]
    shares = [run["shares"][phase] for run in runs if run["shares"]]
    text = f"{max(rates):.1f} / {statistics.median(rates):.1f}"
    return text + (f" ({statistics.median(shares):.2f})" if shares else "")


def draw(path: Path, runs: list[dict[str, Any]], engines: list[str], figures: list[tuple[str, str]]) -> None:
    """Three panels, of medians: tokens/s, share of the limit, peak memory."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no chart: matplotlib is not installed", file=sys.stderr)
        return
    chart = Figure(figsize=(1.2 * len(figures) + 3, 9), layout="constrained")
    panels = chart.subplots(3, 1)
    width = 0.8 / len(engines)

    def bars(panel: Any, label: str, number: str, value: Any) -> None:
        for i, engine in enumerate(engines):
            found = [
                [v for run in of(runs, engine, case) if (v := value(run, phase)) is not None] for case, phase in figures
            ]
            points = [(at + i * width, statistics.median(each)) for at, each in enumerate(found) if each]
            drawn = panel.bar([x for x, _ in points], [y for _, y in points], width, label=engine)
            panel.bar_label(drawn, fmt=number, fontsize=7)
        panel.set_xticks([at + 0.4 - width / 2 for at in range(len(figures))], [f"{p}\n{c}" for c, p in figures])
        panel.set_ylabel(label)

    bars(panels[0], "tokens/s", "%.1f", lambda run, phase: run["rates"][phase])
    bars(panels[1], "share of the limit", "%.2f", lambda run, phase: run["shares"].get(phase))
    bars(panels[2], "peak memory, GB", "%.1f", lambda run, phase: run["peak_bytes"] / 1e9)
    panels[0].legend(fontsize=8)
    chart.savefig(path)


if __name__ == "__main__":
    main()
