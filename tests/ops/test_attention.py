"""rotate_and_cache and attention, over shapes, windows, sequences and block orders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from slmkit.engine.cache import DTYPES, head_cells
from slmkit.errors import ShapeError
from slmkit.ops import reference
from slmkit.ops.segments import Segments

native = pytest.importorskip("slmkit.ops.native")

SETS = native.kernel_sets()
KINDS = ["f32", "f16", "q8"]


@dataclass
class Case:
    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    cache: np.ndarray
    slots: np.ndarray
    segments: Segments


def case(sequences, heads=4, kv_heads=2, head_dim=16, kind="f32", layers=2, seed=0) -> Case:
    """sequences: (position, rows) of each; all tokens of a sequence are in k, v and slots, the last rows in q."""
    rng = np.random.default_rng(seed)
    lengths = [p + n for p, n in sequences]
    used = [-(-n // 32) for n in lengths]
    order = rng.permutation(sum(used) + 3).astype(np.int32)  # blocks in no order, and some that nobody owns
    table = np.zeros((len(sequences), max(used)), np.int32)
    slots, at = [], 0
    for s, (length, n) in enumerate(zip(lengths, used, strict=True)):
        table[s, :n] = order[at : at + n]
        at += n
        j = np.arange(length)
        slots.append(table[s, j // 32].astype(np.int64) * 32 + j % 32)
    rows = [n for _, n in sequences]
    draw = lambda n, h: rng.standard_normal((n, h, head_dim), np.float32)  # noqa: E731
    cache = empty((sum(used) + 3, layers, 2, kv_heads), head_dim, kind)
    starts = np.concatenate(([0], np.cumsum(rows))).astype(np.int32)
    positions = np.array([p for p, _ in sequences], np.int32)
    total = sum(lengths)
    return Case(draw(sum(rows), heads), draw(total, kv_heads), draw(total, kv_heads), cache, np.concatenate(slots),
                Segments(starts, positions, table))  # fmt: skip


def empty(shape, head_dim, kind) -> np.ndarray:
    """A cache whose unwritten slots hold NaN, in the scales where there are such."""
    cells = np.full((*shape, head_cells(head_dim, kind) * np.dtype(DTYPES[kind]).itemsize), 0xFF, np.uint8)
    return cells.view(DTYPES[kind])


def write(ops, cache, layer, k, v, slots) -> None:
    """Keys and values as they are: no pair of features is turned."""
    angles = np.empty((len(k), 0), np.float32)
    ops.rotate_and_cache(k, k, v, angles, angles, cache, layer, slots)


def run(ops, c: Case, window: int = 0) -> np.ndarray:
    cache = c.cache.copy()
    write(ops, cache, 1, c.k, c.v, c.slots)
    return ops.attention(c.q, cache, 1, c.segments, c.q.shape[-1] ** -0.5, window)


SEQUENCES = [
    [(0, 1)],
    [(0, 31)],
    [(0, 33)],
    [(31, 1)],
    [(32, 1)],
    [(63, 70)],
    [(5, 1), (0, 40), (97, 3), (200, 1)],
    [(0, 130)],
]


@pytest.mark.parametrize("sequences", SEQUENCES)
@pytest.mark.parametrize("window", [0, 1, 20, 64])
@pytest.mark.parametrize("kind", KINDS)
def test_attention_is_the_reference(sequences, window, kind):
    c = case(sequences, kind=kind)
    expected, ours = run(reference, c, window), run(native.Native(SETS[0]), c, window)
    assert np.isfinite(ours).all()
    # float32 sums of up to 200 terms in another order
    np.testing.assert_allclose(ours, expected, atol=2e-6)


@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (3, 3), (4, 2), (6, 1), (80, 1), (40, 10)])
@pytest.mark.parametrize("head_dim", [16, 24, 96, 128])
def test_heads_share_keys_as_the_reference_says(heads, kv_heads, head_dim):
    c = case([(40, 3), (0, 35)], heads, kv_heads, head_dim, "f16")
    np.testing.assert_allclose(run(native.Native(SETS[0]), c), run(reference, c), atol=2e-6)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("head_dim", [1, 16, 24, 96, 128])
def test_every_set_gives_the_same_bits_with_any_threads(name, kind, head_dim, threads):
    c = case([(5, 1), (0, 40), (97, 3), (0, 100)], 6, 3, head_dim, kind)
    for window in (0, 45):
        threads(1)
        expected = run(native.Native("scalar"), c, window)
        for n in (1, 2, 3):
            threads(n)
            assert run(native.Native(name), c, window).tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("heads", [3, 12])
def test_every_tile_gives_the_bits_of_the_scalar_set(name, kind, heads, threads):
    """Numbers of queries around each tile and call, of one kv head and of several; even and odd numbers of blocks."""
    threads(2)
    for rows in (*range(1, 15), 31, 42, 43, 127, 128, 129):
        for position in (0, 40, 70):
            c = case([(position, rows)], heads, 3, 48, kind, layers=2)
            assert run(native.Native(name), c).tobytes() == run(native.Native("scalar"), c).tobytes(), (rows, position)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("window", [0, 33])
@pytest.mark.parametrize("kind", KINDS)
def test_a_query_gives_the_same_bits_alone_in_chunks_and_in_a_batch(name, window, kind):
    ops = native.Native(name)
    c = case([(0, 150), (0, 75)], 4, 2, 24, kind)
    whole = run(ops, c, window)
    cache = c.cache.copy()
    write(ops, cache, 1, c.k, c.v, c.slots)
    for s, length in enumerate((150, 75)):
        for at, n in ((0, 7), (7, 1), (8, 32), (40, 35)):
            rows = slice(c.segments.starts[s] + at, c.segments.starts[s] + at + n)
            one = Segments(np.array([0, n], np.int32), np.array([at], np.int32), c.segments.blocks[s : s + 1])
            alone = ops.attention(np.ascontiguousarray(c.q[rows]), cache, 1, one, 24**-0.5, window)
            assert alone.tobytes() == whole[rows].tobytes(), (length, at)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("head_dim", "pairs"), [(1, 0), (2, 1), (16, 8), (24, 12), (96, 48), (96, 24), (80, 17), (128, 64)]
)
@pytest.mark.parametrize("heads", [2, 6])
def test_queries_are_turned_and_the_cache_holds_what_the_reference_puts_there(
    name, kind, head_dim, pairs, heads, threads
):
    c = case([(0, 70), (3, 2)], heads, 2, head_dim, kind)
    rng = np.random.default_rng(1)
    fused = rng.standard_normal((len(c.k), heads + 4, head_dim), np.float32)  # views of one wider row, as in a model
    q, k, v = fused[:, :heads], fused[:, heads : heads + 2], fused[:, heads + 2 :]
    angle = rng.standard_normal((len(c.k), pairs), np.float32)
    cos, sin = np.cos(angle), np.sin(angle)
    expected = c.cache.copy()
    turned = reference.rotate_and_cache(q, k, v, cos, sin, expected, 1, c.slots)
    for n in (1, 3):
        threads(n)
        ours = c.cache.copy()
        result = native.Native(name).rotate_and_cache(q, k, v, cos, sin, ours, 1, c.slots)
        assert result.tobytes() == turned.astype(np.float32).tobytes()
        assert ours.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", [*SETS, "reference"])
def test_a_head_is_held_in_8_bits_with_a_scale_of_its_own(name):
    ops = reference if name == "reference" else native.Native(name)
    x = np.zeros((4, 2, 20), np.float32)
    x[0, 0, :3] = 127, 1.5, -2.5  # ties go to even
    x[0, 1, 19] = -254
    x[1, 0, 18], x[1, 1, 0] = np.inf, np.nan
    x[2, 0, :2] = 1e-38, -1e-40  # a scale below the smallest normal float
    x[3] = 1e-35
    cache = empty((2, 1, 2, 2), 20, "q8")
    write(ops, cache, 0, x, x, np.array([0, 33, 2, 63]))
    places = [(0, 0), (1, 1), (0, 2), (1, 31)]
    for t, (block, at) in enumerate(places):
        for h in range(2):
            keys = cache[block, 0, 0, h, : 32 * 20].reshape(20, 32)[:, at]
            values = cache[block, 0, 1, h, : 32 * 20].reshape(32, 20)[at]
            scales = cache[block, 0, :, h, 32 * 20 :].view(np.float32)[:, at]
            assert (keys == values).all()
            assert scales[0].tobytes() == scales[1].tobytes()
            if t == 0:
                assert scales[0] == h + 1
                assert values.tolist() == ([0] * 19 + [-127] if h else [127, 2, -2] + [0] * 17)
            else:
                assert values.tolist() == ([127] * 20 if t == 3 else [0] * 20)
                np.testing.assert_array_equal(scales[0], [np.nan, 0, np.float32(1e-35) / np.float32(127)][t - 1])


@pytest.mark.parametrize("name", SETS)
def test_a_number_that_is_not_finite_shows_in_the_result(name):
    for kind in KINDS:
        c = case([(0, 40)], kind=kind)
        c.v[3, 1, 5] = np.nan
        out = run(native.Native(name), c).reshape(40, 4, 16)
        assert np.isfinite(out[:3]).all()
        assert np.isfinite(out[:, :2]).all()
        assert np.isnan(out[3:, 2:, 5]).all()


@pytest.mark.parametrize("kind", ["f16", "q8"])
def test_attention_over_a_rounded_cache_is_near_the_exact_one(kind):
    c = case([(0, 130)], head_dim=96, kind=kind)
    exact = case([(0, 130)], head_dim=96)
    ours, expected = run(native.Native(SETS[0]), c), run(native.Native(SETS[0]), exact)
    # a value within half a step of 1 / 127 of its head's largest number, about 2.5 standard deviations; f16: 2^-12
    assert np.abs(ours - expected).max() < (0.03 if kind == "q8" else 0.002)


@pytest.mark.parametrize("name", SETS)
def test_half_precision_rounds_as_numpy_does(name):
    """Ties, subnormals, the largest finite half and what overflows it."""
    special = [0, -0.0, 1, 2049, 2051, 65504, 65519.996, 65520, 1e9, 5.9e-8, 2.98e-8, 2.9803e-8, 6.1e-5, 6.0976e-5]
    rng = np.random.default_rng(0)
    x = np.concatenate((special, rng.standard_normal(1000) * 10.0 ** rng.integers(-9, 6, 1000))).astype(np.float32)
    x = np.resize(x, (1, 1, 1024))
    cache = np.zeros((1, 1, 2, 1, 32 * 1024), np.float16)
    write(native.Native(name), cache, 0, x, x, np.array([7], np.int64))
    with np.errstate(over="ignore"):
        expected = x.reshape(-1).astype(np.float16)
    assert cache[0, 0, 1, 0].reshape(32, 1024)[7].tobytes() == expected.tobytes()
    assert cache[0, 0, 0, 0].reshape(1024, 32)[:, 7].tobytes() == expected.tobytes()


def test_wrong_inputs_are_refused_in_one_sentence():
    ops = native.Native(SETS[0])
    c = case([(0, 40)])
    call = lambda **change: ops.attention(  # noqa: E731
        **{"q": c.q, "cache": c.cache, "layer": 1, "segments": c.segments, "scale": 1.0} | change
    )
    starts, positions, blocks = c.segments.starts, c.segments.positions, c.segments.blocks
    with pytest.raises(ShapeError, match="layer 2 is not among the cache's 2"):
        call(layer=2)
    with pytest.raises(ShapeError, match="the cache has shape"):
        call(q=np.ascontiguousarray(c.q[..., :8]))
    with pytest.raises(ShapeError, match="3 heads are not a multiple of the cache's 2"):
        call(q=c.q[:, :3])
    with pytest.raises(ShapeError, match="0 heads are not a multiple of the cache's 2"):
        call(q=c.q[:, :0])
    with pytest.raises(ShapeError, match="starts must go from 0 to the 40 rows"):
        call(segments=Segments(starts + 1, positions, blocks))
    fall = np.array([0, 5, -(2**31), 40], np.int32)
    with pytest.raises(ShapeError, match="starts fall at sequence 1"):  # by more than an int32 can say
        call(segments=Segments(fall, np.zeros(3, np.int32), np.tile(blocks, (3, 1))))
    with pytest.raises(ShapeError, match="needs 3 blocks, its table has 2"):
        call(segments=Segments(starts, positions + 40, blocks))
    with pytest.raises(ShapeError, match="position below 0"):
        call(segments=Segments(starts, positions - 1, blocks))
    with pytest.raises(ShapeError, match="sequence 0 has block 99"):
        call(segments=Segments(starts, positions, np.full_like(blocks, 99)))
    with pytest.raises(TypeError, match="starts must be an array of int32"):
        call(segments=Segments(starts.astype(np.int64), positions, blocks))
    with pytest.raises(TypeError, match="cache must be an array of float32, float16 or int8"):
        call(cache=c.cache.astype(np.float64))
    with pytest.raises(
        ShapeError, match=r"the cache has shape .*, not \(blocks, layers, 2, kv_heads, 32 \* 16 \+ 128\)"
    ):
        call(cache=np.zeros(c.cache.shape, np.int8))


def test_wrong_inputs_of_the_cache_are_refused_in_one_sentence():
    ops = native.Native(SETS[0])
    c = case([(0, 40)])
    angles = np.zeros((40, 8), np.float32)
    arrays = {
        "q": c.q,
        "k": c.k,
        "v": c.v,
        "cos": angles,
        "sin": angles,
        "cache": c.cache,
        "layer": 0,
        "slots": c.slots,
    }
    call = lambda **change: ops.rotate_and_cache(**arrays | change)  # noqa: E731
    with pytest.raises(ShapeError, match="slot 160 is outside the cache's 5 blocks"):
        call(slots=c.slots + 160 - c.slots[0])
    with pytest.raises(ShapeError, match="slots has shape"):
        call(slots=c.slots[:3])
    with pytest.raises(ShapeError, match="v has shape"):
        call(v=c.v[:2])
    with pytest.raises(ShapeError, match="q has shape"):
        call(q=c.q[:2])
    with pytest.raises(ShapeError, match="3 heads are not a multiple of the cache's 2"):
        call(q=c.q[:, :3])
    with pytest.raises(ShapeError, match="9 pairs of features do not fit a head of 16"):
        call(cos=np.zeros((40, 9), np.float32), sin=np.zeros((40, 9), np.float32))
    with pytest.raises(ShapeError, match="sin has shape"):
        call(sin=angles[:30])
    with pytest.raises(ShapeError, match="contiguous within each token"):
        call(k=np.zeros((40, 4, 16), np.float32)[:, ::2])
