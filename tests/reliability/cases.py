"""The list of hostile models: name -> how to make it and what must come of it. hostile_*.py put their cases in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

# A canary: programs that hide in models touch the file that this variable names.
CANARY = "HOSTILE_CANARY"


@dataclass(frozen=True)
class Case:
    """One hostile model.

    build(folder): makes it inside the empty folder and returns what `slm` is given.
    verb: "complete", or "run" where the chat template must be met.   text: the prompt.
    harmless: the model may answer; the harm would be to follow what it also holds (a pickle, a program).
    slow: too large, or too long for the kernel's clock, for the ordinary run.
    environment: name -> template of a value, with {folder} in it.
    kind: "safetensors" (a folder), "gguf" or "ollama".
    """

    name: str
    build: Callable[[Path], Path | str]
    verb: str = "complete"
    text: str = "hi"
    harmless: bool = False
    slow: bool = False
    kind: str = "safetensors"
    environment: dict[str, str] = field(default_factory=dict)


CASES: dict[str, Case] = {}


def add(name: str, build: Callable[[Path], Path | str], **how: object) -> None:
    """Put a case into the list."""
    assert name not in CASES, name
    CASES[name] = Case(name, build, **how)  # type: ignore[arg-type]
