"""Which implementation of the ops runs: picked once, at load."""

from __future__ import annotations

import math
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from slmkit.errors import OptionError
from slmkit.ops import reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from slmkit.ops.matrix import Matrix
    from slmkit.ops.segments import Segments
    from slmkit.ops.sparse import BlockSparse

    F32 = NDArray[np.float32]

HOW_TO_BUILD = (
    "the fast kernels were not built, since the install found no working C++ compiler; install one (Debian, Ubuntu: "
    "apt install g++ python3-dev; Fedora: dnf install gcc-c++ python3-devel; macOS: xcode-select --install) and "
    "install slmkit again, in its folder: pip install --force-reinstall --no-deps --no-cache-dir ."
)


class Ops(Protocol):
    """What a model computes with; `reference.py` says what each one means. A module or an object, it is the same.

    NAME: which it is.   description: that and its threads.   hint: how to get faster ones, or "".
    """

    @property
    def NAME(self) -> str: ...  # noqa: N802
    @property
    def description(self) -> str: ...
    @property
    def hint(self) -> str: ...
    def prepare(self, matrix: Matrix, /) -> Any: ...
    def pack(self, data: NDArray[Any], format: str, /) -> Matrix: ...
    def embed(self, weight: Any, ids: NDArray[np.int32], /) -> F32: ...
    def matmul(self, x: F32, weight: Any, /) -> F32: ...
    def rms_norm(self, x: F32, weight: F32, eps: float, /) -> F32: ...
    def layer_norm(self, x: F32, weight: F32, bias: F32, eps: float, /) -> F32: ...
    def route(self, scores: F32, eps: float, /) -> tuple[NDArray[np.int32], F32]: ...
    def draw(self, logits: F32, temperature: float, top_k: int, top_p: float, min_p: float, u: float, /) -> int: ...
    def silu_mul(self, gate_up: F32, /) -> F32: ...
    def gelu(self, x: F32, /) -> F32: ...
    def quick_gelu(self, x: F32, /) -> F32: ...
    def encode(self, q: F32, k: F32, v: F32, length: int, scale: float, /) -> F32: ...
    def add(self, x: F32, y: F32, /) -> F32: ...
    def add_bias(self, x: F32, bias: F32, /) -> F32: ...
    def place_heads(self, parts: Sequence[F32], places: NDArray[np.int32], /) -> F32: ...
    def gegelu(self, x: F32, limit: float, /) -> F32: ...
    def rotate_and_cache(
        self, q: F32, k: F32, v: F32, cos: F32, sin: F32, cache: NDArray[Any], layer: int, slots: NDArray[np.int64], /
    ) -> F32: ...
    def attention(
        self,
        q: F32,
        cache: NDArray[Any],
        layer: int,
        segments: Segments,
        scale: float,
        window: int = 0,
        sparse: BlockSparse | None = None,
        /,
    ) -> F32: ...


class _Reference:
    """The NumPy module, with a word on how to get the fast kernels."""

    NAME = reference.NAME
    description = reference.NAME + " (NumPy)"
    prepare = staticmethod(reference.prepare)
    pack = staticmethod(reference.pack)
    embed = staticmethod(reference.embed)
    matmul = staticmethod(reference.matmul)
    rms_norm = staticmethod(reference.rms_norm)
    layer_norm = staticmethod(reference.layer_norm)
    route = staticmethod(reference.route)
    draw = staticmethod(reference.draw)
    silu_mul = staticmethod(reference.silu_mul)
    gelu = staticmethod(reference.gelu)
    quick_gelu = staticmethod(reference.quick_gelu)
    encode = staticmethod(reference.encode)
    add = staticmethod(reference.add)
    add_bias = staticmethod(reference.add_bias)
    place_heads = staticmethod(reference.place_heads)
    gegelu = staticmethod(reference.gegelu)
    rotate_and_cache = staticmethod(reference.rotate_and_cache)
    attention = staticmethod(reference.attention)

    def __init__(self, hint: str) -> None:
        self.hint = hint


def choose(kernels: str = "auto", threads: int | None = None) -> Ops:
    """The ops to run a model with.

    kernels: "auto" is the best that this machine has; else a name from `available()`.
    threads: for the native kernels; None is one for each core.   Raises OptionError.
    """
    names = available()
    if kernels == "auto":
        kernels = names[0]
    if kernels not in names:
        raise OptionError(f"kernels {kernels!r} cannot run here; choose from auto, {', '.join(names)}")
    if threads is not None and not 1 <= threads <= 1024:
        raise OptionError(f"threads is {threads}; it must be from 1 to 1024")
    if kernels == reference.NAME:
        return _Reference("" if len(names) > 1 else _why_no_kernels())
    from slmkit.ops import native

    native.set_threads(threads or cores())
    return native.Native(kernels)


def available() -> list[str]:
    """Names that `choose` takes on this machine, best first."""
    try:
        from slmkit.ops import native
    except ImportError:
        return [reference.NAME]
    return [*native.kernel_sets(), reference.NAME]


def _why_no_kernels() -> str:
    if find_spec("slmkit.ops._native") is None:
        return HOW_TO_BUILD
    try:
        from slmkit.ops import native  # noqa: F401
    except ImportError as error:
        return f"the fast kernels are there and do not load ({error}); install slmkit again on this machine"
    return ""


def cores() -> int:
    """Cores that this process may use; two hardware threads of one core count once, since they share its units."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    found = len({_siblings(p) for p in os.sched_getaffinity(0)})
    return max(1, min(found, _quota()))


def _siblings(processor: int) -> str:
    path = Path(f"/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list")
    try:
        return path.read_text().strip()
    except OSError:
        return str(processor)


def _quota(path: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Processors that a container grants ("200000 100000", time of each period, is 2); very many where none are set."""
    try:
        granted, period = path.read_text().split()
        return math.ceil(int(granted) / int(period))
    except (OSError, ValueError):  # no such file; "max"
        return 1 << 20
