"""What a question about images takes, for `slm show --image`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from slmkit.cli import terminal
from slmkit.cli.images import open_image
from slmkit.errors import RequestError
from slmkit.options import LoadOptions, Options

if TYPE_CHECKING:
    import argparse

    from slmkit.sources.base import Source


def show_images(source: Source, args: argparse.Namespace) -> int:
    """Print the plan; the exit code."""
    from slmkit.catalog.images import image_facts
    from slmkit.catalog.machine import look
    from slmkit.cli.settings import effective

    if not args.image:
        raise RequestError("--num-crops is for images; give one with --image FILE, or leave it out")
    crops = Options(num_crops=args.num_crops).num_crops
    pictures = [open_image(name, effective(LoadOptions, args)) for name in args.image]
    found = image_facts(source, pictures, crops, look().limits)
    if args.json:
        terminal.write(json.dumps({"name": source.name, **found}, indent=2, ensure_ascii=False) + "\n")
    else:
        terminal.write("".join(line.rstrip() + "\n" for line in _view(source.name, found)))
    return 0


def _view(name: str, f: dict[str, Any]) -> Iterator[str]:
    from slmkit.weights.hub.files import size_text

    yield f"{name}, at most {f['num_crops']} crops of an image"
    yield ""
    for image in f["images"]:
        rows, columns = image["crops"]
        size = f"{image['width']} x {image['height']}"
        yield f"{size:>14}  {rows} x {columns} crops and the whole  {image['tokens']:>6,} tokens  {image['name']}"
    yield ""
    yield f"tokens        {f['tokens']:,} of a context of {f['context']:,}"
    parts = ", ".join(
        f"{size_text(f[f'{part}_bytes'])} {what}"
        for part, what in (("weight", "weights"), ("cache", "cache"), ("encoding", "to encode"))
    )
    fits = "" if f["fits"] else "; DOES NOT FIT"
    yield f"memory        {size_text(f['total_bytes'])}: {parts}; {size_text(f['free_bytes'])} are free now{fits}"
    if f["seconds"]:
        tower, prompt = f["seconds"]["tower"], f["seconds"]["prompt"]
        yield f"time          {tower + prompt:,.0f} s predicted: {tower:,.0f} s to encode, {prompt:,.0f} s to read"
    else:
        yield "time          not predicted: no fast kernels"
