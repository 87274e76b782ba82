"""List the models that a running server has loaded: memory, context, and until when they stay.

SLMKIT_HOST says where the server is if not at 127.0.0.1:8000 or 11434, SLMKIT_API_KEY is the key that it gets.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from slmkit.cli import terminal

if TYPE_CHECKING:
    import argparse

NEVER = "9999"  # the year that a server names for a model that stays


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object: server and models")


def run(args: argparse.Namespace) -> int:
    from slmkit.cli.remote import required_server

    server, models = required_server()
    if args.json:
        terminal.write(json.dumps({"server": str(server), "models": models}, indent=2, ensure_ascii=False) + "\n")
        return 0
    rows = [("NAME", "MEMORY", "CONTEXT", "UNTIL"), *(_row(model) for model in models)]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for a, b, c, d in rows:
        terminal.write(f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {d}\n")
    return 0


def _row(model: dict[str, Any]) -> tuple[str, str, str, str]:
    from datetime import datetime

    from slmkit.weights.hub.files import size_text

    until = str(model.get("expires_at", ""))
    if until.startswith(NEVER):
        when = "room is short"
    else:
        try:
            left = datetime.fromisoformat(until.replace("Z", "+00:00")).timestamp() - datetime.now().timestamp()
            when = f"{max(0, round(left))} seconds without a request"
        except ValueError:
            when = until
    name = str(model["name"]).removesuffix(":latest")
    return name, size_text(int(model.get("size", 0))), f"{model.get('context_length', 0):,}", when
