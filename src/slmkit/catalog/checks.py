"""What may stand between a person and an answer on this machine: each matter looked at, judged, and with a way out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OK, NOTE, PROBLEM = "ok", "note", "problem"


@dataclass(frozen=True)
class Check:
    """One matter.

    state: "ok"; "note" where it works and could be better; "problem" where something will fail.
    found: what there is.   advice: what to do about it, "" where nothing is.   facts: the same for programs.
    """

    name: str
    state: str
    found: str
    advice: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {"name": self.name, "state": self.state, "found": self.found, "advice": self.advice, **self.facts}
