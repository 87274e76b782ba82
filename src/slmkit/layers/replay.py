"""Replay: steps of few rows run as one native call.

A decoded token is some three hundred calls of ops, and after each the kernels wait for Python, whose own memory they
have pushed out of the caches: 5 % of a token of Phi-3.5-mini. So the calls are recorded once for each shape of a step,
which rows have which adapter being part of it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slmkit.layers.step import Step, Strand
from slmkit.ops.segments import Segments

if TYPE_CHECKING:
    from slmkit.ops.recording import Recording

F32 = NDArray[np.float32]
Layers = Callable[[F32, Step, F32, F32], F32]

MOST_ROWS = 16  # of more, Python's share is too small to show
MOST_RECORDINGS = 16


@dataclass(frozen=True, eq=False)
class _Recorded:
    """A step of one shape.   arrays: what it reads, in the order of `_arrays`."""

    arrays: list[NDArray[Any]]
    cache: NDArray[Any]
    recording: Recording


class Replay:
    """The layers of a model, (embeddings, step, cos, sin) -> hidden states, with ops that may be able to record."""

    def __init__(self, ops: Any, layers: Layers) -> None:
        """layers: makes nothing but calls of ops and views, the same ones for the same shapes."""
        self.ops, self.layers = ops, layers
        self.most_rows = MOST_ROWS if hasattr(ops, "record") else 0
        self._by_shape: OrderedDict[tuple[Any, ...], _Recorded] = OrderedDict()

    def __call__(self, x: F32, step: Step, cos: F32, sin: F32) -> F32:
        if len(x) > self.most_rows:
            return self.layers(x, step, cos, sin)
        arrays = _arrays(x, step, cos, sin)
        shape = (*(array.shape for array in arrays), step.adapters)
        recorded = self._by_shape.pop(shape, None)
        if recorded is None or recorded.cache is not step.cache:
            recorded = self._record([array.copy() for array in arrays], step)
        self._by_shape[shape] = recorded
        if len(self._by_shape) > MOST_RECORDINGS:
            self._by_shape.popitem(last=False)  # used longest ago
        for to, array in zip(recorded.arrays, arrays, strict=True):
            np.copyto(to, array)
        return recorded.recording.run()

    def _record(self, arrays: list[NDArray[Any]], like: Step) -> _Recorded:
        x, cos, sin, *rest = arrays
        tables = zip(*(rest[i::4] for i in range(4)), strict=True)
        strands = tuple(Strand(slots, Segments(starts, firsts, blocks)) for slots, starts, firsts, blocks in tables)
        step = replace(like, strands=strands)
        recording = self.ops.record(lambda: self.layers(x, step, cos, sin), [*arrays, step.cache])
        return _Recorded(arrays, step.cache, recording)


def _arrays(x: F32, step: Step, cos: F32, sin: F32) -> list[NDArray[Any]]:
    """What a step's layers read: positions and features are in x, cos and sin."""
    found: list[NDArray[Any]] = [x, cos, sin]
    for strand in step.strands:
        s = strand.segments
        found += [strand.slots, s.starts, s.positions, s.blocks]
    return found
