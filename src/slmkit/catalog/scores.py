"""Published benchmark figures of the family, each with its source; and which published model a checkpoint is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from slmkit.catalog.family import FAMILY, Published, published

_IN_HUB_CACHE = re.compile(r"models--([\w.-]+?)--([\w.-]+)")
# Words of config.json that tell shapes apart.
_NUMBERS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size")


@dataclass(frozen=True)
class Score:
    """One published figure, in percent unless `scale` says otherwise.

    shots: examples in the prompt; None where the source does not say.   also: other published values of the same.
    """

    benchmark: str
    score: float
    shots: int | None
    source: str
    note: str = ""
    cot: bool = False
    scale: str = "percent"
    lower_is_better: bool = False
    also: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True)
class Recognised:
    """Which published model a checkpoint is.

    how: "name": it was asked for, or lies in the hub's cache, under that name; "config": its configuration names it,
    which a model tuned from it does as well; "shape": it has the numbers of these, as tuned and random ones have too.
    """

    models: tuple[Published, ...]
    how: str

    @property
    def is_sure(self) -> bool:
        """Whether the published scores can be printed as this model's own."""
        return self.how == "name"


def scores(hub_id: str) -> tuple[Score, ...]:
    """All published figures of a model; none for an id that has no entry."""
    entries = _table()["models"].get(hub_id, {})
    return tuple(_score(benchmark, entry) for benchmark, entry in entries.items())


def score(hub_id: str, benchmark: str) -> Score | None:
    """One of them."""
    entry = _table()["models"].get(hub_id, {}).get(benchmark)
    return None if entry is None else _score(benchmark, entry)


def caveats() -> tuple[str, ...]:
    """What to know before comparing the figures with each other or with others."""
    return tuple(_table()["about"]["caveats"])


def recognise(name: str, path: str = "", config: Mapping[str, Any] | None = None) -> Recognised | None:
    """Which published model a checkpoint is, as far as that can be told; None for no idea.

    name: what the user asked for.   path: where it lies.   config: its config.json.
    """
    model = published(name.partition("@")[0]) or _by_cache(path)
    if model:
        return Recognised((model,), "name")
    config = config or {}
    told = config.get("_name_or_path")
    model = published(told) if isinstance(told, str) else None
    if model:
        return Recognised((model,), "config")
    alike = tuple(m for m in FAMILY if _has_shape(m, config))
    return Recognised(alike, "shape") if alike else None


def _by_cache(path: str) -> Published | None:
    found = _IN_HUB_CACHE.search(path)
    return published(f"{found[1]}/{found[2]}") if found else None


def _has_shape(model: Published, config: Mapping[str, Any]) -> bool:
    shape = model.shape
    if config.get("model_type") != shape.architecture or config.get("max_position_embeddings") != shape.context:
        return False
    return all(config.get(key) == getattr(shape, key) for key in _NUMBERS)


def _score(benchmark: str, entry: Mapping[str, Any]) -> Score:
    return Score(
        benchmark=benchmark,
        score=entry["score"],
        shots=entry.get("shots"),
        source=entry["source"],
        note=entry.get("note", ""),
        cot=entry.get("cot", False),
        scale=entry.get("scale", "perplexity" if benchmark.startswith("ppl/") else "percent"),
        lower_is_better=entry.get("lower_is_better", False),
        also=tuple((other["score"], other["source"]) for other in entry.get("also_published", ())),
    )


@cache
def _table() -> Any:
    return json.loads((files("slmkit") / "data" / "scores.json").read_text(encoding="utf-8"))
