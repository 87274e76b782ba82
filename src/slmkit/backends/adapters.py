"""The adapters of a loaded model: opened by the names they are given, and chosen by each request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmkit.errors import OptionError
from slmkit.layers.lora import AdaptedOps, Pair
from slmkit.untrusted import shown
from slmkit.weights.lora.adapter import Adapter, open_adapter
from slmkit.weights.lora.locate import locate_adapter
from slmkit.weights.names import PUBLISHED, SHORT_NAMES

if TYPE_CHECKING:
    from slmkit.options import LoadOptions
    from slmkit.sources.base import Source
    from slmkit.weights.load import Weights
    from slmkit.weights.telling import Notice, Progress

DEFAULT = "default"  # answers where a request chooses none
NONE = "none"  # the model alone
_IN_HUB_CACHE = re.compile(r"models--([\w.-]+?)--([\w.-]+)[/\\]snapshots[/\\]")


def open_adapters(
    options: LoadOptions, source: Source, progress: Progress | None = None, notice: Notice | None = None
) -> dict[str, Adapter]:
    """The adapters that LoadOptions names, checked against the model. No tensor is read yet."""
    found = {}
    for name, place in (options.adapters or {}).items():
        path = locate_adapter(place, offline=bool(options.offline), progress=progress, notice=notice)
        found[name] = check_adapter(path, source)
    return found


def check_adapter(path: Path, source: Source) -> Adapter:
    """The adapter in a folder, for this model.   Raises ModelError where it is for another, or damaged."""
    expected = dict(source.expected)
    expected.setdefault("lm_head.weight", expected["model.embed_tokens.weight"])  # of a model whose head is tied
    return open_adapter(path, expected, source.name, _published_id(source))


def adapted(ops: Any, adapters: Mapping[str, Adapter], weights: Weights, config: Any) -> Any:
    """The ops to build the model with; without adapters they are what they were."""
    if not adapters:
        return ops
    pairs = {
        name: {module: Pair(*matrices) for module, matrices in adapter.matrices().items()}
        for name, adapter in adapters.items()
    }
    return AdaptedOps(ops, weights, pairs, tied=config.tie_word_embeddings)


def chosen(asked: str | None, loaded: Mapping[str, Any]) -> str:
    """The adapter of a request, "" for the model alone.   Raises OptionError."""
    if asked is None:
        return DEFAULT if DEFAULT in loaded else ""
    if asked == NONE:
        return ""
    if asked not in loaded:
        there = f"{', '.join(loaded)} and {NONE}" if loaded else f"{NONE}; name adapters when the model is loaded"
        raise OptionError(f"adapter is {shown(asked)}; this model has {there}")
    return asked


def adapter_facts(adapters: Mapping[str, Adapter]) -> dict[str, Any]:
    """For people and programs."""
    return {
        name: {
            "path": str(adapter.path),
            "base": adapter.config.base,
            "ranks": list(adapter.ranks),
            "matrices": len(adapter.modules),
            "bytes": adapter.n_bytes,
        }
        for name, adapter in adapters.items()
    }


def _published_id(source: Source) -> str:
    """Which published model this is, as far as its name, its place in the hub's cache or its files tell."""
    cached = _IN_HUB_CACHE.search(str(source.path))
    told = source.raw_config.get("_name_or_path")
    ids = {id.lower(): id for id in PUBLISHED} | {id.lower().partition("/")[2]: id for id in PUBLISHED}
    ids |= SHORT_NAMES
    for name in (source.name.partition("@")[0], f"{cached[1]}/{cached[2]}" if cached else "", told):
        if isinstance(name, str) and (known := ids.get(name.lower())):
            return known
    return ""
