"""List the runtimes and clouds that models run on: which are installed or reachable, and what each can do."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from slmkit.cli import terminal

if TYPE_CHECKING:
    import argparse

    from slmkit.backends.registry import Runtime


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object for each, in a list")


def run(args: argparse.Namespace) -> int:
    from slmkit.backends.native import NativeBackend
    from slmkit.backends.registry import runtimes

    own = {
        "prefix": "",
        "about": "slmkit's own engine, in this process",
        "state": "ready",
        "missing": [],
        "install": "",
    }
    rows = [{**own, "can": _names(NativeBackend.capabilities)}, *map(_row, runtimes().values())]
    if args.json:
        terminal.write(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
        return 0
    width = max(len(row["prefix"]) for row in rows) + 1
    for row in rows:
        prefix = f"{row['prefix']}:" if row["prefix"] else "(none)"
        terminal.write(f"{prefix:<{width}}  {row['about']}\n{'':<{width}}  {row['state']}\n")
        terminal.write(f"{'':<{width}}  can: {', '.join(row['can']) or 'not known before it is installed'}\n")
    return 0


def _row(runtime: Runtime) -> dict[str, Any]:
    missing = runtime.missing
    module = None if missing else runtime.load()
    state = f"not installed: pip install {runtime.install}" if missing else getattr(module, "state", lambda: "ready")()
    return {
        "prefix": runtime.prefix,
        "about": runtime.about,
        "state": state,
        "missing": list(missing),
        "install": runtime.install,
        "can": _names(module.CAPABILITIES) if module else [],
    }


def _names(capabilities: Any) -> list[str]:
    return [f.name for f in fields(capabilities) if getattr(capabilities, f.name)]
