"""One model of a comparison: its name, how it is loaded, and what it is called in tables."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psutil

from slmkit.backends.registry import split
from slmkit.errors import RequestError
from slmkit.model import Model, load
from slmkit.options import LoadOptions


@dataclass(frozen=True)
class Entry:
    """A model by its name, prefix included.

    options: of loading it.   label: what it is called; entries_of makes each its own.
    """

    name: str
    options: LoadOptions = field(default_factory=LoadOptions)
    label: str = ""

    @property
    def runs_here(self) -> bool:
        """Whether this process computes its answers, and so holds its weights."""
        found = split(self.name)
        return found is None or found[0].runs == "here"


Open = Callable[[Entry], Model]


def open_entry(entry: Entry) -> Model:
    """The model, loaded.   Raises what `slmkit.load` raises."""
    return load(entry.name, **vars(entry.options))


def entries_of(
    models: Sequence[str | Entry],
    options: LoadOptions | None = None,
    own: Mapping[int, Mapping[str, Any]] | None = None,
) -> list[Entry]:
    """The entries of names, each with a label of its own.

    options: of loading, for all that are given by name.   own: place of a model -> options of loading for it alone.
    Raises RequestError.
    """
    if isinstance(models, (str, Entry)):
        raise RequestError("the models are a list of names; put the one name into a list")
    made = [_entry(model, options or LoadOptions(), (own or {}).get(i, {})) for i, model in enumerate(models)]
    labels: list[str] = []
    for entry in made:
        label, n = entry.label, 2
        while label in labels:
            label, n = f"{entry.label} ({n})", n + 1
        labels.append(label)
    return [replace(entry, label=label) for entry, label in zip(made, labels, strict=True)]


def _entry(model: str | Entry, options: LoadOptions, own: Mapping[str, Any]) -> Entry:
    entry = model if isinstance(model, Entry) else Entry(model, options)
    told = "".join(f", {name} {value}" for name, value in own.items())
    return replace(entry, options=replace(entry.options, **own), label=entry.label or entry.name + told)


def resident_bytes() -> int:
    """Memory that this process holds now, mapped weights that were read included."""
    return int(psutil.Process().memory_info().rss)


def collect_garbage() -> None:
    """Give back what a closed model held, before the next one is opened."""
    gc.collect()


def told(error: Exception) -> tuple[str, int]:
    """An error as one line, and the exit code that it means."""
    code = getattr(error, "exit_code", 1)
    text = str(error) if hasattr(error, "exit_code") else f"unexpected {type(error).__name__}: {error}"
    return " ".join(text.split()), code
