"""Write a packed 8-bit or 4-bit model: a folder that loads at once, about a quarter of the size with q4."""

from __future__ import annotations

import argparse
import json
import time
from shlex import quote

from slmkit.cli import terminal
from slmkit.cli.loading import Watch, add_model, add_quiet, find_source
from slmkit.errors import RequestError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("out", metavar="OUT", help="folder to write, new or empty")
    parser.add_argument("--to", choices=("q4", "q8"), default="q4",
                        help="q4: 4 bits, embedding and head 8; q8: 8 bits (default %(default)s)")  # fmt: skip
    parser.add_argument("--force", action="store_true", help="write into a folder that has files in it, replacing them")
    parser.add_argument("--json", action="store_true", help="one JSON object: sizes, bits per weight and seconds")
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from slmkit.ops.choose import choose
    from slmkit.sources.folder import FolderSource
    from slmkit.weights.quantize import quantize_folder

    if not args.out.strip():
        raise RequestError("OUT is empty; give the folder to write")
    start = time.perf_counter()
    with Watch(args.quiet) as watch:
        source = find_source(args.model, args, watch)
        if not isinstance(source, FolderSource):
            raise RequestError(
                f"{args.model} is a GGUF file, and `slm quantize` takes a folder; "
                f"`slm run {quote(args.model)} --quantize {args.to}` packs it into the cache"
            )
        done = quantize_folder(source.tensors, source.expected, args.to, Path(args.out), force=args.force,
                               ops=choose("auto", None), progress=watch.progress)  # fmt: skip
    facts = {
        "model": args.model,
        "out": args.out,
        "quantization": args.to,
        "weights": done.n_weights,
        "source_bytes": done.source_bytes,
        "packed_bytes": done.packed_bytes,
        "bits_per_weight": round(done.bits_per_weight, 3),
        "seconds": round(time.perf_counter() - start, 3),
    }
    if args.json:
        terminal.write(json.dumps(facts) + "\n")
    else:
        terminal.write(
            f"{args.out}: {done.packed_bytes / 1e6:,.1f} MB, was {done.source_bytes / 1e6:,.1f}; "
            f"{done.bits_per_weight:.2f} bits per weight; {facts['seconds']:.1f} s\n"
        )
    return 0
