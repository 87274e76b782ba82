"""What callers hand down to hear of long work, and to have a say in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Progress = Callable[[str, int, int], None]  # what is being done, for people; bytes done; bytes in all
Notice = Callable[[str], None]  # a sentence for people
Refuse = Callable[[Mapping[str, Any]], object]  # raises UnsupportedModel for a config.json that nothing here can run


def silent(stage: str, done: int, total: int) -> None:
    """The progress that nobody watches."""


def unheard(line: str) -> None:
    """The notice that nobody reads."""
