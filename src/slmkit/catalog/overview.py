"""Each published model on this machine: what it takes, whether that is there, and how fast it would be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slmkit.catalog.family import FAMILY, Published
from slmkit.catalog.memory import QUANTIZATIONS, Memory, fits, memory
from slmkit.catalog.speed import Speed, predict
from slmkit.weights.hub.receipts import find_receipt
from slmkit.weights.names import HubRef

if TYPE_CHECKING:
    from slmkit.catalog.machine import Machine
    from slmkit.catalog.shapes import Shape

CONTEXT = 4096  # tokens, where nobody asks for another number


@dataclass(frozen=True)
class Estimate:
    """One model in one quantization on one machine.

    context: the one that was asked for, or the model's if that is smaller.
    fits_now, fits_in_all: with what is free, and with all memory of the machine.
    speed: with half of the context filled; None where the machine's limits are unknown.
    """

    quantization: str
    context: int
    memory: Memory
    fits_now: bool
    fits_in_all: bool
    speed: Speed | None

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "weight_bytes": self.memory.weights,
            "cache_bytes": self.memory.cache,
            "bytes": self.memory.total,
            "fits_now": self.fits_now,
            "fits_in_all": self.fits_in_all,
            "predicted_decode": self.speed and round(self.speed.decode, 2),
            "predicted_prefill": self.speed.prefill and round(self.speed.prefill, 2) if self.speed else None,
        }


@dataclass(frozen=True)
class Row:
    """A published model, its estimates by quantization, and whether it was pulled and is still as it was."""

    model: Published
    estimates: dict[str, Estimate]
    pulled: bool

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return describe(self.model) | {
            "pulled": self.pulled,
            "context_used": self.estimates["q4"].context,
            "quantizations": {name: estimate.as_dict() for name, estimate in self.estimates.items()},
        }


def describe(model: Published) -> dict[str, Any]:
    """The published facts of a model, for programs."""
    return {
        "name": model.name,
        "names": list(model.names),
        "id": model.id,
        "architecture": model.shape.architecture,
        "parameters": model.shape.parameters,
        "active_parameters": model.shape.active_parameters,
        "context": model.context,
        "languages": list(model.languages),
        "inputs": list(model.inputs),
        "licence": model.licence,
        "release": model.release,
        "note": model.note,
        "runs_here": model.runs_here,
    }


def estimate(shape: Shape, quantization: str, context: int, machine: Machine) -> Estimate:
    """What the model would take and do."""
    context = min(context, shape.context)
    return Estimate(
        quantization=quantization,
        context=context,
        memory=memory(shape, quantization, context),
        fits_now=fits(shape, quantization, context, machine.free),
        fits_in_all=fits(shape, quantization, context, machine.total),
        speed=predict(shape, quantization, filled(context), machine.limits) if machine.limits else None,
    )


def filled(context: int) -> int:
    """The tokens for which speeds are predicted: half of the context, the mean over a conversation that fills it."""
    return max(1, context // 2)


def overview(machine: Machine, context: int = CONTEXT) -> list[Row]:
    """The whole family."""
    return [_row(model, machine, context) for model in FAMILY]


def _row(model: Published, machine: Machine, context: int) -> Row:
    estimates = {q: estimate(model.shape, q, context, machine) for q in QUANTIZATIONS}
    return Row(model, estimates, find_receipt(HubRef(model.id)) is not None)
