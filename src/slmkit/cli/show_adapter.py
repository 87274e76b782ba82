"""What an adapter is and whether it fits the model, for `slm show --adapter`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from slmkit.cli import terminal
from slmkit.cli.loading import Watch, is_offline

if TYPE_CHECKING:
    import argparse

    from slmkit.sources.base import Source


def show_adapter(source: Source, args: argparse.Namespace) -> int:
    """Print the facts; the exit code.   Raises ModelError for an adapter that the model cannot run with."""
    from slmkit.backends.adapters import adapter_facts, check_adapter
    from slmkit.weights.hub.files import size_text
    from slmkit.weights.lora.locate import locate_adapter

    with Watch(args.quiet) as watch:
        path = locate_adapter(args.adapter, offline=is_offline(args), progress=watch.progress, notice=watch.notice)
    adapter = check_adapter(path, source)
    found = adapter_facts({args.adapter: adapter})[args.adapter]
    if args.json:
        terminal.write(json.dumps({"model": source.name, **found}, indent=2, ensure_ascii=False) + "\n")
        return 0
    kinds = sorted({module.rpartition(".")[2] for module in adapter.modules})
    ranks = ", ".join(map(str, found["ranks"]))
    lines = [
        f"{args.adapter}, for {source.name}",
        f"  {path}",
        "",
        f"made for      {found['base'] or 'not said'}",
        f"changes       {found['matrices']} matrices: {', '.join(kinds)}",
        f"rank          {ranks}",
        f"memory        {size_text(found['bytes'])} beside the model's",
    ]
    terminal.write("".join(f"{line}\n" for line in lines))
    return 0
