"""What an adapter adds to a product: the definition, and the same bits from every kernel set, batch and thread."""

from __future__ import annotations

import numpy as np
import pytest

from slmkit.errors import ShapeError
from slmkit.ops import reference
from slmkit.ops.matrix import Matrix

native = pytest.importorskip("slmkit.ops.native")

SETS = native.kernel_sets()
SHAPES = [(1, 1, 1), (15, 17, 2), (16, 96, 16), (17, 33, 5), (65, 64, 8), (600, 3072, 16)]  # n, k, rank
FORMATS = ["f32", "f16", "bf16"]


def matrix(n: int, k: int, format: str) -> Matrix:
    values = np.random.default_rng(n + k).standard_normal((n, k), np.float32)
    held = {"f32": values, "f16": values.astype(np.float16), "bf16": (values.view(np.uint32) >> 16).astype(np.uint16)}
    return Matrix(format, n, k, held[format])


def drawn(n: int, k: int, rank: int, format: str = "f32", tokens: int = 19):
    rng = np.random.default_rng(n)
    out, x = rng.standard_normal((tokens, n), np.float32), rng.standard_normal((tokens, k), np.float32)
    return out, x, (matrix(rank, k, format), matrix(n, rank, format), 1.5)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("n", "k", "rank"), SHAPES)
def test_it_is_the_reference(n, k, rank, format):
    out, x, pair = drawn(n, k, rank, format)
    ops = native.Native(SETS[0])
    ours = ops.add_low_rank(out.copy(), x, ops.low_rank(*pair))
    theirs = reference.add_low_rank(out.copy(), x, reference.low_rank(*pair))
    # sums in other orders; of the terms' own size
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-6 * (k * rank) ** 0.5)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("n", "k", "rank"), SHAPES)
def test_every_set_gives_the_same_bits_alone_and_in_a_batch(n, k, rank, format, name, threads):
    out, x, pair = drawn(n, k, rank, format)
    threads(1)
    scalar, ops = native.Native("scalar"), native.Native(name)
    expected = scalar.add_low_rank(out.copy(), x, scalar.low_rank(*pair))
    weight = ops.low_rank(*pair)
    for count in (1, 2, 3):
        threads(count)
        for tokens in (1, 2, 3, 4, 5, 19):
            found = ops.add_low_rank(out[:tokens].copy(), x[:tokens], weight)
            assert found.tobytes() == expected[:tokens].tobytes(), (count, tokens)


def test_the_sum_is_by_fma_in_order_and_then_added():
    b, low = np.float32([1.1, 2.3, 3.7]), np.float32([0.7, -1.9, 0.3])
    total = np.float32(0)
    for w, by in zip(b, low, strict=True):
        total = np.float32(np.float64(w) * np.float64(by) + np.float64(total))  # exact but for one rounding
    a = Matrix("f32", 3, 3, np.eye(3, dtype=np.float32))
    ops = native.Native(SETS[0])
    weight = ops.low_rank(a, Matrix("f32", 1, 3, b[None]), 1.0)
    assert ops.add_low_rank(np.float32([[5.3]]), low[None], weight)[0, 0] == np.float32(5.3) + total


def test_wrong_shapes_are_refused():
    out, x, pair = drawn(16, 8, 2)
    ops = native.Native(SETS[0])
    weight = ops.low_rank(*pair)
    with pytest.raises(ShapeError, match=r"x has shape \(19, 7\), not \(19, 8\)"):
        ops.add_low_rank(out, np.ascontiguousarray(x[:, :7]), weight)
    with pytest.raises(ShapeError, match=r"out has shape \(3, 16\), not \(19, 16\)"):
        ops.add_low_rank(out[:3], x, weight)
    with pytest.raises(ShapeError, match=r"b has shape \(1, 3, 16\), not \(1, 2, 16\)"):
        ops.low_rank(pair[0], matrix(16, 3, "f32"), 1.0)
