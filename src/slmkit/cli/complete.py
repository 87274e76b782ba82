"""Continue a text without the chat template, and print the continuation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmkit.cli.adapters import with_adapter
from slmkit.cli.answer import add_display, show
from slmkit.cli.flags import add_flags
from slmkit.cli.loading import add_model, add_quiet, open_model
from slmkit.cli.prompt import add_prompt, required_text
from slmkit.cli.settings import effective
from slmkit.options import LoadOptions, Options
from slmkit.request import Request

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_prompt(parser, "TEXT", "what to continue")
    parser.add_argument("--echo", action="store_true", help="print the text before its continuation")
    parser.add_argument("--parse-special", action="store_true", help="let text such as <|end|> act as a control token")
    add_quiet(parser)
    add_display(parser)
    add_flags(parser, Options, LoadOptions, without=("queue",))


def run(args: argparse.Namespace) -> int:
    options, load_options = with_adapter(effective(Options, args), effective(LoadOptions, args))
    text = required_text(args.text, "text")
    request = Request(prompt=text, options=options, parse_special=args.parse_special)
    with open_model(args.model, load_options, quiet=args.quiet) as model:
        show(model, request, as_json=args.json, stats=args.stats, first=text if args.echo else "")
    return 0
