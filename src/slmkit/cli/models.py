"""The published models of the family: what they are, what they need, and how fast they would be on this machine."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

from slmkit.cli import terminal
from slmkit.cli.amounts import count, giga

if TYPE_CHECKING:
    import argparse

    from slmkit.catalog.machine import Machine
    from slmkit.catalog.overview import Estimate, Row

WIDTH = 120
TITLES = {"q4": "q4", "q8": "q8", "none": "bf16"}
SPEEDS = ("q4", "q8")
_WORDS = ("model", "languages", "inputs", "runs\nhere", "pulled")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ctx", type=count, default=4096, metavar="N", help="context in tokens (default 4096)")
    parser.add_argument(
        "--bandwidth", type=giga, metavar="GB/S", help="predict for memory of this speed instead of measuring it"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object: machine and models")


def run(args: argparse.Namespace) -> int:
    from slmkit.catalog.machine import look
    from slmkit.catalog.overview import overview

    machine = look(bandwidth=args.bandwidth)
    rows = overview(machine, args.ctx)
    if args.json:
        facts = {"machine": machine.as_dict(), "models": [row.as_dict() for row in rows]}
        terminal.write(json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    else:
        terminal.write(_table(rows, args.ctx) + _notes(rows, machine))
    return 0


def _table(rows: list[Row], context: int) -> str:
    from rich import box
    from rich.table import Table

    title = f"with {context:,} tokens of context, where the model has them"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    sizes = [f"{title}\nGB" for title in TITLES.values()]
    speeds = [f"{TITLES[q]}\ntok/s" for q in SPEEDS]
    facts = ("model", "B para-\nmeters", "context", "languages", "inputs")
    for title in (*facts, *sizes, *speeds, "runs\nhere", "pulled"):
        table.add_column(title, justify="left" if title in _WORDS else "right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row))
    return render(table)


def _cells(row: Row) -> list[str]:
    m, estimates = row.model, [row.estimates[q] for q in TITLES]
    active = m.shape.active_parameters
    return [
        m.name,
        f"{m.shape.parameters / 1e9:.1f}" + (f" ({active / 1e9:.1f})" if active < m.shape.parameters else ""),
        f"{m.context // 1024}k",
        m.languages[0] if len(m.languages) == 1 else str(len(m.languages)),
        ", ".join(m.inputs),
        *(_memory(e) for e in estimates),
        *(f"{s.decode:.1f}" if s else "?" for s in (row.estimates[q].speed for q in SPEEDS)),
        "yes" if m.runs_here else "not yet",
        "yes" if row.pulled else "",
    ]


def _memory(e: Estimate) -> str:
    size = f"{e.memory.total / 1e9:.1f}"
    return size if e.fits_now else f"{size} *" if e.fits_in_all else f"({size})"


def _notes(rows: list[Row], machine: Machine) -> str:
    many = next(row.model.languages for row in rows if len(row.model.languages) > 1)
    licences = ", ".join(sorted({row.model.licence for row in rows}))
    notes = (
        "parameters: in thousand millions; in brackets those that take part in one token.",
        "GB: weights and cache. A number as it is fits now, one with * would fit with other programs closed, one in "
        "brackets does not fit (phi3.5-moe runs all the same, reading experts from disk, slowly). "
        f"Free now: {machine.free / 1e9:.1f} GB of {machine.total / 1e9:.1f}, of which the "
        "engine leaves a tenth.",
        f"tok/s: PREDICTED for decoding with half of the context filled, from {machine.source}. "
        "`slm bench MODEL` measures.",
        f"languages: those that the cards name; the {len(many)} are {', '.join(many)}.",
        f"licence: {licences}, all of them. `slm models --json` has ids, release dates and more; `slm fit` chooses.",
    )
    return "".join(filled(note) + "\n" for note in notes)


def filled(text: str, first: str = "", rest: str = "  ") -> str:
    """Lines of at most WIDTH columns; flags and file names are not broken at their hyphens."""
    return textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)


def render(table: Any, width: int = WIDTH) -> str:
    """A rich table as plain text of at most so many columns, without spaces at the ends of lines."""
    from io import StringIO

    from rich.console import Console

    text = StringIO()  # a console on stdout would add colours, and write to it itself
    Console(file=text, width=width, force_terminal=False).print(table)
    return "".join(line.rstrip() + "\n" for line in text.getvalue().splitlines())
