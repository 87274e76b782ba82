"""Show the tokens of a text: their ids, and how the vocabulary spells them.

The text alone: no chat template, no BOS. No weights are read.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from slmkit.cli import terminal
from slmkit.cli.loading import Watch, add_model, add_offline, find_source
from slmkit.cli.prompt import add_prompt, required_text

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_prompt(parser, "TEXT", "what to take apart")
    parser.add_argument("--specials", action="store_true", help="let text such as <|end|> become a control token")
    add_offline(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object: ids and pieces")


def run(args: argparse.Namespace) -> int:
    text = required_text(args.text, "text")
    with Watch(quiet=False) as watch:
        tokenizer = find_source(args.model, args, watch, weights=False).tokenizer
    ids = tokenizer.encode(text, specials=args.specials)
    pieces = [tokenizer.id_to_piece(id_) for id_ in ids]
    if args.json:
        terminal.write(json.dumps({"ids": ids, "pieces": pieces}, ensure_ascii=False) + "\n")
    else:
        terminal.write("".join(f"{id_:>7}  {_shown(piece)}\n" for id_, piece in zip(ids, pieces, strict=True)))
    return 0


def _shown(piece: str | None) -> str:
    """On one line, whatever it holds."""
    return piece if piece is not None and piece.isprintable() else repr(piece)
