"""Attention to a block-sparse pattern: what is seen, in any cut of the work, and nothing else touched."""

from __future__ import annotations

import numpy as np
import pytest
from test_attention import KINDS, SETS, case, write

from slmkit.errors import ShapeError
from slmkit.ops import reference
from slmkit.ops.segments import Segments
from slmkit.ops.sparse import BlockSparse

native = pytest.importorskip("slmkit.ops.native")

SEQUENCES = [[(0, 1)], [(300, 1)], [(0, 330)], [(5, 1), (0, 40), (297, 3), (200, 131)], [(255, 2), (256, 1)]]


def pattern(heads, size=32, local=2, stride=4):
    return BlockSparse(size, local, stride, (np.arange(heads, dtype=np.int32) + 1) % stride)


def run(ops, c, sparse, window=0):
    cache = c.cache.copy()
    write(ops, cache, 1, c.k, c.v, c.slots)
    return ops.attention(c.q, cache, 1, c.segments, c.q.shape[-1] ** -0.5, window, sparse)


@pytest.mark.parametrize("sequences", SEQUENCES)
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 2), (6, 1), (3, 3)])
@pytest.mark.parametrize(("size", "local", "stride"), [(32, 2, 4), (64, 1, 3), (96, 2, 2), (32, 1, 100)])
def test_sparse_attention_is_the_reference(sequences, heads, kv_heads, size, local, stride):
    c = case(sequences, heads, kv_heads, kind="f16")
    sparse = pattern(heads, size, local, stride)
    expected, ours = run(reference, c, sparse), run(native.Native(SETS[0]), c, sparse)
    np.testing.assert_allclose(ours, expected, atol=2e-6)  # as for dense attention
    if any(position + rows > 200 for position, rows in sequences):
        assert np.abs(ours - run(native.Native(SETS[0]), c, None)).max() > 1e-3


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (8, 2)])
def test_every_set_gives_the_same_bits_alone_and_in_chunks(name, kind, heads, kv_heads, threads):
    c = case([(0, 330), (100, 9)], heads, kv_heads, 24, kind)
    sparse, ops = pattern(heads), native.Native(name)
    threads(1)
    whole = run(native.Native("scalar"), c, sparse)
    threads(2)
    assert run(ops, c, sparse).tobytes() == whole.tobytes()
    cache = c.cache.copy()
    write(ops, cache, 1, c.k, c.v, c.slots)
    for first, rows in [(0, 1), (329, 1), (328, 2), (90, 5), (63, 66), (100, 129)]:
        one = Segments(np.array([0, rows], np.int32), np.array([first], np.int32), c.segments.blocks[:1])
        part = ops.attention(c.q[first : first + rows], cache, 1, one, 24**-0.5, 0, sparse)
        assert part.tobytes() == whole[first : first + rows].tobytes(), (first, rows)


@pytest.mark.parametrize("name", ["reference", *SETS])
def test_blocks_that_no_query_sees_are_not_touched(name):
    c = case([(300, 20)], 4, 1)
    ops = reference if name == "reference" else native.Native(name)
    sparse = pattern(4, stride=8)  # four heads of eight shifts
    cache = c.cache.copy()
    write(ops, cache, 1, c.k, c.v, c.slots)
    right = ops.attention(c.q, cache, 1, c.segments, 0.25, 0, sparse)
    unseen = [b for b in range(8) if not sparse.keeps(b)]
    assert unseen == [0, 1, 2, 3]
    cache[c.segments.blocks[0, unseen]] = np.nan
    np.testing.assert_array_equal(ops.attention(c.q, cache, 1, c.segments, 0.25, 0, sparse), right)


def test_a_wrong_pattern_is_refused_in_one_sentence():
    ops, c = native.Native(SETS[0]), case([(0, 40)])
    with pytest.raises(ShapeError, match=r"blocks of a multiple of 32 tokens, .* not 48, 2, 4 and 0"):
        run(ops, c, pattern(4, size=48))
    with pytest.raises(ShapeError, match="no window, not 32, 2, 4 and 5"):
        run(ops, c, pattern(4), window=5)
    with pytest.raises(ShapeError, match="not 32, 0, 4"):
        run(ops, c, pattern(4, local=0))
    with pytest.raises(ShapeError, match=r"shifts has shape \(3\), not \(4\)"):
        run(ops, c, pattern(3))
    with pytest.raises(ShapeError, match="shift 4 is not below the stride of 4"):
        run(ops, c, BlockSparse(32, 2, 4, np.full(4, 4, np.int32)))
