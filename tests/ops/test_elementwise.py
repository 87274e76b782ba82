"""rms_norm, layer_norm, silu_mul, gegelu, add_bias and place_heads."""

from __future__ import annotations

import numpy as np
import pytest

from slmkit.errors import ShapeError
from slmkit.ops import reference

native = pytest.importorskip("slmkit.ops.native")

SETS = native.kernel_sets()
DIMS = [1, 15, 16, 17, 31, 96, 3072]


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, np.float32)


@pytest.mark.parametrize("dim", DIMS)
def test_rms_norm_is_the_reference(dim):
    x, w = draw(5, dim), draw(dim)
    ours = native.Native(SETS[0]).rms_norm(x, w, 1e-5)
    np.testing.assert_allclose(ours, reference.rms_norm(x, w, 1e-5), rtol=1e-6)  # the sum's order differs


@pytest.mark.parametrize("dim", DIMS)
def test_layer_norm_is_the_reference(dim):
    x, w, b = draw(5, dim) + 3, draw(dim), draw(dim + 1)[1:]
    ours = native.Native(SETS[0]).layer_norm(x, w, b, 1e-5)
    exact = x.astype(np.float64) - x.mean(-1, keepdims=True, dtype=np.float64)
    exact = exact / np.sqrt((exact * exact).mean(-1, keepdims=True) + 1e-5) * w + b
    # a mean of 3 is rounded to 2e-7 and divided by a deviation of 1; with one feature, by 0.003
    for out in (ours, reference.layer_norm(x, w, b, 1e-5)):
        np.testing.assert_allclose(out, exact, atol=5e-6 if dim > 1 else 1e-3)


@pytest.mark.parametrize("dim", DIMS)
def test_silu_mul_is_the_reference(dim):
    x = draw(5, 2 * dim) * 20
    ours = native.Native(SETS[0]).silu_mul(x)
    np.testing.assert_allclose(ours, reference.silu_mul(x), rtol=1e-6, atol=1e-30)  # our exp and NumPy's: 2 units each


@pytest.mark.parametrize("dim", DIMS)
def test_gegelu_is_the_reference(dim):
    x = draw(5, 2 * dim) * 20
    for limit in (20.0, 2.0):
        ours, expected = native.Native(SETS[0]).gegelu(x, limit), reference.gegelu(x, limit)
        np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-30)  # as silu_mul


@pytest.mark.parametrize("name", ["reference", *SETS])
def test_gegelu_limits_both_halves_and_shows_what_is_not_finite(name):
    ops = reference if name == "reference" else native.Native(name)
    gates, linears = [21, 21, 1, -300, np.inf, 1, np.nan], [0, 30, -25, 1, 1, -np.inf, 0]
    out = ops.gegelu(np.array([gates, linears], np.float32).T.reshape(1, -1), 20.0)[0]
    np.testing.assert_allclose(out[:3], [20, 420, -19 / (1 + np.exp(-1.702))], rtol=1e-6)
    assert abs(out[3]) < 1e-30
    assert np.isnan(out[4:]).all()


def test_silu_keeps_its_limits_and_nan():
    gate = np.array([[-np.inf, -200, -90, -88, -0.0, 0, 90, 200, np.inf, np.nan]], np.float32)
    out = native.Native(SETS[0]).silu_mul(np.concatenate((gate, np.ones_like(gate)), -1))[0]
    assert np.isnan(out[0])  # -inf / inf
    np.testing.assert_allclose(out[1:4], [0, 0, 0], atol=1e-35)
    assert (out[4:9] == np.array([0, 0, 90, 200, np.inf], np.float32)).all()
    assert np.isnan(out[9])


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("name", SETS)
def test_every_set_gives_the_same_bits_alone_and_in_a_batch(dim, name, threads):
    x, w = draw(40, dim), draw(dim)
    pairs = draw(40, 2 * dim) * 30
    threads(1)
    scalar = native.Native("scalar")
    gated = scalar.gegelu(pairs, 20.0)
    layer = scalar.layer_norm(x, w, x[0], 1e-6)
    norm, silu = scalar.rms_norm(x, w, 1e-6), native.Native("scalar").silu_mul(pairs)
    ops = native.Native(name)
    for n in (1, 2, 3):
        threads(n)
        assert ops.rms_norm(x, w, 1e-6).tobytes() == norm.tobytes()
        assert ops.gegelu(pairs, 20.0).tobytes() == gated.tobytes()
        assert ops.layer_norm(x, w, x[0], 1e-6).tobytes() == layer.tobytes()
        assert ops.silu_mul(pairs).tobytes() == silu.tobytes()
    assert ops.rms_norm(x[7:8], w, 1e-6).tobytes() == norm[7:8].tobytes()
    assert ops.gegelu(pairs[7:8], 20.0).tobytes() == gated[7:8].tobytes()
    assert ops.layer_norm(x[7:8], w, x[0], 1e-6).tobytes() == layer[7:8].tobytes()
    assert ops.silu_mul(pairs[7:8]).tobytes() == silu[7:8].tobytes()


@pytest.mark.parametrize("tokens", [1, 3, 40])
@pytest.mark.parametrize("dim", DIMS)
def test_a_bias_is_the_references_to_the_bit(dim, tokens):
    x, bias = draw(tokens, dim), draw(dim)
    ours = x.copy()
    assert native.Native(SETS[0]).add_bias(ours, bias) is ours
    np.testing.assert_array_equal(ours, reference.add_bias(x, bias))


@pytest.mark.parametrize("tokens", [1, 3, 200])
def test_heads_are_placed_as_in_the_reference_from_views_too(tokens):
    wide = draw(tokens, 11, 24)
    parts = [wide[:, :3], wide[:, 3:4], draw(tokens, 7, 24)]
    places = np.random.default_rng(0).permutation(11).astype(np.int32)
    ours = native.Native(SETS[0]).place_heads(parts, places)
    np.testing.assert_array_equal(ours, reference.place_heads(parts, places))
    np.testing.assert_array_equal(ours[:, places[3]], wide[:, 3])


def test_wrong_inputs_are_refused_in_one_sentence():
    ops = native.Native(SETS[0])
    with pytest.raises(ShapeError, match=r"weight has shape \(3\), not \(4\)"):
        ops.rms_norm(draw(2, 4), draw(3), 1e-5)
    with pytest.raises(ShapeError, match=r"bias has shape \(3\), not \(4\)"):
        ops.layer_norm(draw(2, 4), draw(4), draw(3), 1e-5)
    with pytest.raises(ShapeError, match="odd number"):
        ops.silu_mul(draw(2, 5))
    with pytest.raises(TypeError, match="float32"):
        ops.rms_norm(draw(2, 4).astype(np.float16), draw(4), 1e-5)
    with pytest.raises(ShapeError, match=r"bias has shape \(3\), not \(4\)"):
        ops.add_bias(draw(2, 4), draw(3))
    with pytest.raises(ShapeError, match="place 2 is not among the 2 heads"):
        ops.place_heads([draw(1, 2, 4)], np.array([0, 2], np.int32))
    with pytest.raises(ShapeError, match=r"places has shape \(1\), not \(2\)"):
        ops.place_heads([draw(1, 2, 4)], np.array([0], np.int32))
