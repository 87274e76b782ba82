"""Write a model for another runtime: a GGUF file, or a folder of ONNX Runtime GenAI or OpenVINO."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any

from slmkit.cli import terminal
from slmkit.cli.loading import Watch, add_model, add_quiet, find_source
from slmkit.errors import RequestError

if TYPE_CHECKING:
    from slmkit.sources.base import Source

TYPES = {
    "gguf": ("as-is", "f32", "f16", "bf16", "q8_0", "q4_0"),
    "onnx": ("int4", "int8", "f32", "f16", "bf16"),
    "openvino": ("int8", "int4", "f32", "f16"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("format", metavar="FORMAT", choices=tuple(TYPES), help=", ".join(TYPES))
    add_model(parser)
    parser.add_argument("out", metavar="OUT", help="file to write, such as model.gguf; for onnx and openvino a folder")
    kinds = "; ".join(f"{name}: {', '.join(kinds)}" for name, kinds in TYPES.items())
    parser.add_argument(
        "--type",
        choices=tuple(dict.fromkeys(kind for kinds in TYPES.values() for kind in kinds)),
        help=f"numbers of the weights; {kinds}; the first is the default. as-is: every number as it is; q4_0: 4 bits, "
        "embedding and head 8",
    )
    parser.add_argument("--device", help="what an onnx folder is made for: cpu, cuda, dml or webgpu (default cpu)")
    parser.add_argument("--force", action="store_true", help="replace what is there")
    parser.add_argument("--json", action="store_true", help="one JSON object: sizes, seconds, for gguf tensors by type")
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    from slmkit.sources.named import NamedSource

    if not args.out.strip():
        raise RequestError("OUT is empty; give what to write")
    if args.type not in (None, *TYPES[args.format]):
        raise RequestError(
            f"type is {args.type!r}; an export to {args.format} takes one of {', '.join(TYPES[args.format])}"
        )
    if args.device is not None and args.format != "onnx":
        raise RequestError(f"--device is of onnx folders, and {args.format} runs on any; leave it out")
    start = time.perf_counter()
    with Watch(args.quiet) as watch:
        source = find_source(args.model, args, watch)
        if isinstance(source, NamedSource):
            raise RequestError(
                f"{args.model} was made from {source.base.name} by a Modelfile, whose words no other format holds; "
                f"export {source.base.name}"
            )
        type = args.type or TYPES[args.format][0]
        written = _gguf(source, args, type, watch) if args.format == "gguf" else _folder(source, args, type, watch)
    facts = {
        "model": args.model,
        "out": args.out,
        "type": type,
        **written,
        "seconds": round(time.perf_counter() - start, 3),
    }
    if args.json:
        terminal.write(json.dumps(facts) + "\n")
    else:
        tensors = facts.get("tensors")
        kinds = ", ".join(f"{count} {kind}" for kind, count in tensors.items()) if tensors else ""
        what = f"tensors {kinds}" if tensors else f"{facts['files']} files, weights {type}"
        terminal.write(
            f"{args.out}: {facts['bytes'] / 1e6:,.1f} MB, was {facts['source_bytes'] / 1e6:,.1f}; {what}; "
            f"{facts['seconds']:.1f} s\n"
        )
    return 0


def _gguf(source: Source, args: argparse.Namespace, type: str, watch: Watch) -> dict[str, Any]:
    from pathlib import Path

    from slmkit.export import export_gguf
    from slmkit.ops.choose import choose

    done = export_gguf(
        source, Path(args.out), type, force=args.force, ops=choose("auto", None), progress=watch.progress
    )
    return {
        "tensors": dict(done.types),
        "weights": done.n_weights,
        "source_bytes": done.source_bytes,
        "bytes": done.n_bytes,
    }


def _folder(source: Source, args: argparse.Namespace, type: str, watch: Watch) -> dict[str, Any]:
    from pathlib import Path

    from slmkit.export_folder import export_folder

    if source.tensors.total_bytes > 1_000_000_000:
        watch.notice("the exporter reads the whole model into memory, and takes minutes")
    done = export_folder(source, Path(args.out), args.format, type, args.device, force=args.force)
    return {"files": done.n_files, "source_bytes": done.source_bytes, "bytes": done.n_bytes}
