"""Make a model of your own from a Modelfile: another model, with options, a system message, a template, an adapter.

`slm run NAME` runs it then; `slm list` shows it, `slm rm NAME` removes it. A server knows it, too.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from slmkit.cli import terminal
from slmkit.cli.loading import Watch, add_offline, add_quiet, is_offline
from slmkit.errors import RequestError

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="what the model will be called")
    parser.add_argument("-f", "--file", metavar="FILE", default="Modelfile", help="the Modelfile (default ./Modelfile)")
    parser.add_argument("--json", action="store_true", help="one JSON object: name and what it is made of")
    add_offline(parser)
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from slmkit.catalog.create import create
    from slmkit.untrusted import read_bytes
    from slmkit.weights.ollama.modelfile import MOST_BYTES, decode, parse

    path = Path(args.file).expanduser()
    modelfile = parse(decode(read_bytes(path.resolve(), MOST_BYTES, RequestError)))
    with Watch(args.quiet) as watch:
        model = create(
            args.name, modelfile, path.resolve().parent,
            offline=is_offline(args), progress=watch.progress, notice=watch.notice,
        )  # fmt: skip
    if args.json:
        terminal.write(json.dumps({"name": model.name, "from": model.parent, "base": model.base}) + "\n")
    else:
        terminal.write(f"made {model.name} from {model.parent}\n  run it with: slm run {model.name}\n")
    return 0
