"""Write a packed 8-bit or 4-bit model: a folder that loads at once, about a quarter of the size with q4."""

from __future__ import annotations

import argparse
import json
import time
from shlex import quote
from typing import Any

from slmkit.cli import terminal
from slmkit.cli.loading import Watch, add_model, add_quiet, find_source
from slmkit.errors import RequestError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("out", metavar="OUT", help="folder to write, new or empty")
    parser.add_argument("--to", choices=("q4", "q8"), default="q4",
                        help="q4: 4 bits, embedding and head 8; q8: 8 bits (default %(default)s)")  # fmt: skip
    parser.add_argument("--calibrate", metavar="FILE|auto",
                        help="round the 4-bit matrices by what they see when the model reads this text; auto: a text "
                        "that comes with slmkit; slow")  # fmt: skip
    parser.add_argument("--report", action="store_true", help="also the bits and the error of each matrix")
    parser.add_argument("--force", action="store_true", help="write into a folder that has files in it, replacing them")
    parser.add_argument("--json", action="store_true", help="one JSON object: sizes, bits per weight and seconds")
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from slmkit.ops.choose import choose
    from slmkit.sources.folder import FolderSource
    from slmkit.weights.quantize import quantize_folder
    from slmkit.weights.report import Measured

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
        ops = choose("auto", None)
        rounding: Any = _calibrated(source, args, ops) if args.calibrate else source.tensors
        rounding = Measured(rounding) if args.report else rounding
        done = quantize_folder(source.tensors, source.expected, args.to, Path(args.out), force=args.force,
                               ops=ops, progress=watch.progress, rounding=rounding)  # fmt: skip
    facts: dict[str, Any] = {
        "model": args.model,
        "out": args.out,
        "quantization": args.to,
        "weights": done.n_weights,
        "source_bytes": done.source_bytes,
        "packed_bytes": done.packed_bytes,
        "bits_per_weight": round(done.bits_per_weight, 3),
        "seconds": round(time.perf_counter() - start, 3),
    }
    if args.report:
        facts["matrices"] = [_row(entry) for entry in rounding.rounded.values()]
        layers = [entry for entry in rounding.rounded.values() if entry.name.startswith("model.layers.")]
        n_bytes, n_weights = sum(e.n_bytes for e in layers), sum(e.n_weights for e in layers)
        facts["layer_bits_per_weight"] = 8 * n_bytes / n_weights
    if args.json:
        terminal.write(json.dumps(facts) + "\n")
    else:
        if args.report:
            _write_table(facts)
        terminal.write(
            f"{args.out}: {done.packed_bytes / 1e6:,.1f} MB, was {done.source_bytes / 1e6:,.1f}; "
            f"{done.bits_per_weight:.2f} bits per weight; {facts['seconds']:.1f} s\n"
        )
    return 0


def _calibrated(source: Any, args: argparse.Namespace, ops: Any) -> Any:
    from slmkit.calibrate import Calibrated, calibration_ids
    from slmkit.weights.packed import is_packed

    if args.to != "q4":
        raise RequestError(f"--calibrate is for 4 bits, and --to is {args.to}; leave one of them out")
    if is_packed(source.tensors.metadata):
        raise RequestError(f"{args.model} is packed already; give the original model")
    return Calibrated(source, calibration_ids(source, args.calibrate), ops)


def _row(entry: Any) -> dict[str, Any]:
    return {
        "name": entry.name,
        "format": entry.format,
        "bits_per_weight": entry.bits,
        "error": entry.error,
        "output_error": entry.output_error,
    }


def _write_table(facts: dict[str, Any]) -> None:
    terminal.write(f"{'matrix':48} format   bits   error  output error\n")
    for row in facts["matrices"]:
        output = "" if row["output_error"] is None else f"{row['output_error']:13.2%}"
        terminal.write(
            f"{row['name']:48} {row['format']:6} {row['bits_per_weight']:6.3f} {row['error']:7.2%}{output}\n"
        )
    terminal.write(f"matrices of the layers: {facts['layer_bits_per_weight']:.3f} bits per weight\n")
