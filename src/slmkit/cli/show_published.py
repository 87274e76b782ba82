"""What is known of a published model that is not on this machine: the catalog's word, since there are no files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from slmkit.catalog.family import Published
from slmkit.catalog.memory import QUANTIZATIONS, fits, memory
from slmkit.catalog.scores import scores

if TYPE_CHECKING:
    from slmkit.catalog.shapes import Shape

_CONTEXTS = (4096, 16384)  # and the full one


def published_facts(model: Published, free: int) -> dict[str, Any]:
    """A JSON object; `here` is false, and it has nothing that only files could tell.   free: bytes of memory."""
    from slmkit.catalog.overview import describe

    shape = model.shape
    contexts = sorted({shape.context, *(n for n in _CONTEXTS if n < shape.context)})
    return describe(model) | {
        "here": False,
        "layers": shape.num_hidden_layers,
        "hidden_size": shape.hidden_size,
        "heads": shape.num_attention_heads,
        "key_value_heads": shape.num_key_value_heads,
        "memory": {"free_bytes": free, "contexts": [_need(shape, q, n, free) for q in QUANTIZATIONS for n in contexts]},
        "published": {"ids": [model.id], "told_by": "name", "scores": [asdict(score) for score in scores(model.id)]},
    }


def _need(shape: Shape, quantization: str, context: int, free: int) -> dict[str, Any]:
    need = memory(shape, quantization, context)
    return {
        "quantization": quantization,
        "context": context,
        "weights": need.weights,
        "cache": need.cache,
        "total": need.total,
        "fits": fits(shape, quantization, context, free),
    }


def published_lines(f: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Labels and texts of the facts."""
    kv = f["key_value_heads"]
    shared = f", {kv} for keys and values" if kv != f["heads"] else ""
    yield "here", f"no; `slm pull {f['name']}` fetches it" if f["runs_here"] else "no; slmkit cannot run it yet"
    yield (
        "architecture",
        f"{f['architecture']}: {f['layers']} layers of {f['hidden_size']:,}, {f['heads']} heads{shared}",
    )
    yield "parameters", f"{f['parameters'] / 1e9:.2f} billion"
    if f["active_parameters"] < f["parameters"]:
        yield "active", f"{f['active_parameters'] / 1e9:.2f} billion for each token"
    yield "context", f"{f['context']:,} tokens"
    yield "languages", ", ".join(f["languages"])
    yield "inputs", ", ".join(f["inputs"])
    yield "licence", f"{f['licence']}, by its card"
    yield "released", f["release"]
    if f["note"]:
        yield "note", f["note"]
