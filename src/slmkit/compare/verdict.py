"""From findings to a verdict, by tolerances that are stated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slmkit.compare.findings import Finding
    from slmkit.compare.texts import Difference

VERDICTS = ("identical", "faithful", "cannot tell", "different")  # from the best on


@dataclass(frozen=True)
class Tolerances:
    """What is still the same, and what still faithful.

    same: most difference of any log probability, nats, of identical backends; servers round what they print.
    kl: most mean KL of any one question, nats. Likeliest tokens alone say little: near ties fall either way.
    near_tie: where one backend alone tells log probabilities, or neither scores the other's tokens: how much a model
        may prefer its own token to the other's, nats, for the difference to be one of rounding.
    """

    same: float = 1e-4
    kl: float = 0.1
    near_tie: float = 0.5


@dataclass(frozen=True)
class Reason:
    """One thing that was seen, and the best verdict that it leaves."""

    verdict: str
    why: str


def judge(
    differences: Sequence[Difference], findings: Sequence[Finding], limits: Tolerances
) -> tuple[str, list[Reason]]:
    """The worst verdict of all reasons, and all reasons, the worst first."""
    reasons = [Reason("different", f"{d.what}: {_where(d)}") for d in differences]
    for finding in findings:
        reasons += _of(finding, limits)
    if not any(finding.answered for finding in findings):
        reasons.append(Reason("cannot tell", "no question was answered by both"))
    reasons.sort(key=lambda reason: -VERDICTS.index(reason.verdict))
    verdict = reasons[0].verdict if reasons else "identical"
    return verdict, reasons


def meets(verdict: str, expected: str) -> bool:
    """Whether a verdict is as good as was expected."""
    return VERDICTS.index(verdict) <= VERDICTS.index(expected)


def _where(d: Difference) -> str:
    ids = " and ".join("nothing" if id is None else str(id) for id in (d.a_id, d.b_id))
    return f"{d.where[:60]!r}, position {d.position}: {ids}, {d.a_text!r} and {d.b_text!r}"


def _of(finding: Finding, limits: Tolerances) -> list[Reason]:
    if finding.error:
        return [Reason("cannot tell", f"{finding.name}: {finding.error}")]
    reasons = []
    if finding.a_tokens != finding.b_tokens:
        reasons.append(
            Reason("cannot tell", f"{finding.name}: the prompt has {finding.a_tokens} and {finding.b_tokens} tokens")
        )
    kl = finding.kl
    if kl is None:
        reasons += _without_distances(finding, limits)
    elif kl > limits.kl:
        reasons.append(Reason("different", f"{finding.name}: the mean KL is {kl:.3g} nats, over {limits.kl:g}"))
    elif finding.most_delta > limits.same:
        what = f"log probabilities differ by up to {finding.most_delta:.2g} nats"
        reasons.append(Reason("faithful", f"{finding.name}: {what}, mean KL {kl:.2g}"))
    elif finding.first is not None:
        reasons.append(Reason("faithful", f"{finding.name}: the answers differ, the log probabilities do not"))
    return reasons


def _without_distances(finding: Finding, limits: Tolerances) -> list[Reason]:
    first = finding.first
    if first is None:
        return [Reason("faithful", f"{finding.name}: the answers are the same; no log probabilities to compare")]
    gaps = [gap for gap in (first.a_gap, first.b_gap) if gap is not None]
    if any(gap.nats > limits.near_tie for gap in gaps):
        nats = max(gap.nats for gap in gaps)
        return [
            Reason("different", f"{finding.name}: token {first.position} differs, by {nats:.2g} nats for one of them")
        ]
    what = "a near tie" if gaps else "neither tells by how much"
    return [Reason("cannot tell", f"{finding.name}: token {first.position} differs; {what}")]
