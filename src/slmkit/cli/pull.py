"""Fetch a model into Hugging Face's cache, or what is new of it, and check every file.

The name is a short one (phi3.5), owner/name, or owner/name:Q4_K_M for one GGUF file of a repository; @REVISION may
follow. What was interrupted goes on where it stopped.
"""

from __future__ import annotations

import json
import os
from shlex import quote
from typing import TYPE_CHECKING, Any

from slmkit.cli import terminal
from slmkit.cli.loading import Watch, add_quiet, is_offline
from slmkit.errors import ModelNotFound, RequestError
from slmkit.untrusted import shown

if TYPE_CHECKING:
    import argparse

    from slmkit.weights.names import HubRef


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="phi3.5 or another short name, or owner/name[:QUANTIZATION]")
    parser.add_argument("--list", action="store_true", help="show what there is to fetch, and fetch nothing")
    parser.add_argument("--revision", metavar="R", help="a branch, a tag or a commit; default main")
    parser.add_argument("--offline", action="store_true", default=None,
                        help="only say whether it is here, whole and sound")  # fmt: skip
    parser.add_argument("--force", action="store_true", help="fetch it even if nothing here can run it")
    parser.add_argument("--json", action="store_true", help="one JSON object: commit, path and bytes")
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    from slmkit.models.registry import architecture
    from slmkit.weights.hub import models as hub
    from slmkit.weights.hub.files import size_text

    ref = _reference(args.model, args.revision)
    if args.list:
        return _list(ref, as_json=args.json)
    with Watch(args.quiet) as watch:
        if is_offline(args):
            return _say_cached(args, ref, watch)
        done = hub.pull(ref, watch.progress, watch.notice, None if args.force else architecture)
    facts = _facts(ref, done.commit, str(done.path), done.n_bytes, done.n_fetched)
    if args.json:
        terminal.write(json.dumps(facts) + "\n")
        return 0
    came = "complete; nothing had to be fetched" if not done.n_fetched else "complete"
    terminal.write(f"{ref}: {came}, {size_text(done.n_bytes)}, every checksum right\n  in {done.path}\n")
    if not args.force:
        terminal.write(f"  run it with: slm run {_typed(args)}\n")
    return 0


def _reference(name: str, revision: str | None) -> HubRef:
    from slmkit.weights.names import BUNDLED, hub_reference, refuse_reserved, unknown
    from slmkit.weights.ollama.names import PREFIX, Name

    if name == BUNDLED:
        raise RequestError(f"{BUNDLED} comes with slmkit and needs no fetching; try: slm run {BUNDLED}")
    refuse_reserved(name)
    if name.startswith(PREFIX):
        Name.parse(name.removeprefix(PREFIX))
        raise RequestError(f"{shown(name)} is fetched by Ollama: ollama pull {name.removeprefix(PREFIX)}")
    if revision is not None and "@" in name:
        raise RequestError(f"{shown(name)} has a revision already; leave out --revision")
    ref = hub_reference(name if revision is None else f"{name}@{revision}")
    if ref is None and os.path.lexists(os.path.expanduser(name)):
        raise RequestError(f"{shown(name)} is a path on this machine and needs no fetching; try: slm run {quote(name)}")
    if ref is None:
        raise unknown(name, "short names such as phi3.5, and owner/name[:QUANTIZATION][@REVISION]")
    return ref


def _say_cached(args: argparse.Namespace, ref: HubRef, watch: Watch) -> int:
    from slmkit.weights.hub import models as hub
    from slmkit.weights.locate import not_here

    path = hub.find_cached(ref, watch.progress, watch.notice)
    if path is None:
        raise ModelNotFound(f"{not_here(ref)}; leave out --offline to fetch it")
    if args.json:
        terminal.write(json.dumps({"name": str(ref), "path": str(path)}) + "\n")
    else:
        terminal.write(f"{ref}: complete\n  in {path}\n")
    return 0


def _list(ref: HubRef, *, as_json: bool) -> int:
    from slmkit.weights.hub import models as hub
    from slmkit.weights.hub.files import RULE, default_choice, gguf_choices, size_text
    from slmkit.weights.hub.inventory import selection_of

    listing = hub.look_up(ref)
    models = gguf_choices(listing.files)
    default = default_choice(models)
    rows: list[dict[str, Any]] = [
        {
            "name": f"{ref.repo}:{selection_of(model, listing.files)}",
            "bytes": model.n_bytes,
            "files": [file.name for file in model.files],
            "default": model is default and ref.selection is None,
        }
        for model in models
    ]
    if not rows:
        choice = hub.plan(ref).choice
        rows = [{"name": str(ref), "bytes": choice.n_bytes, "files": [f.name for f in choice.files], "default": True}]
    if as_json:
        terminal.write(json.dumps({"commit": listing.commit, "choices": rows}) + "\n")
        return 0
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        mark = "  (taken when none is named)" if row["default"] and models else ""
        terminal.write(f"{row['name']:<{width}}  {size_text(row['bytes']):>9}{mark}\n")
    if models and default is not None:
        terminal.say(f"without a quantization it is {RULE}")
    return 0


def _facts(ref: HubRef, commit: str, path: str, n_bytes: int, n_fetched: int) -> dict[str, Any]:
    return {
        "name": str(ref),
        "commit": commit,
        "path": path,
        "bytes": n_bytes,
        "fetched_bytes": n_fetched,
    }


def _typed(args: argparse.Namespace) -> str:
    return f"{args.model}@{args.revision}" if args.revision else str(args.model)
