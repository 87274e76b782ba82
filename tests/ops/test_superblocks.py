"""The K formats: their bytes, and native against the definition, every kernel set and batch to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from slmkit.errors import ShapeError
from slmkit.ops import reference
from slmkit.ops.matrix import GROUP, SUPER_BYTES, TILE, Matrix
from slmkit.ops.pack import unpack

FORMATS = list(SUPER_BYTES)
SHAPES = [(1, 256), (16, 512), (35, 256), (40, 3072)]
# Around the 4 tokens that few rows are cut into, the 8 or 16 up to which a tile is read packed, and a panel's 6 and 12.
TOKENS = [1, 2, 3, 4, 5, 8, 9, 12, 13, 16, 17, 64]


def header_bytes(format: str) -> int:
    return 32 if format == "q6_k" else 64


def group_of(m: Matrix, row: int, i: int) -> np.ndarray:
    """The bytes of the group that holds input i of a row."""
    header = header_bytes(m.format)
    return m.data[row // TILE, i // 256, header:].reshape(8, -1)[i % 256 // GROUP]


def set_header(m: Matrix, d: float, dmin: float = 0.0) -> Matrix:
    header = np.array([d] * 16 + [dmin] * 16, np.float16).view(np.uint8)
    m.data[..., : header_bytes(m.format)] = header[: header_bytes(m.format)]
    return m


def matrix(format: str, n: int, k: int, seed: int = 0) -> Matrix:
    """All integers, scales and minima occur, and d, dmin of both signs; the first row's are 0."""
    rng = np.random.default_rng(seed)
    shape = (-(-n // TILE), k // 256, SUPER_BYTES[format])
    data = rng.integers(0, 256, shape, np.uint8)
    d = (rng.standard_normal((*shape[:2], header_bytes(format) // 2)) * 1e-3).astype(np.float16)
    d[0, :, 0] = 0
    data[..., : header_bytes(format)] = d.view(np.uint8)
    return Matrix(format, n, k, data)


def inputs(tokens: int, k: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((tokens, k), np.float32)


def kernel_sets() -> list[str]:
    try:
        from slmkit.ops import native
    except ImportError:
        return []
    return native.kernel_sets()


@pytest.fixture
def native():
    return pytest.importorskip("slmkit.ops.native")


@pytest.mark.parametrize("format", FORMATS)
def test_every_bit_lies_where_matrix_py_says(format):
    m = matrix(format, 35, 512)
    w, header = unpack(m), header_bytes(format)
    rng = np.random.default_rng(2)
    for row, i in zip(rng.integers(0, 35, 500), rng.integers(0, 512, 500), strict=True):
        r, p, j, group = row % 16, i % 32 // 4, i % 4, group_of(m, row, i)
        both = group[-256:][64 * (p // 2) + 4 * r + j]
        high = group[32:-256]
        q = int(both >> 4 if p % 2 else both & 15)
        halves = m.data[row // 16, i // 256, :header].view(np.float16).astype(np.float32)
        if format == "q6_k":
            q |= (int(high[64 * (r // 8) + 32 * (p // 4) + 4 * (r % 8) + j]) >> 2 * (p % 4) & 3) << 4
            scale = halves[r] * group[:32].view(np.int8)[r + 16 * (p // 4)]
            assert w[row, i] == scale * np.float32(q - 32)
        else:
            if format == "q5_k":
                q |= (int(high[32 * (r // 8) + 4 * (r % 8) + j]) >> p & 1) << 4
            assert w[row, i] == halves[r] * group[r] * np.float32(q) - halves[16 + r] * group[16 + r]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_product_is_the_reference_product(format, n, k, native):
    m, x = matrix(format, n, k), inputs(13, k)
    expected = reference.matmul(x, reference.prepare(m))
    ours = native.Native(native.kernel_sets()[0]).matmul(x, native.prepare(m))
    # float32 sums in another order: about sqrt(k) roundings of 6e-8 of the largest partial sum. The minima are summed
    # apart from the rest, so partial sums can be some times the result.
    assert np.abs(ours - expected).max() <= 4e-6 * np.abs(expected).max()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("n", "k"), SHAPES)
@pytest.mark.parametrize("name", kernel_sets())
def test_every_set_gives_the_same_bits(format, n, k, name, native):
    m = native.prepare(matrix(format, n, k))
    for tokens in TOKENS if k < 3072 else [1, 9]:
        x = inputs(tokens, k)
        expected = native.Native("scalar").matmul(x, m)
        assert native.Native(name).matmul(x, m).tobytes() == expected.tobytes(), tokens


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", kernel_sets())
def test_a_row_alone_equals_the_row_in_any_batch_with_any_threads(format, name, native, threads):
    ops, m = native.Native(name), native.prepare(matrix(format, 130, 512))
    x = inputs(37, 512)
    native.set_threads(1)
    alone = np.concatenate([ops.matmul(x[i : i + 1], m) for i in range(len(x))])
    for n in (1, 2, 3):
        threads(n)
        for tokens in (2, 5, 8, 9, 13, 17, 37):
            assert ops.matmul(x[:tokens], m).tobytes() == alone[:tokens].tobytes(), (n, tokens)


@pytest.mark.parametrize("format", FORMATS)
def test_embed_gives_the_rows_of_the_definition_exactly(format, native):
    m = matrix(format, 35, 512)
    ids = np.array([0, 34, 16, 15, 16], np.int32)
    ours = native.Native("scalar").embed(native.prepare(m), ids)
    assert ours.tobytes() == unpack(m)[ids].tobytes()


# Signs of the inputs: what the pairs and fours of inputs that kernels add side by side can be at most.
SIGNS = {"plus": [1, 1, 1, 1], "minus": [-1, -1, -1, -1], "pairs": [1, 1, -1, -1], "turns": [1, -1, 1, -1]}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("integer", ["least", "most"])
@pytest.mark.parametrize("scales", [0x7F, 0x80, 0xFF])
@pytest.mark.parametrize("signs", SIGNS.values(), ids=SIGNS)
def test_largest_integers_do_not_overflow(format, integer, scales, signs, native):
    """All weights, scales and inputs at their extremes: the sums that 16-bit lanes must hold."""
    m = set_header(matrix(format, 16, 256), 1.0, 1.0)
    group = m.data[..., header_bytes(format) :].reshape(1, 1, 8, -1)
    group[..., :32] = scales
    group[..., 32:] = 0 if integer == "least" else 0xFF
    x = np.tile(np.float32(127) * np.array(signs, np.float32), (17, 64))
    expected = x.astype(np.float64) @ unpack(m).astype(np.float64).T
    largest = np.abs(x).astype(np.float64) @ np.abs(unpack(m)).astype(np.float64).T
    for name in native.kernel_sets():
        for tokens in (1, 13, 17):
            ours = native.Native(name).matmul(x[:tokens], native.prepare(m))
            assert (np.abs(ours - expected[:tokens]) <= 1e-6 * largest[:tokens] + 1).all(), (name, tokens)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", ["d", "dmin"])
def test_a_scale_that_is_no_number_shows_in_its_own_outputs_alone(format, bad, which, native):
    if which == "dmin" and format == "q6_k":
        pytest.skip("q6_k has no dmin")
    m, x = matrix(format, 32, 512), inputs(17, 512)
    at = 5 if which == "d" else 16 + 5
    clean = native.Native("scalar").matmul(x, native.prepare(m))
    m.data[1, 1].view(np.float16)[at] = bad
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(reference.matmul(x, reference.prepare(m))[:, 21]).any()
    for name in native.kernel_sets():
        for tokens in (1, 17):
            out = native.Native(name).matmul(x[:tokens], native.prepare(m))
            assert not np.isfinite(out[:, 21]).any(), (name, tokens)
            rest = [r for r in range(32) if r != 21]
            assert (out[:, rest] == clean[:tokens, rest]).all(), (name, tokens)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", kernel_sets())
def test_a_nan_or_infinity_shows_in_its_own_row_alone(format, bad, name, native):
    m, x = native.prepare(matrix(format, 20, 256)), inputs(9, 256)
    clean = native.Native(name).matmul(x, m)
    x[4, 33] = bad
    out = native.Native(name).matmul(x, m)
    assert np.isnan(out[4]).all()
    keep = [i for i in range(9) if i != 4]
    assert out[keep].tobytes() == clean[keep].tobytes()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", kernel_sets())
@pytest.mark.parametrize("scale", [0.0, 1e-44, 1.5e-38, 1e-25, 1e30, 1e34])
def test_inputs_of_any_magnitude_are_rounded_as_defined(format, name, scale, native):
    m, x = matrix(format, 20, 256), (inputs(3, 256) * np.float32(0.2) * np.float32(scale)).astype(np.float32)
    expected = reference.matmul(x, reference.prepare(m))
    ours = native.Native(name).matmul(x, native.prepare(m))
    assert np.abs(ours - expected).max() <= 4e-6 * np.abs(expected).max(initial=0)


@pytest.mark.parametrize("format", FORMATS)
def test_bytes_that_are_not_of_the_format_are_refused(format):
    size, name = SUPER_BYTES[format], format
    good = np.zeros((1, 2, size), np.uint8)
    assert Matrix(format, 16, 512, good).nbytes == 2 * size
    with pytest.raises(ShapeError, match=f"a {name} matrix has a multiple of 256 inputs, not 500"):
        Matrix(format, 16, 500, good)
    with pytest.raises(ShapeError, match=rf"data uint8 \(1, 2, {size}\), not uint8 \(1, 2, {size - 1}\)"):
        Matrix(format, 16, 512, good[..., :-1])
    with pytest.raises(ShapeError, match="not int8"):
        Matrix(format, 16, 512, good.view(np.int8))
    with pytest.raises(ShapeError, match=r"data uint8 \(2, 2, "):
        Matrix(format, 17, 512, good)
    with pytest.raises(ShapeError, match="scale must be None"):
        Matrix(format, 16, 512, good, np.ones((1, 16, 16), np.float16))


@pytest.mark.parametrize("format", FORMATS)
def test_the_module_checks_what_it_is_handed(format):
    _native = pytest.importorskip("slmkit.ops._native")
    size = SUPER_BYTES[format]
    good = np.zeros((1, 2, size), np.uint8)
    assert _native.superblocks(format, 16, 512, good).nbytes == 2 * size
    with pytest.raises(ShapeError, match="multiple of 256 inputs, not 511"):
        _native.superblocks(format, 16, 511, good)
    with pytest.raises(ShapeError, match="is empty"):
        _native.superblocks(format, 0, 512, good)
    with pytest.raises(ShapeError, match="data has shape"):
        _native.superblocks(format, 17, 512, good)
    with pytest.raises(TypeError, match="uint8"):
        _native.superblocks(format, 16, 512, good.view(np.int8))
    with pytest.raises(ShapeError, match="contiguous"):
        _native.superblocks(format, 16, 512, np.zeros((1, 2, 2 * size), np.uint8)[..., ::2])
