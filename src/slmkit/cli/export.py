"""Write a model into a file of another format: a GGUF file, for llama.cpp and what is built on it."""

from __future__ import annotations

import argparse
import json
import time

from slmkit.cli import terminal
from slmkit.cli.loading import Watch, add_model, add_quiet, find_source
from slmkit.errors import RequestError

FORMATS = ("gguf",)
TYPES = ("as-is", "f32", "f16", "bf16", "q8_0", "q4_0")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("format", metavar="FORMAT", choices=FORMATS, help="gguf")
    add_model(parser)
    parser.add_argument("out", metavar="OUT", help="file to write, such as model.gguf")
    parser.add_argument(
        "--type",
        choices=TYPES,
        default=TYPES[0],
        help="as-is: every number as it is; q4_0: 4 bits, embedding and head 8 (default %(default)s)",
    )
    parser.add_argument("--force", action="store_true", help="replace a file that is there")
    parser.add_argument("--json", action="store_true", help="one JSON object: sizes, tensors of each type and seconds")
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from slmkit.export import export_gguf
    from slmkit.ops.choose import choose
    from slmkit.sources.named import NamedSource

    if not args.out.strip():
        raise RequestError("OUT is empty; give the file to write")
    start = time.perf_counter()
    with Watch(args.quiet) as watch:
        source = find_source(args.model, args, watch)
        if isinstance(source, NamedSource):
            raise RequestError(
                f"{args.model} was made from {source.base.name} by a Modelfile, whose words no GGUF file holds; "
                f"export {source.base.name}"
            )
        done = export_gguf(source, Path(args.out), args.type, force=args.force, ops=choose("auto", None),
                           progress=watch.progress)  # fmt: skip
    facts = {
        "model": args.model,
        "out": args.out,
        "type": args.type,
        "tensors": dict(done.types),
        "weights": done.n_weights,
        "source_bytes": done.source_bytes,
        "bytes": done.n_bytes,
        "seconds": round(time.perf_counter() - start, 3),
    }
    if args.json:
        terminal.write(json.dumps(facts) + "\n")
    else:
        kinds = ", ".join(f"{count} {kind}" for kind, count in done.types.items())
        terminal.write(
            f"{args.out}: {done.n_bytes / 1e6:,.1f} MB, was {done.source_bytes / 1e6:,.1f}; tensors {kinds}; "
            f"{facts['seconds']:.1f} s\n"
        )
    return 0
