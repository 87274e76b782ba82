"""What this machine can do at most: bytes read from memory, and 8-bit multiply-adds, by the kernels' own threads."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What all threads together reach.

    read_bytes_per_s: plain reads of an array far larger than the caches.   int8_macs_per_s: multiply-adds in registers.
    """

    read_bytes_per_s: float
    int8_macs_per_s: float


def measure_limits() -> Limits | None:
    """Both limits now, with the threads in use and the best instruction set; half a second. None without kernels."""
    try:
        from slmkit.ops import native
    except ImportError:
        return None
    return Limits(**native.limits())


def typical_limits(times: int = 3) -> Limits | None:
    """The medians of several measurements: on a shared machine the limits move by tens of percent within minutes."""
    return median_limits([measure_limits() for _ in range(times)])


def median_limits(limits: Sequence[Limits | None]) -> Limits | None:
    """The median of each limit over those that are known."""
    known = [x for x in limits if x is not None]
    if not known:
        return None
    read = statistics.median(x.read_bytes_per_s for x in known)
    return Limits(read, statistics.median(x.int8_macs_per_s for x in known))
