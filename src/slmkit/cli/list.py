"""List the models that run here without a download: tiny, what was made or pulled, and what is Ollama's."""

from __future__ import annotations

import json
import textwrap
import time
from typing import TYPE_CHECKING

from slmkit.cli import terminal

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from slmkit.catalog.installed import Installed
    from slmkit.weights.packed_copies import PackedCopy
    from slmkit.weights.prompt_store import StoredPrompt

WIDTH = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object: models, packed copies and prompts")


def run(args: argparse.Namespace) -> int:
    from slmkit.catalog.installed import installed
    from slmkit.weights.cache import cache_folder
    from slmkit.weights.packed_copies import packed_copies
    from slmkit.weights.prompt_store import prompt_folder, stored_prompts

    models, copies, prompts = installed(terminal.say), packed_copies(), stored_prompts()
    if args.json:
        packed = {"path": str(cache_folder() / "packed"), "files": len(copies), "n_bytes": sum_bytes(copies)}
        kept = {"path": str(prompt_folder()), "files": len(prompts), "n_bytes": sum_bytes(prompts)}
        facts = {"models": [model.as_dict() for model in models], "packed": packed, "prompts": kept}
        terminal.write(json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    else:
        terminal.write(_table([m for m in models if not m.problem], time.time()))
        terminal.write(_problems([m for m in models if m.problem]) + _about_copies(copies))
        terminal.write(_about_prompts(prompts))
    return 0


def sum_bytes(files: Sequence[PackedCopy] | Sequence[StoredPrompt]) -> int:
    """Of all of them."""
    return sum(file.n_bytes for file in files)


def _table(models: Sequence[Installed], now: float) -> str:
    rows = [("NAME", "SIZE", "TYPES", "CHANGED")] + [_row(model, now) for model in models]
    name, size, types = (max(len(row[i]) for row in rows) for i in range(3))
    return "".join(f"{a:<{name}}  {b:>{size}}  {c:<{types}}  {d}".rstrip() + "\n" for a, b, c, d in rows)


def _row(model: Installed, now: float) -> tuple[str, str, str, str]:
    from slmkit.weights.hub.files import size_text

    types = f"{model.format}, {model.quantization}" if model.quantization else model.format
    changed = "comes with slmkit" if model.modified is None else ago(now - model.modified)
    return model.name, size_text(model.n_bytes), types, changed


def ago(seconds: float) -> str:
    """How long ago, in whole units."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        n = int(seconds // length)
        if n > 0:
            return f"{n} {unit}{'s' * (n > 1)} ago"
    return "just now"


def _problems(models: Sequence[Installed]) -> str:
    if not models:
        return ""
    lines = "".join(
        textwrap.fill(f"{model.name}: {model.problem}", WIDTH, initial_indent="  ", subsequent_indent="    ",
                      break_long_words=False, break_on_hyphens=False) + "\n"
        for model in models
    )  # fmt: skip
    return f"\ncannot be run:\n{lines}"


def _about_copies(copies: Sequence[PackedCopy]) -> str:
    from slmkit.weights.hub.files import size_text

    if not copies:
        return ""
    files = f"{len(copies)} packed cop{'ies' if len(copies) > 1 else 'y'}"
    return f"\n{files} in slmkit's cache, {size_text(sum_bytes(copies))}; `slm rm --packed` makes room\n"


def _about_prompts(prompts: Sequence[StoredPrompt]) -> str:
    from slmkit.weights.hub.files import size_text

    if not prompts:
        return ""
    kept = f"{len(prompts)} system prompt{'s' if len(prompts) > 1 else ''} kept for the next run"
    return f"\n{kept}, {size_text(sum_bytes(prompts))}; `slm rm --prompts` makes room\n"
