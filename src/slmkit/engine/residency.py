"""A model's experts within a bound of memory."""

from __future__ import annotations

from typing import Any

from slmkit.weights.resident import Region, Resident


def bound_experts(model: Any, budget: int) -> str:
    """Let at most so many bytes of the model's experts stay in memory; a line that says so.

    Experts that are not mapped from a file (those of kernels that unpack them, say) stay where they are.
    """
    groups: dict[tuple[int, int], list[Region]] = {}
    for layer in model.experts:
        for number, weights in enumerate(layer.weights):
            arrays = [a for m in vars(weights).values() for a in (m.data, m.scale) if a is not None]
            groups[layer.layer, number] = [region for a in arrays if (region := Region.of(a))]
    resident = Resident(budget, groups, rounds=len(model.experts))
    for layer in model.experts:
        layer.resident = resident
    total = sum(region.end - region.start for group in groups.values() for region in group)
    return (
        f"of {total / 1e9:.1f} GB of experts {budget / 1e9:.1f} GB stay in memory; the others are read from disk when "
        "tokens need them"
    )
