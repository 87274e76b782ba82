"""Show the exact prompt that a model gets for a message: its chat template applied. No weights are read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from slmkit.cli import terminal
from slmkit.cli.loading import Watch, add_model, add_offline, find_source
from slmkit.cli.prompt import add_prompt, required_text
from slmkit.request import Message

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_prompt(parser, "PROMPT", "the user's message")
    parser.add_argument("--system", metavar="TEXT", help="the system message")
    parser.add_argument(
        "--parse-special", action="store_true", help="let text such as <|end|> in the messages act as a control token"
    )
    add_offline(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object: the text and its token ids")


def run(args: argparse.Namespace) -> int:
    text = required_text(args.text, "prompt")
    messages = [Message("system", args.system)] if args.system else []
    with Watch(quiet=False) as watch:
        source = find_source(args.model, args, watch, weights=False)
    prompt = source.prompt([*messages, Message("user", text)], parse_special=args.parse_special)
    if args.json:
        terminal.write(json.dumps({"text": prompt.text, "ids": prompt.ids}, ensure_ascii=False) + "\n")
    else:
        # A pipe gets the prompt to the character; on a terminal the next line should start on its own.
        needs_newline = terminal.is_interactive() and not prompt.text.endswith("\n")
        terminal.write(prompt.text + "\n" * needs_newline)
    return 0
