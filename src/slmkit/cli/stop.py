"""Unload a model from a running server; what it is answering is finished first. The server goes on.

SLMKIT_HOST says where the server is if not at 127.0.0.1:8000 or 11434, SLMKIT_API_KEY is the key that it gets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmkit.cli import terminal
from slmkit.errors import ModelNotFound

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="NAME", help="a name that `slm ps` shows")


def run(args: argparse.Namespace) -> int:
    from slmkit.cli.remote import required_server, same_name

    server, models = required_server()
    names = [str(model["name"]).removesuffix(":latest") for model in models]
    if not any(same_name(args.model, name) for name in names):
        there = f"it has {', '.join(names)}" if names else "it has none"
        raise ModelNotFound(f"the server at {server} has no model {args.model} loaded; {there}")
    server.ask("/api/generate", {"model": args.model, "keep_alive": 0})
    terminal.write(f"{args.model} is unloaded from {server}\n")
    return 0
