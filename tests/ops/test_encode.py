"""gelu, quick_gelu and encode: what a vision tower needs beside the ops of a decoder."""

from __future__ import annotations

import math

import numpy as np
import pytest

from slmkit.errors import ShapeError
from slmkit.ops import reference

native = pytest.importorskip("slmkit.ops.native")

SETS = native.kernel_sets()


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, np.float32)


@pytest.mark.parametrize("dim", [1, 15, 16, 17, 100])
def test_gelu_and_quick_gelu_are_the_reference(dim):
    x = draw(5, dim) * 2
    ops = native.Native(SETS[0])
    np.testing.assert_allclose(ops.gelu(x), reference.gelu(x), rtol=2e-6)
    np.testing.assert_allclose(ops.quick_gelu(x), reference.quick_gelu(x), rtol=1e-6)


def test_gelu_is_exact_far_from_zero_too():
    x = np.linspace(-13, 13, 20001, dtype=np.float32)[None]
    exact = np.array([v * 0.5 * math.erfc(-v * math.sqrt(0.5)) for v in x[0].tolist()])
    ours = native.Native(SETS[0]).gelu(x)[0]
    # the exponent reaches -85, where half a unit of it is 4e-6
    np.testing.assert_allclose(ours, exact, rtol=8e-6, atol=1e-37)


def test_both_keep_their_limits_and_nan():
    x = np.array([[-np.inf, -200, -0.0, 0, 200, np.inf, np.nan]], np.float32)
    gelu, quick = (getattr(native.Native(SETS[0]), name)(x)[0] for name in ("gelu", "quick_gelu"))
    assert gelu[:6].tolist() == [0, 0, 0, 0, 200, np.inf]
    assert quick[1:6].tolist() == [0, 0, 0, 200, np.inf]
    assert np.isnan(gelu[6])
    assert np.isnan(quick[6])


@pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 64, 129, 577])
@pytest.mark.parametrize("dim", [8, 16, 24, 64])
def test_encode_is_the_reference(length, dim):
    q, k, v = (draw(2 * length, 3, dim + i)[:, :, :dim] for i in range(3))
    q, k, v = (np.ascontiguousarray(x) for x in (q, k, v))
    ours = native.Native(SETS[0]).encode(q, k, v, length, dim**-0.5)
    # sums of 577 products in another order
    np.testing.assert_allclose(ours, reference.encode(q, k, v, length, dim**-0.5), atol=5e-6)


def test_encode_sees_every_row_of_its_run_and_no_other():
    q, k, v = draw(6, 2, 16), draw(7, 2, 16)[:6], draw(8, 2, 16)[:6]
    ops = native.Native(SETS[0])
    out = ops.encode(q, k, v, 3, 1.0)
    for row in range(6):
        changed = v.copy()
        changed[row] += 1
        moved = np.abs(ops.encode(q, k, changed, 3, 1.0) - out).max(-1) > 0
        assert moved.tolist() == [row // 3 == i // 3 for i in range(6)]


@pytest.mark.parametrize("name", SETS)
def test_every_set_gives_the_same_bits_alone_and_in_a_batch(name, threads):
    q, k, v = draw(99, 2, 40), draw(100, 2, 40)[:99], draw(101, 2, 40)[:99]
    threads(1)
    scalar = native.Native("scalar")
    encoded, gelu, quick = scalar.encode(q, k, v, 33, 0.2), scalar.gelu(q[:, 0] * 9), scalar.quick_gelu(q[:, 0] * 9)
    ops = native.Native(name)
    for n in (1, 2, 3):
        threads(n)
        assert ops.encode(q, k, v, 33, 0.2).tobytes() == encoded.tobytes()
        assert ops.gelu(q[:, 0] * 9).tobytes() == gelu.tobytes()
        assert ops.quick_gelu(q[:, 0] * 9).tobytes() == quick.tobytes()
    assert ops.encode(q[33:66], k[33:66], v[33:66], 33, 0.2).tobytes() == encoded[33:66].tobytes()


def test_rows_of_a_wider_array_need_no_copy():
    wide = draw(10, 6, 16)
    q, k, v = wide[:, :2], wide[:, 2:4], wide[:, 4:]
    ops = native.Native(SETS[0])
    apart = [np.ascontiguousarray(x) for x in (q, k, v)]
    assert ops.encode(q, k, v, 5, 0.25).tobytes() == ops.encode(*apart, 5, 0.25).tobytes()


@pytest.mark.parametrize("ops", [reference, native.Native(SETS[0])], ids=["reference", "native"])
def test_wrong_shapes_are_refused(ops):
    q = draw(6, 2, 16)
    with pytest.raises(ShapeError):
        ops.encode(q, q, q, 4, 1.0)
    with pytest.raises(ShapeError):
        ops.encode(q, q[:, :1], q, 3, 1.0)
    with pytest.raises(ShapeError):
        ops.encode(q, q, q, 0, 1.0)
