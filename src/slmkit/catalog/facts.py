"""Everything that a model's files say of it, and what it takes here; no memory is taken for its weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from slmkit.catalog.scores import Score, recognise, scores
from slmkit.catalog.tensor_types import TensorRow, by_type, tensor_rows
from slmkit.engine import memory
from slmkit.engine.cache import default_kind
from slmkit.errors import NotEnoughMemory, SlmError
from slmkit.options import FALLBACKS
from slmkit.sources.base import Source
from slmkit.text import known
from slmkit.weights.load import WeightPlan, plan_weights

CONTEXTS = (4096, 16384)  # beside the model's own, the largest
_LICENCES = ("MIT License", "Apache License", "BSD", "Creative Commons", "GNU General Public License")
_EMBEDDING = ("model.embed_tokens.weight", "token_embd.weight")
_HEAD = ("lm_head.weight", "output.weight")


@dataclass(frozen=True)
class Need:
    """What one context takes, in bytes.   fits: whether the engine would load it now."""

    context: int
    weights: int
    cache: int
    fits: bool

    @property
    def total(self) -> int:
        return self.weights + self.cache

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self) | {"total": self.total}


def facts(source: Source) -> dict[str, Any]:
    """A JSON object. What a tokenizer, template and the like at fault would have said is their `problem` instead.

    Raises ModelError where configuration or weights are at fault.
    """
    c, plan, rows = source.config, plan_weights(source.tensors, source.expected), tensor_rows(source)
    free = memory.free_bytes()
    return {
        "name": source.name,
        "path": str(source.path),
        "origin": source.origin,
        "architecture": source.architecture,
        "parameters": sum(math.prod(shape) for shape in source.expected.values()),
        "layers": c.num_hidden_layers,
        "hidden_size": c.hidden_size,
        "heads": c.num_attention_heads,
        "key_value_heads": c.num_key_value_heads,
        "head_dim": c.head_dim,
        "vocabulary": c.vocab_size,
        "context": c.max_position_embeddings,
        "sliding_window": getattr(c, "sliding_window", 0) or None,
        "longrope_from": getattr(getattr(c, "rope_scaling", None), "original_context", None),
        "asked_context": source.ctx,
        "parent": source.parent or None,
        "file_bytes": source.tensors.total_bytes,
        "types": [kind.as_dict() for kind in by_type(rows)],
        "embedding_type": _type_of(rows, _EMBEDDING),
        "head_type": _type_of(rows, _HEAD) or _type_of(rows, _EMBEDDING),
        "shares_embedding": _type_of(rows, _HEAD) is None,
        "loads_as": plan.quantization,
        "weight_bytes": plan.n_bytes,
        "tokenizer": _tried(lambda: _tokenizer(source)),
        "template": _tried(lambda: template(source)),
        "system": source.system,
        "examples": len(source.examples),
        "defaults": _tried(lambda: _defaults(source)),
        "stop_tokens": _tried(lambda: _stops(source)),
        "licence": _tried(lambda: _licence(source)),
        "published": _published(source),
        "memory": {
            "free_bytes": free,
            "cache": default_kind(plan.quantization),
            "contexts": [need.as_dict() for need in needs(c, plan, free, source.ctx)],
            "largest_context": _largest(c, plan, free),
        },
    }


def needs(config: Any, plan: WeightPlan, free: int, asked: int | None = None) -> list[Need]:
    """What the model takes with 4k, 16k and its full context, and with the one its store asks for."""
    full = config.max_position_embeddings
    contexts = {full} | {n for n in (*CONTEXTS, asked) if n and n < full}
    return [_need(config, plan, context, free) for context in sorted(contexts)]


def _need(config: Any, plan: WeightPlan, context: int, free: int) -> Need:
    layout, kind = memory.layout_of(config), default_kind(plan.quantization)
    cache = memory.cache_bytes(layout, context, kind)
    try:
        memory.plan_cache(config.max_position_embeddings, context, layout, kind, plan.n_bytes, free)
    except NotEnoughMemory:
        return Need(context, plan.n_bytes, cache, False)
    return Need(context, plan.n_bytes, cache, True)


def _largest(config: Any, plan: WeightPlan, free: int) -> int:
    """The context that the engine would give it; 0 where not even the weights fit."""
    full = config.max_position_embeddings
    try:
        return memory.plan_cache(
            full, None, memory.layout_of(config), default_kind(plan.quantization), plan.n_bytes, free
        ).context
    except NotEnoughMemory:
        return 0


def _type_of(rows: list[TensorRow], names: tuple[str, ...]) -> str | None:
    return next((row.type for row in rows if row.name in names), None)


def _tried(part: Callable[[], Any]) -> Any:
    try:
        return part()
    except SlmError as error:
        return {"problem": str(error)}


def _tokenizer(source: Source) -> dict[str, Any]:
    tokenizer = source.tokenizer
    sentencepiece = tokenizer.piece_to_id("▁") is not None
    return {
        "kind": "SentencePiece pieces" if sentencepiece else "byte-level pieces",
        "tokens": tokenizer.vocab_size,
        "special": len(tokenizer.special_ids),
    }


def template(source: Source) -> dict[str, Any]:
    """The chat template. Raises ModelError if there is none.

    name: of a known one, else None.   text: as the files have it; of one that slmkit brings, its Jinja text.
    """
    if source.go_template is not None:
        layer = {"language": "Go", "text": source.go_template}
        found = _tried(lambda: source.template.source)
        problem = found if isinstance(found, dict) else {"name": found.name}
        return {"name": None} | layer | problem
    held = source.template.source
    recognised = known.recognise(held) if isinstance(held, str) else held
    text = held if isinstance(held, str) else held.source
    return {"name": recognised.name if recognised else None, "language": "Jinja", "text": text}


def _defaults(source: Source) -> dict[str, Any]:
    """The options that differ from those of a model that says nothing."""
    plain = FALLBACKS.set_values()
    return {name: value for name, value in source.defaults.set_values().items() if value != plain.get(name)}


def _stops(source: Source) -> list[dict[str, Any]]:
    return [{"id": id, "text": source.tokenizer.id_to_piece(id)} for id in sorted(source.stop_ids)]


def _licence(source: Source) -> dict[str, str] | None:
    """name: as the beginning of the text tells, else its first line; without a text, what it was published under."""
    text = (source.licence or "").strip()
    if not text:
        seen = recognise(source.name, str(source.path))
        return {"name": f"{seen.models[0].licence}, by its card", "text": ""} if seen and seen.is_sure else None
    found = next((name for name in _LICENCES if name.lower() in text[:1000].lower()), None)
    return {"name": found or text.splitlines()[0][:100], "text": text}


def _published(source: Source) -> dict[str, Any] | None:
    """Which published model it is, how that was told, and its figures where that is sure."""
    seen = recognise(source.name, str(source.path), source.raw_config)
    if seen is None:
        return None
    ids = [model.id for model in seen.models]
    figures = scores(ids[0]) if seen.is_sure else ()
    return {"ids": ids, "told_by": seen.how, "scores": [_score(figure) for figure in figures]}


def _score(score: Score) -> Mapping[str, Any]:
    return asdict(score)
