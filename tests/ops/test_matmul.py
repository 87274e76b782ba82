"""Matrix products: native against the NumPy definition, and every kernel set against the scalar one to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from slmkit.errors import ShapeError
from slmkit.ops import reference
from slmkit.ops.matrix import DENSE, PACKED, Matrix, layout
from slmkit.ops.pack import pack

native = pytest.importorskip("slmkit.ops._native") and pytest.importorskip("slmkit.ops.native")

SETS = native.kernel_sets()
FORMATS = (*DENSE, *PACKED, "q4_s")  # the K formats: test_superblocks.py
# Around the tile's 16 rows, the group's 32 inputs, q4_s's units of 64, superblocks of 256 and panels of 1024, and one
# real width.
SHAPES = [(1, 1), (15, 31), (16, 32), (17, 33), (48, 96), (40, 3072), (5, 100)]
SHAPES += [(16, 63), (16, 64), (33, 65), (17, 255), (16, 256), (40, 257), (16, 1024), (18, 1025), (5, 1090)]
# Around the 4 tokens that few rows are cut into, the 8 or 16 up to which a tile is read packed, and a panel's 6 and 12.
TOKENS = [1, 2, 3, 4, 5, 8, 9, 12, 13, 16, 17, 31]


def matrix(format: str, n: int, k: int, seed: int = 0) -> Matrix:
    w = np.random.default_rng(seed).standard_normal((n, k), np.float32)
    if format in ("q4", "q8", "q4_s"):
        return pack(w, format)
    if format == "bf16":
        return Matrix(format, n, k, (w.view(np.uint32) >> 16).astype(np.uint16))
    return Matrix(format, n, k, w.astype(DENSE[format]))


def inputs(tokens: int, k: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((tokens, k), np.float32)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_product_is_the_reference_product(format, n, k):
    m, x = matrix(format, n, k), inputs(13, k)
    expected = reference.matmul(x, reference.prepare(m))
    ours = native.Native(SETS[0]).matmul(x, native.prepare(m))
    # float32 sums in another order: about sqrt(k) roundings of 6e-8 of the largest partial sum
    assert np.abs(ours - expected).max() <= 2e-6 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("n", "k"), SHAPES)
@pytest.mark.parametrize("name", SETS)
def test_every_set_gives_the_same_bits(format, n, k, name):
    m = native.prepare(matrix(format, n, k))
    for tokens in TOKENS if k < 3072 else [1, 9]:
        x = inputs(tokens, k)
        expected = native.Native("scalar").matmul(x, m)
        assert native.Native(name).matmul(x, m).tobytes() == expected.tobytes(), tokens


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("n", [32, 144, 150, 304])  # pairs of tiles, the 8 whose sums are kept together, one more
@pytest.mark.parametrize("tokens", [64, 65, 263, 264, 265])  # results past the caches; most tokens at once
def test_many_rows_and_tokens_give_the_same_bits(n, tokens, name):
    m, x = native.prepare(matrix("q4_s", n, 1344)), inputs(tokens, 1344)
    assert native.Native(name).matmul(x, m).tobytes() == native.Native("scalar").matmul(x, m).tobytes()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", SETS)
def test_a_row_alone_equals_the_row_in_any_batch_with_any_threads(format, name, threads):
    ops, m = native.Native(name), native.prepare(matrix(format, 130, 200))
    x = inputs(37, 200)
    native.set_threads(1)
    alone = np.concatenate([ops.matmul(x[i : i + 1], m) for i in range(len(x))])
    for n in (1, 2, 3):
        threads(n)
        for tokens in (2, 5, 8, 9, 13, 17, 37):
            assert ops.matmul(x[:tokens], m).tobytes() == alone[:tokens].tobytes(), (n, tokens)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("format", ["q4", "q4_s"])
def test_blocks_of_tokens_do_not_show(format, name):
    """3072 inputs: blocks of 168 tokens; 400 tokens are three of them. q4_s: of at most 264, here of 216."""
    ops, m, x = native.Native(name), native.prepare(matrix(format, 16, 3072)), inputs(410, 3072)
    whole = ops.matmul(x, m)
    for i in (0, 167, 168, 215, 216, 335, 336, 399, 409):
        assert ops.matmul(x[i : i + 1], m).tobytes() == whole[i : i + 1].tobytes()


@pytest.mark.parametrize("format", ["q4", "q8", "q4_s"])
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("scale", [0.0, 1e-44, 1.5e-38, 1e-30, 1e30, 1e35])
def test_inputs_of_any_magnitude_are_rounded_as_defined(format, name, scale):
    m, x = matrix(format, 20, 70), inputs(3, 70) * np.float32(0.2)
    x = (x * np.float32(scale)).astype(np.float32)
    with np.errstate(all="ignore"):
        expected = reference.matmul(x, reference.prepare(m))
        ours = native.Native(name).matmul(x, native.prepare(m))
    np.testing.assert_array_equal(np.isfinite(ours), np.isfinite(expected))
    ok = np.isfinite(expected)
    assert (np.abs(ours - expected)[ok] <= 2e-6 * np.abs(expected[ok]).max(initial=0)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("format", ["q4", "q4_s"])
@pytest.mark.parametrize("name", SETS)
def test_a_nan_or_infinity_shows_in_its_own_row_alone(bad, name, format):
    m, x = native.prepare(matrix(format, 20, 70)), inputs(9, 70)
    clean = native.Native(name).matmul(x, m)
    x[4, 33] = bad
    out = native.Native(name).matmul(x, m)
    assert np.isnan(out[4]).all()
    keep = [i for i in range(9) if i != 4]
    assert out[keep].tobytes() == clean[keep].tobytes()


def test_largest_integers_do_not_overflow():
    """All weights and inputs at their extremes: the sums that 16-bit lanes must hold."""
    n, k = 16, 64
    for stored, q4 in ((0, -8), (0xFF, 7)):
        m = Matrix("q4", n, k, np.full((1, 2, 256), stored, np.uint8), np.ones((1, 2, 16), np.float16))
        for sign in (1, -1):
            x = np.full((20, k), sign * 127, np.float32)
            for name in SETS:
                assert (native.Native(name).matmul(x, native.prepare(m)) == q4 * sign * 127 * k).all()
    for nibble, integer in ((0, -8), (0xFF, 7)):
        for word, scale in ((0x8888, -8), (0x7777, 7)):
            data = np.full((1, 32 + 544), nibble, np.uint8)
            data[0, :32] = np.ones(16, np.float16).view(np.uint8)
            data[0, 32:64] = np.full(16, word, np.uint16).view(np.uint8)
            m = Matrix("q4_s", n, k, data)
            for sign in (1, -1):
                x = np.full((20, k), sign * 127, np.float32)
                for name in SETS:
                    for tokens in (1, 2, 4, 20):
                        out = native.Native(name).matmul(x[:tokens], native.prepare(m))
                        assert (out == integer * scale * sign * 127 * k).all()
    for q8 in (-128, -127, 127):
        m = Matrix("q8", n, k, np.full((1, 2, 512), q8, np.int8), np.ones((1, 2, 16), np.float16))
        for sign in (1, -1):
            x = np.full((20, k), sign * 127, np.float32)
            for name in SETS:
                assert (native.Native(name).matmul(x, native.prepare(m)) == sign * 127 * q8 * k).all()


@pytest.mark.parametrize("name", SETS)
def test_q8_takes_all_integers_of_8_bits(name):
    """Our own packer writes -127..127; what is repacked from other files has -128 too."""
    data = np.random.default_rng(5).integers(-128, 128, (3, 8, 512), np.int8)
    data[0] = -128
    m = Matrix("q8", 40, 250, data, np.random.default_rng(6).standard_normal((3, 8, 16)).astype(np.float16))
    for tokens in TOKENS:
        x = inputs(tokens, 250)
        ours = native.Native(name).matmul(x, native.prepare(m))
        assert ours.tobytes() == native.Native("scalar").matmul(x, native.prepare(m)).tobytes()
        expected = reference.matmul(x, reference.prepare(m))
        assert np.abs(ours - expected).max() <= 2e-6 * np.abs(expected).max()  # as for any product


@pytest.mark.parametrize("format", FORMATS)
def test_embed_gathers_rows_of_the_matrix(format):
    m = matrix(format, 35, 70)
    ids = np.array([0, 34, 16, 15, 16], np.int32)
    expected = reference.embed(reference.prepare(m), ids)
    assert native.Native("scalar").embed(native.prepare(m), ids).tobytes() == expected.tobytes()


def test_no_rows_give_no_rows():
    for format in FORMATS:
        out = native.Native(SETS[0]).matmul(np.empty((0, 32), np.float32), native.prepare(matrix(format, 16, 32)))
        assert out.shape == (0, 16)


def test_wrong_inputs_are_refused_in_one_sentence():
    ops, m = native.Native(SETS[0]), native.prepare(matrix("q4", 16, 32))
    with pytest.raises(ShapeError, match="x has 31 features, the matrix takes 32"):
        ops.matmul(np.zeros((1, 31), np.float32), m)
    with pytest.raises(ShapeError, match="2 axes"):
        ops.matmul(np.zeros((1, 1, 32), np.float32), m)
    with pytest.raises(ShapeError, match="contiguous"):
        ops.matmul(np.zeros((32, 4), np.float32).T, m)
    with pytest.raises(TypeError, match="x must be an array of float32"):
        ops.matmul(np.zeros((1, 32), np.float64), m)
    with pytest.raises(ShapeError, match="id 16 is outside the table's 16 rows"):
        ops.embed(m, np.array([16], np.int32))
    with pytest.raises(ShapeError, match="id -1 is outside"):
        ops.embed(m, np.array([-1], np.int32))
    with pytest.raises(TypeError, match="ids must be an array of int32"):
        ops.embed(m, np.array([0], np.int64))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("n", "k"), [(0, 32), (16, 0)])
def test_an_empty_matrix_is_refused(format, n, k):
    """The sizes of blocks of tokens are quotients by the bytes of a row."""
    arrays = {name: np.zeros(shape, dtype) for name, (dtype, shape) in layout(format, n, k).items()}
    with pytest.raises(ShapeError, match=rf"a matrix \[{n}, {k}\] is empty"):
        native.prepare(Matrix(format, n, k, **arrays))


def test_a_handle_keeps_its_arrays_alive():
    def handle():
        return native.prepare(matrix("q8", 16, 32))

    m, x = handle(), inputs(2, 32)
    filler = [np.full(512, 77, np.int8) for _ in range(200)]  # would take the freed memory
    expected = reference.matmul(x, reference.prepare(matrix("q8", 16, 32)))
    assert np.allclose(native.Native("scalar").matmul(x, m), expected, atol=1e-5)
    assert filler[0][0] == 77
    assert (m.n, m.k, m.nbytes, m.format) == (16, 32, 512 + 32, "q8")
