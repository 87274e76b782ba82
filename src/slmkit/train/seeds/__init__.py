"""Made rows: stories and talks written by rule from hand-written words, plots and answers (CC0).

They teach a small model what little real text shows it: to greet, to stop, and to tell a story about what was asked.
"""

from __future__ import annotations

import random
from itertools import islice
from typing import TYPE_CHECKING

from slmkit.train.seeds import stories, talks

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = "2"  # raise it when the rows change, so that encoded ones are made anew
N_ROWS = {"stories": 24_000, "talks": 24_000, "plain-stories": 6_000}


def made_rows(name: str, seed: int) -> Iterator[tuple[tuple[str, str], ...]]:
    """The rows of the set "stories", "talks" or "plain-stories": (role, text) pairs, the same for the same seed."""
    chance = random.Random(f"{name} {seed}")
    if name == "plain-stories":
        rows: Iterator[tuple[tuple[str, str], ...]] = (
            (("text", stories.tell(chance).text),) for _ in range(N_ROWS[name])
        )
    else:
        rows = {"stories": talks.story_requests, "talks": talks.conversations}[name](chance)
    return islice(rows, N_ROWS[name])
