"""Adapters on the command line: `--adapter` takes the name of a loaded one, or the place of one to load."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from slmkit.errors import RequestError
from slmkit.options import LoadOptions, Options
from slmkit.untrusted import shown

NONE = "none"


def with_adapter(options: Options, load_options: LoadOptions) -> tuple[Options, LoadOptions]:
    """The options as the model and its requests take them: the chosen adapter is among those to load."""
    name, loaded = options.adapter, dict(load_options.adapters or {})
    if name is None or name == NONE or name in loaded:
        return options, load_options
    label, _, place = name.rpartition("=")
    label = label or place
    return replace(options, adapter=label), replace(load_options, adapters={**loaded, label: place})


def known_adapter(name: str, loaded: Iterable[str]) -> str:
    """The name, if it can be chosen.   Raises RequestError, which lists those that can."""
    names = [*loaded, NONE]
    if name not in names:
        asked = f"there is no adapter {shown(name)}" if name else "/adapter needs a name"
        raise RequestError(f"{asked}; it takes one of {', '.join(names)}, and --adapters NAME=PLACE loads more")
    return name
