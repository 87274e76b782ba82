"""What a question about images takes: tokens, memory and time, known before a weight is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from slmkit.backends.images import crops_of, image_bytes, most_pixels
from slmkit.catalog.speed import prefill_share
from slmkit.engine.cache import default_kind
from slmkit.engine.memory import cache_bytes, free_bytes, layout_of
from slmkit.errors import UnsupportedFeature
from slmkit.weights.load import plan_weights

if TYPE_CHECKING:
    from slmkit.bench.limits import Limits
    from slmkit.sources.base import Source
    from slmkit.vision.picture import Picture

# Share of the 8-bit multiply-adds that a tower reached, attention included, by its format (docs/performance.md).
TOWER_SHARE = {"q4": 0.30, "q8": 0.30, "none": 0.13}


@dataclass(frozen=True)
class ImageNeed:
    """One image.   crops: rows and columns.   tokens: of the context."""

    name: str
    width: int
    height: int
    crops: tuple[int, int]
    tokens: int


def image_facts(
    source: Source, pictures: Sequence[Picture], num_crops: int | None, limits: Limits | None
) -> dict[str, Any]:
    """A JSON object.   Raises UnsupportedFeature for a text model.

    memory: weights, the cache of the images' tokens, and encoding.   seconds: predicted; None without limits.
    """
    if not source.sees:
        raise UnsupportedFeature(f"{source.name} reads text alone; give a vision model, such as phi3.5-vision")
    c, plan = source.config, plan_weights(source.tensors, source.expected)
    crops = num_crops or crops_of(source)
    grids = [picture.grid(crops) for picture in pictures]
    tokens = sum(grid.n_tokens for grid in grids)
    cache = cache_bytes(layout_of(c), tokens, default_kind(plan.quantization))
    encoding, free = image_bytes(source, grids, most_pixels(pictures)), free_bytes()
    return {
        "num_crops": crops,
        "images": [
            asdict(ImageNeed(p.name, p.width, p.height, (g.rows, g.columns), g.n_tokens))
            for p, g in zip(pictures, grids, strict=True)
        ],
        "tokens": tokens,
        "context": c.max_position_embeddings,
        "weight_bytes": plan.n_bytes,
        "cache_bytes": cache,
        "encoding_bytes": encoding,
        "total_bytes": plan.n_bytes + cache + encoding,
        "free_bytes": free,
        "fits": tokens < c.max_position_embeddings and plan.n_bytes + cache + encoding <= free,
        "seconds": limits and _seconds(c, grids, plan.quantization, limits),
    }


def _seconds(c: Any, grids: Sequence[Any], quantization: str, limits: Limits) -> dict[str, float] | None:
    if not limits.int8_macs_per_s:
        return None
    kind = quantization if quantization in TOWER_SHARE else "q4"
    tokens = sum(grid.n_tokens for grid in grids)
    tower = sum(grid.n_views for grid in grids) * c.tower.view_macs
    projection = tokens * c.hidden_size * (4 * c.tower.hidden_size + c.hidden_size)
    heads = (2 * c.num_attention_heads + 2 * c.num_key_value_heads) * c.head_dim
    layer = c.hidden_size * (heads + 3 * c.intermediate_size)
    seen = c.num_attention_heads * c.head_dim * tokens  # twice, for half of the tokens on average
    prompt = tokens * c.num_hidden_layers * (layer + seen)
    return {
        "tower": (tower + projection) / (TOWER_SHARE[kind] * limits.int8_macs_per_s),
        "prompt": prompt / (prefill_share(kind, tokens) * limits.int8_macs_per_s),
    }
