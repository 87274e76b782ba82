"""slm bench: how fast a model runs here, and how close that is to what this machine can do."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import TYPE_CHECKING

from slmkit.cli import terminal
from slmkit.cli.flags import add_flags
from slmkit.cli.loading import add_model, add_quiet, open_model
from slmkit.cli.settings import effective
from slmkit.options import LoadOptions

if TYPE_CHECKING:
    from slmkit.bench.measure import Guessing, Rate, Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "--prompt-tokens", type=int, default=512, metavar="N", help="length of the prompt (default 512)"
    )
    parser.add_argument("--tokens", type=int, default=64, metavar="N", help="length of the answer (default 64)")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="measured runs after one warm-up (default 3)")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    add_quiet(parser)
    add_flags(parser, LoadOptions, without=("prompt_cache", "prompt_store_mb", "queue"))


def run(args: argparse.Namespace) -> int:
    from slmkit.bench.measure import bench
    from slmkit.weights.names import refuse_reserved

    refuse_reserved(args.model)
    # a prompt that is not read cannot be measured, whatever the config file says
    load_options = replace(effective(LoadOptions, args), prompt_cache=None, prompt_store_mb=0)
    result = bench(
        lambda: open_model(args.model, load_options, quiet=args.quiet),
        prompt_tokens=args.prompt_tokens,
        tokens=args.tokens,
        runs=args.runs,
        report=(lambda line: None) if args.quiet else terminal.say,
    )
    if args.json:
        terminal.write(json.dumps(result.as_dict(), indent=2) + "\n")
    else:
        terminal.write(_table(result))
    return 0


def _table(result: Result) -> str:
    from rich.table import Table

    from slmkit.cli.models import render

    m, limits = result.model, result.limits
    table = Table(title=f"{m['name']}: {m['parameters'] / 1e6:,.1f} M parameters, {m['quantization']}, {m['kernels']}")
    for column in ("", "median", "best", "of this machine's limit"):
        table.add_column(column, justify="right" if column else "left")
    read = _limit(limits.read_bytes_per_s, "GB/s read") if limits else ""
    peak = _limit(limits.int8_macs_per_s, "G int8 multiply-adds/s") if limits else ""
    table.add_row(f"prefill, {result.prompt_tokens} tokens", *_rate(result.prefill, peak))
    table.add_row(f"decode, {result.tokens} tokens", *_rate(result.decode, read))
    guessing = result.guessing
    table.add_row("  guessing ahead", f"{guessing.decode:,.1f} tokens/s", "", _guesses(guessing))
    table.add_row("first token", f"{result.first_token_s:.3f} s", "", "")
    table.add_row("load", f"{result.load_s:.2f} s", "", "")
    table.add_row("weights", f"{m['weight_bytes'] / 1e6:,.1f} MB", "", "")
    table.add_row("peak memory", f"{result.peak_bytes / 1e6:,.0f} MB", "", "")
    return render(table)


def _rate(rate: Rate, limit: str) -> tuple[str, str, str]:
    share = f"{rate.of_limit:.0%} of {limit}" if rate.of_limit is not None and limit else "no kernels, no limit"
    return f"{rate.median:,.1f} tokens/s", f"{rate.best:,.1f} tokens/s", share


def _guesses(guessing: Guessing) -> str:
    if not guessing.drafted:
        return "none: no repetition, or steps too quick to gain"
    return f"{guessing.speedup:.2f} x; {guessing.accepted:,} of {guessing.drafted:,} guesses came true"


def _limit(value: float, unit: str) -> str:
    return f"{value / 1e9:.1f} {unit}"
