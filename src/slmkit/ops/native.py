"""The ops in C++: the names and meanings of `reference.py`, with one kernel set of the native library.

Importing this raises ImportError where the library was not built; `choose.py` handles that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slmkit.errors import CheckpointError
from slmkit.ops import _native
from slmkit.ops.matrix import GGUF_FORMATS, SUPER_BYTES, Matrix, layout
from slmkit.ops.pack import NOT_FINITE, SCALE_NOT_FINITE
from slmkit.ops.recording import Buffers, Recorder, Recording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from slmkit.ops.segments import Segments
    from slmkit.ops.sparse import BlockSparse

F32 = NDArray[np.float32]
Weight = _native.Matrix

PORTABLE = (
    "this processor has neither AVX2 nor, if it is 64-bit ARM, dot products, so the portable kernels run, which are "
    "several times slower"
)


def kernel_sets() -> list[str]:
    """Names of the kernel sets that this processor can run, best first."""
    return [s.name for s in _native.kernel_sets()]


def set_threads(threads: int) -> None:
    """Share the work of each op among so many threads, the caller's included; for the whole process."""
    _native.set_thread_count(threads)


def threads() -> int:
    """What `set_threads` set, or the number of processors."""
    return _native.thread_count()


def prepare(matrix: Matrix) -> Weight:
    """The handle that `matmul` and `embed` take. It points into the matrix's arrays, mapped ones included."""
    if matrix.format == "q4_s":
        return _native.q4_s(matrix.n, matrix.k, matrix.data)
    if matrix.format in SUPER_BYTES:
        return _native.superblocks(matrix.format, matrix.n, matrix.k, matrix.data)
    if matrix.scale is None:
        return _native.dense(matrix.format, matrix.data)
    return _native.packed(matrix.format, matrix.n, matrix.k, matrix.data, matrix.scale)


def pack(data: NDArray[Any], format: str) -> Matrix:
    """As `pack.pack`, to the byte, on all threads.   data: [n, k], float32, float16, or bfloat16 held as uint16."""
    n, k = data.shape
    matrix = _empty(format, n, k)
    if not _native.pack(data, format, matrix.data, matrix.scale):
        raise CheckpointError(NOT_FINITE)
    return matrix


def repack(rows: NDArray[np.uint8], type: str, k: int) -> Matrix:
    """As `weights.gguf.repack.repack`, to the byte, on all threads.   rows: (n, row bytes), contiguous."""
    n, format = len(rows), GGUF_FORMATS[type]
    matrix = _empty(format, n, k)
    if not _native.repack(rows, type, k, matrix.data, matrix.scale):
        raise CheckpointError(SCALE_NOT_FINITE)
    return matrix


def _empty(format: str, n: int, k: int) -> Matrix:
    arrays: dict[str, Any] = {name: np.empty(shape, dtype) for name, (dtype, shape) in layout(format, n, k).items()}
    return Matrix(format, n, k, **arrays)


def limits() -> dict[str, float]:
    """What this machine can do at most right now, with the threads set and its best kernel set; under a second.

    Medians of many passes, so that they stand beside the speed of whole answers: where memory is shared with strangers,
    a pass of a few milliseconds may reach twice what a second does.
    read_bytes_per_s: plain reads of 256 MB, far over any cache.   int8_macs_per_s: 8-bit multiply-adds in registers.
    """
    best = _native.kernel_sets()[0]
    return {
        "read_bytes_per_s": best.read_bandwidth(bytes=1 << 28, passes=32),
        "int8_macs_per_s": best.multiply_rate(seconds=0.02, passes=15),
    }


def float_limit() -> float:
    """Float multiply-adds a second in registers, with the threads set and the best kernel set: attention's limit."""
    rate: float = _native.kernel_sets()[0].multiply_add_rate(seconds=0.02, passes=15)
    return rate


def _new(shape: tuple[int, ...]) -> F32:
    return np.empty(shape, np.float32)


