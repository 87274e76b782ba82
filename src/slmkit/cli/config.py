"""Show the options in effect and where each comes from: a flag, an environment variable, the config file, or nowhere.

An option that is set nowhere takes the checkpoint's own value.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from slmkit.cli import terminal
from slmkit.cli.config_file import KINDS, config_path
from slmkit.cli.flags import add_flags
from slmkit.cli.settings import settings
from slmkit.options import LoadOptions, Options
from slmkit.server.settings import ServeOptions

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object: file and options")
    add_flags(parser, Options, LoadOptions, ServeOptions)


def run(args: argparse.Namespace) -> int:
    rows = [setting for kind in KINDS for setting in settings(kind, args)]
    path = config_path()
    if args.json:
        options = {s.name: {"value": s.value, "source": s.source or None} for s in rows}
        facts = {"file": str(path), "exists": path.exists(), "options": options}
        terminal.write(json.dumps(facts, ensure_ascii=False) + "\n")
        return 0
    terminal.write(f"config file: {path}{'' if path.exists() else ' (not there)'}\n\n")
    for s in rows:
        terminal.write(f"{s.name:<20}{_shown(s.value) if s.source else '-':<16}{s.source}".rstrip() + "\n")
    return 0


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
