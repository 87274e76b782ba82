"""What this machine can do at most: bytes read from memory, and 8-bit multiply-adds, by the kernels' own threads."""

from __future__ import annotations

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
