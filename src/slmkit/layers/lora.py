"""LoRA: products of a model's matrices to which adapters add their own, W x + B (A x), row by row. Nothing is merged.

Source: arXiv 2106.09685; the scale alpha / r is part of B here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slmkit.ops.matrix import Matrix

if TYPE_CHECKING:
    from slmkit.layers.step import Span

F32 = NDArray[np.float32]


class Pair(NamedTuple):
    """What an adapter adds to one matrix [out, in].   a: (r, in).   b: (out, r), scaled. Both are plain float32."""

    a: Matrix
    b: Matrix


Pairs = Mapping[str, Pair]  # by the name of the matrix, without `.weight`


class AdaptedOps:
    """Ops whose products with the matrices of a model add what adapters make of the rows that `of_rows` names.

    The rows of one adapter lie side by side, so that it works on views, and steps can be recorded (layers/replay.py).
    Sums of the dense products that it adds depend on nothing but the row, so neither do the results.
    """

    def __init__(self, ops: Any, weights: Mapping[str, Any], adapters: Mapping[str, Pairs], tied: bool) -> None:
        """weights: of the model that will be built with these ops.   tied: whether the embedding is its head too."""
        self._ops = ops
        self._adapters = adapters
        self._names = {id(w): name.removesuffix(".weight") for name, w in weights.items() if isinstance(w, Matrix)}
        if tied:
            self._names[id(weights["model.embed_tokens.weight"])] = "lm_head"
        self._pairs: dict[int, dict[str, tuple[Any, Any]]] = {}
        self.spans: tuple[Span, ...] = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ops, name)

    def prepare(self, matrix: Matrix) -> Any:
        """The model's handle; with it go those of the adapters that have something for this matrix."""
        weight = self._ops.prepare(matrix)
        name = self._names.get(id(matrix), "")
        found = {own: pairs[name] for own, pairs in self._adapters.items() if name in pairs}
        if found:
            prepare = self._ops.prepare
            self._pairs[id(weight)] = {own: (prepare(pair.a), prepare(pair.b)) for own, pair in found.items()}
        return weight

    def matmul(self, x: F32, weight: Any) -> F32:
        """x W^T, and x A^T B^T of each row's adapter."""
        out: F32 = self._ops.matmul(x, weight)
        pairs = self._pairs.get(id(weight)) if self.spans else None
        for adapter, start, end in self.spans if pairs else ():
            if pair := pairs.get(adapter):  # type: ignore[union-attr]
                low = self._ops.matmul(x[start:end], pair[0])
                self._ops.add(out[start:end], self._ops.matmul(low, pair[1]))
        return out


@contextmanager
def spans_of(ops: Any, spans: tuple[Span, ...]) -> Iterator[None]:
    """Let the rows of products be adapted so, for the time being. Plain ops take no spans, and have none."""
    before = getattr(ops, "spans", ())
    if spans == before:
        yield
        return
    ops.spans = spans
    try:
        yield
    finally:
        ops.spans = before


@contextmanager
def rows_of(ops: Any, rows: NDArray[Any]) -> Iterator[None]:
    """As spans_of, for products with some of the rows, in ascending order."""
    with spans_of(ops, spans_among(getattr(ops, "spans", ()), rows)):
        yield


def spans_among(spans: tuple[Span, ...], rows: Sequence[int] | NDArray[Any]) -> tuple[Span, ...]:
    """The spans in an array made of these rows, which are in ascending order."""
    found = []
    for span in spans:
        start, end = np.searchsorted(rows, (span.start, span.end)).tolist()
        if end > start:
            found.append(span._replace(start=start, end=end))
    return tuple(found)