class Native:
    """The ops, run by one kernel set. One thread uses it at a time."""

    prepare = staticmethod(prepare)
    pack = staticmethod(pack)
    repack = staticmethod(repack)

    def __init__(self, name: str) -> None:
        """name: one of `kernel_sets()`."""
        self.NAME = name
        self._set: Any = next(s for s in _native.kernel_sets() if s.name == name)
        self._new = _new
        self._buffers = Buffers()
        self.hint = PORTABLE if kernel_sets() == ["scalar"] else ""

    @property
    def description(self) -> str:
        n = threads()
        return f"{self.NAME}, {n} thread{'s' if n > 1 else ''}"

    def record(self, function: Callable[[], F32], inputs: Iterable[NDArray[Any]]) -> Recording:
        """The calls that `function` makes, not run yet. It may do nothing with arrays but call ops and take views.

        inputs: arrays that it reads and others fill before each run.
        """
        tape, kernels = _native.Tape(), self._set
        self._set, self._new = Recorder(kernels, tape, inputs), self._buffers.new
        try:
            return Recording(tape, function(), self._buffers)
        finally:
            self._set, self._new = kernels, _new

    def embed(self, weight: Weight, ids: NDArray[np.int32]) -> F32:
        out = self._new((len(ids), weight.k))
        self._set.embed(weight, ids, out)
        return out

    def matmul(self, x: F32, weight: Weight) -> F32:
        out = self._new((x.shape[0], weight.n))
        self._set.matmul(x, weight, out)
        return out

    def rms_norm(self, x: F32, weight: F32, eps: float) -> F32:
        out = self._new(x.shape)
        self._set.rms_norm(x, weight, eps, out)
        return out

    def layer_norm(self, x: F32, weight: F32, bias: F32, eps: float) -> F32:
        out = self._new(x.shape)
        self._set.layer_norm(x, weight, bias, eps, out)
        return out

    def route(self, scores: F32, eps: float) -> tuple[NDArray[np.int32], F32]:
        chosen, weights = np.empty((len(scores), 2), np.int32), np.empty((len(scores), 2), np.float32)
        self._set.route(scores, eps, chosen, weights)
        return chosen, weights

    def draw(self, logits: F32, temperature: float, top_k: int, top_p: float, min_p: float, u: float) -> int:
        return int(self._set.draw(logits, temperature, top_k, top_p, min_p, u))

    def silu_mul(self, gate_up: F32) -> F32:
        out = self._new((gate_up.shape[0], gate_up.shape[1] // 2))
        self._set.silu_mul(gate_up, out)
        return out

    def gelu(self, x: F32) -> F32:
        out = self._new(x.shape)
        self._set.gelu(x, out)
        return out

    def quick_gelu(self, x: F32) -> F32:
        out = self._new(x.shape)
        self._set.quick_gelu(x, out)
        return out

    def encode(self, q: F32, k: F32, v: F32, length: int, scale: float) -> F32:
        out = self._new((q.shape[0], q.shape[1] * q.shape[2]))
        self._set.encode(q, k, v, length, scale, out)
        return out

    def add(self, x: F32, y: F32) -> F32:
        self._set.add(x, y)
        return x

    def add_bias(self, x: F32, bias: F32) -> F32:
        self._set.add_bias(x, bias)
        return x

    def place_heads(self, parts: Sequence[F32], places: NDArray[np.int32]) -> F32:
        tokens, _, head_dim = parts[0].shape
        out, first = self._new((tokens, len(places), head_dim)), 0
        for part in parts:
            last = first + part.shape[1]
            self._set.place_heads(part, places[first:last], out)
            first = last
        return out

    def gegelu(self, x: F32, limit: float) -> F32:
        out = self._new((x.shape[0], x.shape[1] // 2))
        self._set.gegelu(x, limit, out)
        return out

    def rotate_and_cache(
        self, q: F32, k: F32, v: F32, cos: F32, sin: F32, cache: NDArray[Any], layer: int, slots: NDArray[np.int64]
    ) -> F32:
        out = self._new(q.shape)
        self._set.rotate_and_cache(q, k, v, cos, sin, cache, layer, slots, out)
        return out

    def attention(
        self,
        q: F32,
        cache: NDArray[Any],
        layer: int,
        segments: Segments,
        scale: float,
        window: int = 0,
        sparse: BlockSparse | None = None,
    ) -> F32:
        out = self._new((q.shape[0], q.shape[1] * q.shape[2]))
        s = segments
        pattern = None if sparse is None else (sparse.size, sparse.local, sparse.stride, sparse.shifts)
        self._set.attention(q, cache, layer, s.starts, s.positions, s.blocks, scale, window, pattern, out)
        return out
