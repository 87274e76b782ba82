"""The memory a model takes, as the engine really allocates it: mapped weights, and the cache of one context.

What a process takes beside both (Python, activations) was 0.08 to 0.13 GB for Phi-3.5-mini; see docs/performance.md.
It comes out of the tenth of free memory that the engine leaves alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slmkit.engine import memory as engine_memory
from slmkit.engine.cache import block_bytes, default_kind
from slmkit.errors import NotEnoughMemory
from slmkit.layers.cache_layout import CacheLayout
from slmkit.models.phi3_small_config import Config
from slmkit.ops.segments import BLOCK
from slmkit.weights.packed import packed_bytes, recipe_formats

if TYPE_CHECKING:
    from slmkit.catalog.shapes import Shape, Tensors

QUANTIZATIONS = ("q4", "q8", "none")  # none: the published numbers, which are bfloat16


@dataclass(frozen=True)
class Memory:
    """Bytes of one model in one quantization with one context."""

    weights: int
    cache: int

    @property
    def total(self) -> int:
        return self.weights + self.cache


def tensor_bytes(tensors: Tensors, quantization: str) -> int:
    """Bytes of all of them: packed by the recipe, or as published with all that is no matrix in float32."""
    if quantization == "none":
        return tensors.weights * (2 if len(tensors.shape) == 2 else 4)
    one = {tensors.name: tensors.shape}
    return tensors.count * packed_bytes(one, recipe_formats(one, quantization))


def weight_bytes(shape: Shape, quantization: str) -> int:
    """Bytes of all weights, experts and image encoder included."""
    return sum(tensor_bytes(t, quantization) for t in shape.tensors)


def cache_bytes(shape: Shape, quantization: str, context: int) -> int:
    """Bytes of the cache for so many tokens, in whole blocks, in the numbers that the engine takes by itself."""
    return engine_memory.cache_bytes(_layout(shape), context, default_kind(quantization))


def cache_bytes_per_token(shape: Shape, quantization: str) -> int:
    """Keys and values of one token in every layer."""
    return _block_bytes(shape, quantization) // BLOCK


def memory(shape: Shape, quantization: str, context: int) -> Memory:
    """What the model needs to serve one sequence of `context` tokens."""
    return Memory(weight_bytes(shape, quantization), cache_bytes(shape, quantization, context))


def fits(shape: Shape, quantization: str, context: int, free: int) -> bool:
    """Whether the engine would load it with that context and so many free bytes, experts all in memory."""
    return largest_context(shape, quantization, free) >= context


def largest_context(shape: Shape, quantization: str, free: int) -> int:
    """The context that the engine would give it with so many free bytes; 0 where not even the weights fit.

    A mixture of experts is loaded all the same, with experts read from disk as they are needed; that is no fit here.
    """
    weights = weight_bytes(shape, quantization)
    try:
        plan = engine_memory.plan_cache(shape.context, None, _layout(shape), default_kind(quantization), weights, free)
    except NotEnoughMemory:
        return 0
    return plan.context


def _layout(shape: Shape) -> CacheLayout:
    if shape.architecture != "phi3small":
        return CacheLayout(shape.num_hidden_layers, shape.num_key_value_heads, shape.head_dim)
    numbers = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    return Config.from_dict({name: getattr(shape, name) for name in numbers}).cache_layout


def _block_bytes(shape: Shape, quantization: str) -> int:
    return block_bytes(shape.num_hidden_layers, shape.num_key_value_heads, shape.head_dim, default_kind(quantization))
