"""Verbs that take several models: their entries, each with options of its own where they are given."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slmkit.cli.loading import open_model
from slmkit.cli.settings import option_of
from slmkit.errors import RequestError
from slmkit.options import LoadOptions
from slmkit.untrusted import shown

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from slmkit.compare.entry import Entry, Open

# A prompt that is not read again cannot be measured, and what is kept of one run would show in the next.
KEPT = ("prompt_cache", "prompt_store_mb", "queue")


def add_of(parser: argparse.ArgumentParser) -> None:
    """The flag that `given_entries` reads."""
    parser.add_argument(
        "--of", metavar="N:NAME=VALUE", action="append", default=[],
        help="an option of loading for the Nth model alone, as in --of 2:quantize=q8; may be given several times",
    )  # fmt: skip


def given_entries(names: Sequence[str], of: Sequence[str], options: LoadOptions) -> list[Entry]:
    """The models in order.   options: of loading every one.   Raises RequestError."""
    from slmkit.backends.registry import split
    from slmkit.compare.entry import entries_of

    own: dict[int, dict[str, Any]] = {}
    for text in of:
        number, _, rest = text.partition(":")
        if not number.isdecimal() or not 1 <= int(number) <= len(names):
            raise RequestError(
                f"--of is {shown(text)}; it takes N:NAME=VALUE, where N is a model's place from 1 to {len(names)}"
            )
        own.setdefault(int(number) - 1, {}).update(option_of(LoadOptions, rest, f"--of {text}"))
    shared = replace(options, **dict.fromkeys(KEPT))
    return [
        # our own engine alone keeps system prompts for the next run
        replace(e, options=replace(e.options, prompt_store_mb=0)) if split(e.name) is None else e
        for e in entries_of(names, shared, own)
    ]


def opener(quiet: bool) -> Open:
    """What opens an entry, watched as for other verbs."""
    return lambda entry: open_model(entry.name, entry.options, quiet=quiet)
