"""What a large model takes beside a small one: arithmetic on published shapes, and nothing that was run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slmkit.catalog.memory import Memory, cache_bytes, weight_bytes
from slmkit.catalog.overview import filled
from slmkit.catalog.shapes import Shape
from slmkit.catalog.speed import predict

if TYPE_CHECKING:
    from slmkit.catalog.machine import Machine

_QUANTIZATION = {4: "q4", 8: "q8", 16: "none"}
CARD = 80_000_000_000  # bytes of memory on the larger kind of data-centre GPU


@dataclass(frozen=True)
class Large:
    """A published large model.   source: where its shape is from."""

    name: str
    shape: Shape
    source: str


LARGE = (
    Large(
        "70 B dense (Llama 2)",
        Shape("llama", hidden_size=8192, num_hidden_layers=80, num_attention_heads=64, num_key_value_heads=8,
              head_dim=128, intermediate_size=28672, vocab_size=32000, context=4096),
        "arXiv 2307.09288 and its params.json",
    ),
    Large(
        "175 B dense (GPT-3)",
        Shape("gpt3", hidden_size=12288, num_hidden_layers=96, num_attention_heads=96, num_key_value_heads=96,
              head_dim=128, intermediate_size=49152, vocab_size=50257, context=2048),
        "arXiv 2005.14165, table 2.1",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """A model in 4, 8 or 16 bits.   cards: GPUs of 80 GB that its memory fills.

    decode: tokens/s predicted on this machine if it had the memory; None where its limits are unknown.
    """

    name: str
    bits: int
    parameters: int
    context: int
    memory: Memory
    cards: int
    decode: float | None
    source: str

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "name": self.name,
            "bits": self.bits,
            "parameters": self.parameters,
            "context_used": self.context,
            "weight_bytes": self.memory.weights,
            "cache_bytes": self.memory.cache,
            "bytes": self.memory.total,
            "gpus_of_80_gb": self.cards,
            "predicted_decode": self.decode and round(self.decode, 3),
            "source": self.source,
        }


def larger(machine: Machine, context: int) -> list[Cost]:
    """The large models with so much context, or their own if that is smaller."""
    return [cost(large.name, large.shape, bits, context, machine, large.source) for large in LARGE for bits in (4, 16)]


def cost(name: str, shape: Shape, bits: int, context: int, machine: Machine, source: str = "") -> Cost:
    """4 and 8 bits are slmkit's own q4 and q8, with their scales. The cache is in 16 bits, as is usual on GPUs."""
    quantization = _QUANTIZATION[bits]
    context = min(context, shape.context)
    memory = Memory(weight_bytes(shape, quantization), cache_bytes(shape, "q8", context))
    speed = predict(shape, quantization, filled(context), machine.limits) if machine.limits else None
    return Cost(
        name=name,
        bits=bits,
        parameters=shape.parameters,
        context=context,
        memory=memory,
        cards=-(-memory.total // CARD),
        decode=speed.decode if speed else None,
        source=source,
    )
