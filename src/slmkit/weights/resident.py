"""Which mapped tensors stay in memory, where a model is larger than the memory it may use.

Arrays of a mapped file may be read at any time, here or not, so what is decided here changes speed and never a result.
To make room for a group (the matrices of an expert, say) that is told to be used next, the groups of least use are
given back. The bound is on what this process holds. What the system reads around the pages that are touched (8 MB with
some disks) also lies in its page cache, held by nobody, and is the first to go when memory is short.

Use fades: a group's score halves every HALF_LIFE rounds of the layers and grows by 1 with each use. Least recent use,
the usual rule, does badly here: layers come in a circle, so what is needed next is what was used longest ago
(benchmarks/expert_cache.py, docs/performance.md).
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Key = TypeVar("Key", bound=Hashable)

HALF_LIFE = 64  # tokens
PAGE = mmap.PAGESIZE
# Linux since 5.4: pages that no other process uses leave memory at once. Elsewhere they leave this process only.
_PAGE_OUT = 21


class Scores(Generic[Key]):
    """How much each group has been used of late.   rounds: calls of `note` that make one round."""

    def __init__(self, rounds: int, half_life: float = HALF_LIFE) -> None:
        self._rate = math.log(2) / (half_life * rounds)
        self._now = 0
        self._logs: dict[Key, float] = {}  # log of the score as it was at time 0, so that time passing moves none

    def note(self, keys: Collection[Key]) -> None:
        """Another use of each of them, all at the same time."""
        self._now += 1
        for key in keys:
            old = self._logs.get(key, -math.inf)
            new = self._rate * self._now
            self._logs[key] = max(old, new) + math.log1p(math.exp(-abs(old - new)))

    def least(self, keys: Collection[Key]) -> Key:
        """The one to do without."""
        return min(keys, key=lambda key: self._logs.get(key, -math.inf))


@dataclass(frozen=True)
class Region:
    """Bytes start..end of a mapped file."""

    file: mmap.mmap
    start: int
    end: int

    @classmethod
    def of(cls, array: NDArray[Any]) -> Region | None:
        """Where a contiguous array lies; None for one that is no view of a mapped file."""
        base: Any = array
        while isinstance(base, np.ndarray | memoryview):
            base = base.base if isinstance(base, np.ndarray) else base.obj
        if not isinstance(base, mmap.mmap) or not hasattr(base, "madvise"):
            return None
        start = array.ctypes.data - np.frombuffer(base, np.uint8).ctypes.data
        return cls(base, start, start + array.nbytes)

    def drop(self) -> None:
        """Out of memory with it, but for the pages that it shares with its neighbours."""
        start, end = -(-self.start // PAGE) * PAGE, self.end // PAGE * PAGE
        if start >= end:
            return
        try:
            self.file.madvise(_PAGE_OUT, start, end - start)
        except OSError:
            self.file.madvise(mmap.MADV_DONTNEED, start, end - start)


class Resident(Generic[Key]):
    """Keeps groups of regions within a number of bytes.

    uses, misses: groups that were asked for, and of these what had to be read.   n_bytes: held now.
    """

    def __init__(self, budget: int, groups: Mapping[Key, Sequence[Region]], rounds: int) -> None:
        """budget: bytes; groups that are used at once must fit together.   rounds: calls of `use` for one token."""
        self.budget = budget
        self._groups = groups
        self._sizes = {key: sum(region.end - region.start for region in group) for key, group in groups.items()}
        self._scores: Scores[Key] = Scores(rounds)
        self._held: dict[Key, None] = {}
        self.n_bytes = self.uses = self.misses = 0

    def use(self, keys: Sequence[Key]) -> None:
        """These are read next: make room for what is not here. It comes in as it is touched (docs/performance.md)."""
        self._scores.note(keys)
        missing = [key for key in keys if key not in self._held]
        self.uses, self.misses = self.uses + len(keys), self.misses + len(missing)
        self._make_room(sum(self._sizes[key] for key in missing), keys)
        for key in missing:
            self._held[key] = None
            self.n_bytes += self._sizes[key]

    def _make_room(self, n_bytes: int, keys: Sequence[Key]) -> None:
        while self.n_bytes + n_bytes > self.budget and (others := self._held.keys() - set(keys)):
            key = self._scores.least(others)
            del self._held[key]
            self.n_bytes -= self._sizes[key]
            for region in self._groups[key]:
                region.drop()
