"""Which model, in which quantization, for this machine and what somebody wants from it; and why not the others.

A model is judged in the most exact quantization that fits and is fast enough: 8 bits, else 4. Then those that nothing
speaks against are ordered by the mean of their published scores for the task.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slmkit.catalog.family import FAMILY, Published
from slmkit.catalog.machine import gb
from slmkit.catalog.memory import largest_context, weight_bytes
from slmkit.catalog.overview import Estimate, describe, estimate, filled
from slmkit.catalog.speed import MEASURED_CONTEXT
from slmkit.catalog.tasks import Task, task_mean, task_scores

if TYPE_CHECKING:
    from slmkit.catalog.machine import Machine
    from slmkit.catalog.scores import Score

READING_SPEED = 5.0  # tokens/s: 238 words a minute, silent reading of English (Brysbaert 2019), at 1.3 tokens a word
_TRIED = ("q8", "q4")  # "none" only where it is asked for: tiny loses nothing that shows in 8 bits, and q8 is faster


@dataclass(frozen=True)
class Wish:
    """What is wanted.   speed: tokens/s at least.   quantization: None leaves it open."""

    task: Task
    context: int
    speed: float = READING_SPEED
    quantization: str | None = None


@dataclass(frozen=True)
class Verdict:
    """A model in the quantization that suits best, and what is to be said about it.

    mean: of the published scores for the task; None where they were not all published.
    reasons: for it.   against: each a reason not to take it; empty means that it is accepted.
    """

    model: Published
    estimate: Estimate
    mean: float | None
    scores: tuple[Score, ...]
    reasons: tuple[str, ...]
    against: tuple[str, ...]

    @property
    def accepted(self) -> bool:
        return not self.against

    @property
    def command(self) -> str:
        """What to type."""
        return f"slm run {self.model.name} --quantize {self.estimate.quantization} --ctx {self.estimate.context}"

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return describe(self.model) | {
            "accepted": self.accepted,
            "quantization": self.estimate.quantization,
            "context_used": self.estimate.context,
            **self.estimate.as_dict(),
            "score": self.mean and round(self.mean, 2),
            "scores": [
                {"benchmark": s.benchmark, "score": s.score, "shots": s.shots, "source": s.source} for s in self.scores
            ],
            "reasons": list(self.reasons),
            "against": list(self.against),
            "command": self.command,
        }


def rank(wish: Wish, machine: Machine) -> list[Verdict]:
    """The whole family, the best first; then those that something speaks against, the least and the nearest first."""
    verdicts = [_judge(model, wish, machine) for model in FAMILY]
    return sorted(verdicts, key=lambda v: (len(v.against), -_pace(v, wish), -(v.mean or 0.0), v.estimate.memory.total))


def _pace(v: Verdict, wish: Wish) -> float:
    """The share of the wanted speed that is predicted, at most 1: beyond that, quality decides."""
    return min(1.0, v.estimate.speed.decode / wish.speed) if v.estimate.speed else 1.0


def _judge(model: Published, wish: Wish, machine: Machine) -> Verdict:
    tried = (wish.quantization,) if wish.quantization else _TRIED
    estimates = [estimate(model.shape, quantization, wish.context, machine) for quantization in tried]
    best = next((e for e in estimates if not _troubles(e, wish, machine)), estimates[-1])
    return Verdict(
        model=model,
        estimate=best,
        mean=task_mean(wish.task, model),
        scores=task_scores(wish.task, model),
        reasons=_reasons(model, best, wish, machine),
        against=(*_unfit(model, wish), *_troubles(best, wish, machine)),
    )


def _unfit(model: Published, wish: Wish) -> list[str]:
    """What speaks against a model on any machine."""
    found = []
    if not model.runs_here:
        found.append(f"slmkit does not run the architecture {model.shape.architecture} yet")
    if wish.task.needs_images and "image" not in model.inputs:
        found.append("it takes no images")
    if model.context < wish.context:
        found.append(f"it was made for at most {model.context:,} tokens, and {wish.context:,} are wanted")
    return found


def _troubles(e: Estimate, wish: Wish, machine: Machine) -> list[str]:
    """What speaks against an estimate on this one."""
    found = []
    if not e.fits_now:
        cure = "it would fit with other programs closed" if e.fits_in_all else "more than this machine can give"
        found.append(f"{gb(e.memory.total)} of memory are needed and {gb(machine.free)} are free: {cure}")
    if e.speed and e.speed.decode < wish.speed:
        found.append(f"{e.speed.decode:.1f} tokens/s are predicted and {wish.speed:g} are wanted")
    return found


def _reasons(model: Published, e: Estimate, wish: Wish, machine: Machine) -> tuple[str, ...]:
    found = [
        f"memory: {gb(e.memory.weights)} of weights and {gb(e.memory.cache)} of cache for {e.context:,} tokens; "
        f"{gb(machine.free)} are free, of which the engine leaves a tenth"
    ]
    download = weight_bytes(model.shape, "none")
    packed = "" if e.quantization == "none" else f", and {gb(e.memory.weights)} for its packed copy"
    found.append(f"disk: {gb(download)} to fetch once{packed}")
    if e.fits_now and (most := largest_context(model.shape, e.quantization, machine.free)) > e.context:
        found.append(f"context: up to {most:,} tokens would fit")
    if e.speed:
        tokens = filled(e.context)
        untried = "" if tokens <= MEASURED_CONTEXT * 1.1 else " (no prediction was checked at this length)"
        found.append(
            f"speed: {e.speed.decode:.1f} tokens/s predicted with {tokens:,} tokens in the context{untried}; "
            f"{wish.speed:g} are wanted"
        )
    else:
        found.append("speed: not known, as this machine's limits are not")
    mean = task_mean(wish.task, model)
    names = ", ".join(f"{s.benchmark} {s.score:g}" for s in task_scores(wish.task, model))
    if mean is None:
        found.append(f"quality: not known; published for {wish.task.name}: {names or 'nothing'}")
    else:
        found.append(f"quality: {mean:.1f} is the mean of what was published for {wish.task.name}: {names}")
    if wish.task.name == "multilingual" and len(model.languages) == 1:
        found.append(f"languages: its card names {model.languages[0]} alone")
    return tuple(found)
