"""What this machine has for a model: memory now and in all, and the speeds that bound it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from slmkit.engine import memory

if TYPE_CHECKING:
    from slmkit.bench.limits import Limits


@dataclass(frozen=True)
class Machine:
    """free, total: bytes of memory, a container's limit considered.   limits: None where nothing can be predicted.

    source: where the limits are from, for people.
    """

    free: int
    total: int
    limits: Limits | None
    source: str

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "free_bytes": self.free,
            "total_bytes": self.total,
            "read_bytes_per_s": self.limits and self.limits.read_bytes_per_s,
            "int8_macs_per_s": (self.limits and self.limits.int8_macs_per_s) or None,
            "limits_source": self.source,
        }


def look(bandwidth: float | None = None, free: int | None = None, threads: int | None = None) -> Machine:
    """This machine, its limits measured now (a second and a half), or another one of which they are told.

    bandwidth: bytes/s to take instead of measuring.   free: bytes of memory to take for free, and for all there is.
    """
    from slmkit.bench.limits import Limits, typical_limits
    from slmkit.ops.choose import choose

    there, total = (memory.free_bytes(), total_bytes()) if free is None else (free, free)
    if bandwidth is not None:
        return Machine(there, total, Limits(bandwidth, 0.0), f"{bandwidth / 1e9:g} GB/s, as given")
    ops = choose("auto", threads)
    limits = typical_limits()
    if limits is None:
        return Machine(
            there, total, None, "no fast kernels: NumPy computes, slowly, and no speed is predicted; see `slm doctor`"
        )
    source = f"{limits.read_bytes_per_s / 1e9:.1f} GB/s, measured now ({ops.description}{_busy()})"
    return Machine(there, total, limits, source)


def _busy() -> str:
    """A word on other programs where they may have slowed the measurement down."""
    load = psutil.getloadavg()[0]  # of the last minute
    return f", while other programs were busy: load {load:.1f}" if load >= (psutil.cpu_count() or 1) else ""


def total_bytes() -> int:
    """All memory that this process could have: the machine's, or the container's limit."""
    total = psutil.virtual_memory().total
    try:
        return min(total, int((memory.CGROUP / "memory.max").read_text()))
    except (OSError, ValueError):  # no such file, or "max"
        return total


def gb(n_bytes: int) -> str:
    """An amount of memory for people, in GB of a thousand million bytes."""
    return f"{n_bytes / 1e9:.1f} GB"
