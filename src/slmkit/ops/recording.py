"""Recording calls of native ops, so that the same work is run again without Python between the kernels.

Arrays that ops make while they are recorded lie in buffers that are used again once nobody holds the array: in a run
the calls come in the same order, so what was free then is free then too.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slmkit.ops import _native

F32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Recording:
    """What `run` computes from what the inputs hold then, into `out`. The inputs stay where they are."""

    tape: _native.Tape
    out: F32
    buffers: Buffers  # which the tape points into

    def run(self) -> F32:
        """The result, in an array of the caller's own."""
        self.tape.run()
        return self.out.copy()


class _Buffer(np.ndarray[Any, np.dtype[np.float32]]):
    """Memory of a recorded array. A type of its own, so that NumPy keeps the array as the base of views of it."""


class Buffers:
    """Memory for the arrays of recordings, of which one runs at a time."""

    def __init__(self) -> None:
        self._free: dict[int, list[_Buffer]] = {}

    def new(self, shape: tuple[int, ...]) -> F32:
        """An array that no op has filled."""
        size = math.prod(shape)
        free = self._free.setdefault(size, [])
        buffer = free.pop() if free else _Buffer(size, np.float32)
        array: F32 = np.ndarray(shape, np.float32, buffer)
        weakref.finalize(array, free.append, buffer).atexit = False
        return array


class Recorder:
    """Stands for a kernel set while its calls are recorded.

    An array that no op made, that is no input and can be written (NumPy's sum of two results, say) would be filled in
    this run only. It is refused with a TypeError.
    """

    def __init__(self, kernels: _native.KernelSet, tape: _native.Tape, inputs: Iterable[NDArray[Any]]) -> None:
        self._kernels = kernels.onto(tape)
        self._inputs = {id(_owner(array)) for array in inputs}

    def __getattr__(self, name: str) -> Callable[..., None]:
        op = getattr(self._kernels, name)

        def record(*args: Any) -> None:
            for number, arg in enumerate(args):
                if isinstance(arg, np.ndarray) and not self._is_known(arg):
                    raise TypeError(f"argument {number} of {name} is an array of which a recording knows no origin")
            op(*args)

        return record

    def _is_known(self, array: NDArray[Any]) -> bool:
        owner = _owner(array)
        return id(owner) in self._inputs or isinstance(owner.base, _Buffer) or not array.flags.writeable


def _owner(array: NDArray[Any]) -> NDArray[Any]:
    while type(array.base) is np.ndarray:
        array = array.base
    return array
