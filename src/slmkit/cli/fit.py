"""Which model and quantization for this machine, task, context and speed; with the reasons, and why not the others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from slmkit.cli import terminal
from slmkit.cli.amounts import amount, count, giga
from slmkit.cli.models import filled, render

if TYPE_CHECKING:
    import argparse

    from slmkit.catalog.fit import Verdict, Wish
    from slmkit.catalog.larger import Cost
    from slmkit.catalog.machine import Machine

# The names of catalog/tasks.py, so that --help needs not read the whole catalogue; a test holds them together.
TASKS = ("chat", "code", "math", "reasoning", "knowledge", "multilingual", "long-documents", "vision")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", choices=TASKS, default="chat", help="what it is for (default chat)")
    parser.add_argument("--ctx", type=count, metavar="N", help="context in tokens (default 4096; long-documents 32768)")
    parser.add_argument("--speed", type=amount, metavar="TOK/S", help="tokens/s at least (default 5, reading speed)")
    parser.add_argument("--memory", type=giga, metavar="GB", help="memory to use (default: what is free now)")
    parser.add_argument(
        "--quantize", choices=("q4", "q8", "none"), help="consider this alone (default: q8 where it is fast enough)"
    )
    parser.add_argument(
        "--bandwidth", type=giga, metavar="GB/S", help="predict for memory of this speed instead of measuring it"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object: wish, machine, choice, ranking, larger")


def run(args: argparse.Namespace) -> int:
    from slmkit.catalog.fit import READING_SPEED, Wish, rank
    from slmkit.catalog.larger import larger
    from slmkit.catalog.machine import look
    from slmkit.catalog.tasks import TASKS as KNOWN

    task = KNOWN[args.task]
    wish = Wish(task, args.ctx or task.context, args.speed or READING_SPEED, args.quantize)
    machine = look(args.bandwidth, None if args.memory is None else int(args.memory))
    ranking, large = rank(wish, machine), larger(machine, wish.context)
    text = _json(wish, machine, ranking, large) if args.json else _page(wish, machine, ranking, large)
    terminal.write(text)
    return 0


def _json(wish: Wish, machine: Machine, ranking: list[Verdict], large: list[Cost]) -> str:
    from slmkit.catalog.scores import caveats

    best = ranking[0] if ranking[0].accepted else None
    facts = {
        "wish": {
            "task": wish.task.name,
            "benchmarks": list(wish.task.benchmarks),
            "context": wish.context,
            "speed": wish.speed,
            "quantization": wish.quantization,
        },
        "machine": machine.as_dict(),
        "choice": best and {"name": best.model.name, "quantization": best.estimate.quantization,
                            "command": best.command},
        "ranking": [verdict.as_dict() for verdict in ranking],
        "larger": [cost.as_dict() for cost in large],
        "caveats": [wish.task.caveat, *caveats()],
    }  # fmt: skip
    return json.dumps(facts, indent=2, ensure_ascii=False) + "\n"


def _page(wish: Wish, machine: Machine, ranking: list[Verdict], large: list[Cost]) -> str:
    accepted = [v for v in ranking if v.accepted]
    lines = [
        f"for {wish.task.name} ({wish.task.about}): {wish.context:,} tokens of context, {wish.speed:g} tokens/s",
        f"here: {machine.free / 1e9:.1f} GB of memory; {machine.source}",
        "",
    ]
    lines += _choice(accepted[0]) if accepted else _nothing(ranking[0])
    others = accepted[1:]
    if others:
        lines += ["", "these would do too, by their published scores:"]
        lines += [filled(_short(v), "  ", "    ") for v in others]
    if rejected := [v for v in ranking if not v.accepted and (accepted or v is not ranking[0])]:
        lines += ["", "and these not:"]
        lines += [filled(f"{_name(v)}: {'; '.join(v.against)}", "  ", "    ") for v in rejected]
    shown = accepted[0] if accepted else ranking[0]
    return "\n".join([*lines, "", _beside(shown, machine, large).rstrip("\n"), "", *_caveats(wish), ""])


def _choice(best: Verdict) -> list[str]:
    return [f"{_name(best)}", *(filled(reason, "  ", "    ") for reason in best.reasons), "", f"    {best.command}"]


def _nothing(nearest: Verdict) -> list[str]:
    found = ["no model of the family does all of that here; nearest comes " + _name(nearest) + ", but:"]
    return [*found, *(filled(reason, "  ", "    ") for reason in nearest.against)]


def _name(v: Verdict) -> str:
    return f"{v.model.name} in {_bits(v.estimate.quantization)}"


def _bits(quantization: str) -> str:
    return {"q4": "4 bits (q4)", "q8": "8 bits (q8)", "none": "16 bits (as published)"}[quantization]


def _short(v: Verdict) -> str:
    speed = f"{v.estimate.speed.decode:.1f} tokens/s predicted" if v.estimate.speed else "speed unknown"
    score = f"score {v.mean:.1f}" if v.mean is not None else "no published score"
    return f"{_name(v)}: {score}, {v.estimate.memory.total / 1e9:.1f} GB, {speed}"


def _beside(v: Verdict, machine: Machine, large: list[Cost]) -> str:
    from rich import box
    from rich.table import Table

    from slmkit.catalog.larger import cost

    bits = {"q4": 4, "q8": 8, "none": 16}[v.estimate.quantization]
    rows = [cost(v.model.name, v.model.shape, bits, v.estimate.context, machine), *large]
    title = "beside large models, by arithmetic; tokens/s as if this machine had the memory"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for header in ("bits", "parameters", "context", "weights GB", "cache GB", "GPUs of 80 GB", "tokens/s"):
        table.add_column(header, justify="right", no_wrap=True)
    for c in rows:
        table.add_row(
            c.name, str(c.bits), f"{c.parameters / 1e9:.1f} B", f"{c.context:,}", f"{c.memory.weights / 1e9:.1f}",
            f"{c.memory.cache / 1e9:.1f}", str(c.cards), _rate(c.decode),
        )  # fmt: skip
    return render(table)


def _rate(decode: float | None) -> str:
    return "?" if decode is None else f"{decode:.1f}" if decode >= 1 else f"{decode:.2g}"


def _caveats(wish: Wish) -> list[str]:
    from slmkit.catalog.scores import caveats

    notes = [
        "Published: the scores; `slm show MODEL` has their sources. Predicted: the speeds; `slm bench` measures.",
        f"Not known: how these models do on your own work, and what 4 or 8 bits cost each of them. {caveats()[0]}",
        f"For {wish.task.name}: {wish.task.caveat}.",
    ]
    return [filled(note) for note in notes]
