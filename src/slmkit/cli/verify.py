"""Say whether B, another backend or quantization of a model, is faithful to A.

Templates and tokenizers are compared first, then greedy answers token by token and, where both tell them, log
probabilities, of short prompts and of long ones. Exit code 0 if the verdict is what --expect says or better, else 1.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from slmkit.cli import terminal
from slmkit.cli.amounts import amount, count
from slmkit.cli.compare import add_cases, given_cases
from slmkit.cli.flags import add_flags
from slmkit.cli.loading import add_quiet, refuse_prompt
from slmkit.cli.settings import effective
from slmkit.cli.several import KEPT, add_of, given_entries, opener
from slmkit.options import LoadOptions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slmkit.compare.distance import Gap
    from slmkit.compare.faithful import Report
    from slmkit.compare.findings import Finding
    from slmkit.compare.texts import Difference


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help="the model that is right: tiny, phi3.5, a folder, transformers:...")
    parser.add_argument("b", metavar="B", help="the one to be held against it: another backend's, or the same again")
    add_of(parser)
    add_cases(parser)
    parser.add_argument("--tokens", type=count, default=48, metavar="N", help="length of the answers (default 48)")
    parser.add_argument(
        "--lengths", type=_lengths, default=None, metavar="N,N", help="tokens of long prompts, 0 for none (default "
        "256,4095,4096,4097,8192, as far as the contexts go)",
    )  # fmt: skip
    parser.add_argument("--top", type=count, default=20, metavar="N",
                        help="alternatives of each token that are looked at (default 20)")  # fmt: skip
    parser.add_argument("--most-kl", type=amount, default=None, metavar="NATS",
                        help="most mean KL of a question that is faithful (default 0.1)")  # fmt: skip
    parser.add_argument("--expect", choices=("identical", "faithful"), default="faithful",
                        help="the least verdict for exit code 0 (default faithful)")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object: verdict, reasons, differences, questions")
    add_quiet(parser)
    add_flags(parser, LoadOptions, without=KEPT)


def run(args: argparse.Namespace) -> int:
    from slmkit.compare.faithful import LENGTHS, verify
    from slmkit.compare.questions import PROMPTS
    from slmkit.compare.verdict import Tolerances

    for name in (args.a, args.b):
        refuse_prompt(name)
    load_options = effective(LoadOptions, args)
    cases = given_cases(args, load_options)
    a, b = given_entries((args.a, args.b), args.of, load_options)
    report = verify(
        a,
        b,
        cases or PROMPTS,
        tokens=args.tokens,
        lengths=LENGTHS if args.lengths is None else args.lengths,
        top=args.top,
        tolerances=Tolerances() if args.most_kl is None else Tolerances(kl=args.most_kl),
        open=opener(args.quiet),
        tell=None if args.quiet else terminal.say,
    )
    if args.json:
        terminal.write(json.dumps(report.as_dict(), indent=2, ensure_ascii=False) + "\n")
    else:
        terminal.write(_shown(report, terminal.columns()))
    return 0 if report.meets(args.expect) else 1


def _lengths(text: str) -> tuple[int, ...]:
    try:
        lengths = tuple(int(part) for part in text.split(","))
    except ValueError:
        lengths = (-1,)
    if any(length < 0 or length == 1 for length in lengths):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of lengths; write tokens with commas, as in 256,4096")
    return tuple(length for length in lengths if length)


def _shown(report: Report, width: int) -> str:
    from slmkit.cli.models import render

    lines = [f"A: {report.a.label}", f"B: {report.b.label}", ""]
    lines += [line for difference in report.differences for line in _difference(difference)]
    text = "\n".join(lines) + ("\n" if report.differences else "") + render(_table(report.findings), width)
    for found in report.findings:
        if found.first is not None:
            text += _first(found)
    text += "".join(f"not looked at: {line}\n" for line in report.left_out)
    return text + f"\nB is {report.verdict.upper()}\n" + "".join(f"  {r.verdict}: {r.why}\n" for r in report.reasons)


def _difference(d: Difference) -> list[str]:
    ids = [("no token" if id is None else f"token {id}") for id in (d.a_id, d.b_id)]
    place = "character" if d.what == "template" else "id" if d.what == "vocabulary" else "token"
    return [
        f"{d.what.upper()} DIFFERS in {d.where[:60]!r} at {place} {d.position}:",
        f"  A: {ids[0]:<12} {d.a_text!r}",
        f"  B: {ids[1]:<12} {d.b_text!r}",
    ]


def _table(findings: Iterable[Finding]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("question", overflow="fold")
    for head in ("places", "mean KL", "worst KL", "total variation", "same likeliest", "answers"):
        table.add_column(head, justify="right")
    for found in findings:
        table.add_row(Text(terminal.neutral(found.name)), *_cells(found))
    return table


def _cells(found: Finding) -> tuple[str, ...]:
    if found.error:
        return ("", "", "", "", "", "failed")
    answers = "same" if found.first is None else f"part at {found.first.position}"
    if found.kl is None or found.most_kl is None or found.tv is None or found.agreement is None:
        return ("0", "", "", "", "", answers)
    low, high = found.tv
    return (
        f"{len(found.distances):,}",
        f"{found.kl:.2g}",
        f"{found.most_kl:.2g}",
        f"{low:.3f} to {high:.3f}",
        f"{found.agreement:.1%}",
        answers,
    )


def _first(found: Finding) -> str:
    first = found.first
    assert first is not None
    sides = ((first.a_id, first.a_text, first.a_gap), (first.b_id, first.b_text, first.b_gap))
    said = [f"{text!r}{f' ({id})' if id >= 0 else ''}{_gap(gap)}" for id, text, gap in sides]
    return f"{found.name}, token {first.position} of the answer: A takes {said[0]}; B takes {said[1]}\n"


def _gap(gap: Gap | None) -> str:
    if gap is None:
        return ""
    return f", {'at least ' if gap.is_least else ''}{gap.nats:.3g} nats before the other"
