"""Command-line flags made from the fields of the options, so that every surface has the same names."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import Field, fields
from typing import Any

from slmkit.options import LoadOptions, Options, bound
from slmkit.server.settings import ServeOptions

AnyOptions = type[Options] | type[LoadOptions] | type[ServeOptions]
TITLES: Mapping[AnyOptions, str] = {
    Options: "options of the answer",
    LoadOptions: "options of loading",
    ServeOptions: "options of the server",
}
_METAVARS = {int: "N", float: "NUMBER", str: "TEXT", dict: "ID=NUMBER", Mapping: "NAME=PLACE"}


def flag(name: str) -> str:
    """`max_tokens` as it is typed: `--max-tokens`."""
    return "--" + name.replace("_", "-")


def add_flags(parser: argparse.ArgumentParser, *kinds: AnyOptions, without: tuple[str, ...] = ()) -> None:
    """One flag for each option. Values stay text: settings.py checks their bounds, as for the other sources.

    without: names of options that the verb has no use for.
    """
    for kind in kinds:
        group = parser.add_argument_group(TITLES[kind])
        for f in fields(kind):
            if f.name not in without:
                _add(group, f)


def about(f: Field[Any]) -> str:
    """The option's sentence, its bounds, and its default where it has one of its own."""
    low, high, notes = f.metadata["low"], f.metadata["high"], []
    if low is not None and not f.metadata["many"]:
        notes.append(f"{bound(low)} or more" if high is None else f"{bound(low)} to {bound(high)}")
    default: Any = f.default
    if default not in (None, False, ()):
        notes.append(f"default {default if isinstance(default, str) else bound(default)}")
    return str(f.metadata["help"]) + (f" ({', '.join(notes)})" if notes else "")


def _add(group: argparse._ArgumentGroup, f: Field[Any]) -> None:
    meta = f.metadata
    help = about(f).replace("%", "%%")
    if meta["kind"] is bool:
        group.add_argument(flag(f.name), action=argparse.BooleanOptionalAction, default=None, help=help)
        return
    repeated = meta["many"] or meta["kind"] in (dict, Mapping)
    names = ("-n", "--n") if f.name == "n" else (flag(f.name),)
    group.add_argument(
        *names,
        dest=f.name,
        action="append" if repeated else "store",
        choices=meta["choices"] or None,
        metavar=None if meta["choices"] else _METAVARS[meta["kind"]],
        help=help + ("; may be given several times" if repeated else ""),
    )
