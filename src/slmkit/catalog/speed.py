"""How fast a model will be on this machine: arithmetic on what was measured, and never more than a prediction.

A decoded token reads the weights and the cache once, so decoding is the bytes that memory delivers, over the bytes of a
token, times the share of that limit which the engine reaches. A prompt is multiplications, so reading it is the 8-bit
multiply-adds that the processor does, over those of a token, times a share. The shares were measured on one machine and
one model (docs/choosing.md): AVX2, two cores, Phi-3.5-mini's shape. Elsewhere they may be off by a third.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from slmkit.catalog.memory import cache_bytes_per_token, tensor_bytes
from slmkit.catalog.shapes import Role

if TYPE_CHECKING:
    from slmkit.bench.limits import Limits
    from slmkit.catalog.shapes import Shape

# Share of the read bandwidth that decoding one sequence reached. At contexts of 32 and 512 tokens q4 had 0.92,
# 0.78 and 0.91, and 0.84 in another hour (docs/performance.md), which is one number and its noise.
DECODE_SHARE = {"q4": 0.86, "q8": 0.62, "none": 0.70}
# Share of the 8-bit multiply-adds that reading a prompt reached, by its tokens; between them a straight line.
PREFILL_SHARE = {"q4": ((512, 0.59), (2000, 0.54), (4000, 0.48)), "q8": ((512, 0.30),), "none": ((512, 0.14),)}
MEASURED_CONTEXT = 4000  # beyond, nobody has compared a prediction with a run


@dataclass(frozen=True)
class Speed:
    """Predicted tokens/s of one sequence.   prefill: None where the multiply-adds were not measured."""

    decode: float
    prefill: float | None


def predict(shape: Shape, quantization: str, context: int, limits: Limits) -> Speed:
    """Decoding with `context` tokens in the cache, and reading a prompt of that many.

    Image encoders are left out: they run once for an image. Attention counts as dense, also in Phi-3-small.
    """
    decode = DECODE_SHARE[quantization] * limits.read_bytes_per_s / token_bytes(shape, quantization, context)
    if not limits.int8_macs_per_s:
        return Speed(decode, None)
    share = prefill_share(quantization, context)
    return Speed(decode, share * limits.int8_macs_per_s / prompt_macs(shape, context))


def prefill_share(quantization: str, tokens: int) -> float:
    """The share of the multiply-adds that reading a prompt of so many tokens reaches."""
    return _at(PREFILL_SHARE[quantization], tokens)


def token_bytes(shape: Shape, quantization: str, context: int) -> int:
    """Bytes that one decoded token reads: layers, its share of the experts, the head, and the keys and values it sees.

    Vectors are left out, as `slm bench` leaves them out: they are a few parts in 100,000.
    """
    matrices = [t for t in shape.tensors if len(t.shape) == 2]
    seen = min(context, shape.window or context)
    weights = sum(tensor_bytes(t, quantization) for t in matrices if t.role in (Role.LAYER, Role.HEAD))
    experts = sum(tensor_bytes(t, quantization) for t in matrices if t.role is Role.EXPERT)
    used = experts // shape.num_experts * shape.experts_per_token
    return weights + used + seen * cache_bytes_per_token(shape, quantization)


def prompt_macs(shape: Shape, tokens: int) -> float:
    """Multiply-adds for each token of a prompt: matrices, attention to the earlier tokens, and the head once."""
    matrices = [t for t in shape.tensors if len(t.shape) == 2]
    layers = sum(t.weights for t in matrices if t.role is Role.LAYER)
    experts = sum(t.weights for t in matrices if t.role is Role.EXPERT)
    head = sum(t.weights for t in matrices if t.role is Role.HEAD)
    seen = min((tokens + 1) / 2, shape.window or tokens)
    used = experts / shape.num_experts * shape.experts_per_token
    return layers + used + shape.attention_macs * seen + head / tokens


def _at(points: tuple[tuple[int, float], ...], x: int) -> float:
    """The broken line through the points, level outside them."""
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return points[0][1] if x < points[0][0] else points[-1][1]
