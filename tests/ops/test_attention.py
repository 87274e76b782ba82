"""write_cache and attention, over shapes, windows, sequences and block orders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from slmkit.errors import ShapeError
from slmkit.ops import reference
from slmkit.ops.segments import Segments

native = pytest.importorskip("slmkit.ops.native")

SETS = native.kernel_sets()


@dataclass
class Case:
    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    cache: np.ndarray
    slots: np.ndarray
    segments: Segments


def case(sequences, heads=4, kv_heads=2, head_dim=16, dtype=np.float32, layers=2, seed=0) -> Case:
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
    cache = np.full((sum(used) + 3, layers, 2, kv_heads, 32 * head_dim), np.nan, dtype)  # unwritten slots hold NaN
    starts = np.concatenate(([0], np.cumsum(rows))).astype(np.int32)
    positions = np.array([p for p, _ in sequences], np.int32)
    total = sum(lengths)
    return Case(draw(sum(rows), heads), draw(total, kv_heads), draw(total, kv_heads), cache, np.concatenate(slots),
                Segments(starts, positions, table))  # fmt: skip


def run(ops, c: Case, window: int = 0) -> np.ndarray:
    cache = c.cache.copy()
    ops.write_cache(cache, 1, c.k, c.v, c.slots)
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
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_attention_is_the_reference(sequences, window, dtype):
    c = case(sequences, dtype=dtype)
    expected, ours = run(reference, c, window), run(native.Native(SETS[0]), c, window)
    assert np.isfinite(ours).all()
    # float32 sums of up to 200 terms in another order
    np.testing.assert_allclose(ours, expected, atol=2e-6)


@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (3, 3), (4, 2), (6, 1), (80, 1), (40, 10)])
@pytest.mark.parametrize("head_dim", [16, 24, 96, 128])
def test_heads_share_keys_as_the_reference_says(heads, kv_heads, head_dim):
    c = case([(40, 3), (0, 35)], heads, kv_heads, head_dim, np.float16)
    np.testing.assert_allclose(run(native.Native(SETS[0]), c), run(reference, c), atol=2e-6)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("head_dim", [1, 16, 24, 96, 128])
def test_every_set_gives_the_same_bits_with_any_threads(name, dtype, head_dim, threads):
    c = case([(5, 1), (0, 40), (97, 3), (0, 100)], 6, 3, head_dim, dtype)
    for window in (0, 45):
        threads(1)
        expected = run(native.Native("scalar"), c, window)
        for n in (1, 2, 3):
            threads(n)
            assert run(native.Native(name), c, window).tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("window", [0, 33])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_query_gives_the_same_bits_alone_in_chunks_and_in_a_batch(name, window, dtype):
    ops = native.Native(name)
    c = case([(0, 150), (0, 75)], 4, 2, 24, dtype)
    whole = run(ops, c, window)
    cache = c.cache.copy()
    ops.write_cache(cache, 1, c.k, c.v, c.slots)
    for s, length in enumerate((150, 75)):
        for at, n in ((0, 7), (7, 1), (8, 32), (40, 35)):
            rows = slice(c.segments.starts[s] + at, c.segments.starts[s] + at + n)
            one = Segments(np.array([0, n], np.int32), np.array([at], np.int32), c.segments.blocks[s : s + 1])
            alone = ops.attention(np.ascontiguousarray(c.q[rows]), cache, 1, one, 24**-0.5, window)
            assert alone.tobytes() == whole[rows].tobytes(), (length, at)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("head_dim", [1, 16, 24, 96])
def test_the_cache_holds_what_the_reference_puts_there(name, dtype, head_dim):
    c = case([(0, 70), (3, 2)], 4, 2, head_dim, dtype)
    ours, expected = c.cache.copy(), c.cache.copy()
    fused = np.concatenate((c.k, c.v), axis=1)  # keys and values as views of one wider row
    native.Native(name).write_cache(ours, 1, fused[:, :2], fused[:, 2:], c.slots)
    reference.write_cache(expected, 1, c.k, c.v, c.slots)
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("name", SETS)
def test_half_precision_rounds_as_numpy_does(name):
    """Ties, subnormals, the largest finite half and what overflows it."""
    special = [0, -0.0, 1, 2049, 2051, 65504, 65519.996, 65520, 1e9, 5.9e-8, 2.98e-8, 2.9803e-8, 6.1e-5, 6.0976e-5]
    rng = np.random.default_rng(0)
    x = np.concatenate((special, rng.standard_normal(1000) * 10.0 ** rng.integers(-9, 6, 1000))).astype(np.float32)
    x = np.resize(x, (1, 1, 1024))
    cache = np.zeros((1, 1, 2, 1, 32 * 1024), np.float16)
    native.Native(name).write_cache(cache, 0, x, x, np.array([7], np.int64))
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
    with pytest.raises(TypeError, match="cache must be an array of float32 or float16"):
        call(cache=c.cache.astype(np.float64))
    with pytest.raises(ShapeError, match="slot 160 is outside the cache's 5 blocks"):
        ops.write_cache(c.cache, 0, c.k[:1], c.v[:1], np.array([160]))
    with pytest.raises(ShapeError, match="v has shape"):
        ops.write_cache(c.cache, 0, c.k[:1], c.v[:2], np.array([0]))
