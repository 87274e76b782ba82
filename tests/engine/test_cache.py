"""Blocks are held, shared and freed by count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmkit.engine.cache import Cache, block_bytes


def cache(n_blocks: int = 8) -> Cache:
    return Cache(n_blocks, 1, 1, 2, "f32")


@given(st.lists(st.tuples(st.sampled_from(["take", "fork", "release"]), st.integers(0, 100)), max_size=40))
def test_no_block_is_lost_or_given_to_two_takers(actions):
    pool, tables = cache(), []
    for action, n in actions:
        if action == "take" and n % 4 <= pool.n_free:
            tables.append(pool.take(n % 4))
        elif tables and action == "fork" and pool.n_free:
            table = tables[n % len(tables)]
            tables.append(pool.fork(table, n % (32 * len(table) + 1)))
        elif tables and action == "release":
            pool.release(tables.pop(n % len(tables)))
        held = {block for table in tables for block in table}
        assert len(held) + pool.n_free == pool.n_blocks
        for table in tables:
            assert len(set(table)) == len(table)
    for table in tables:
        pool.release(table)
        assert table == []
    assert sorted(pool.take(8)) == list(range(8))


@pytest.mark.parametrize(
    ("n_tokens", "shared", "copied"), [(0, 0, 0), (1, 0, 1), (31, 0, 1), (32, 1, 0), (33, 1, 1), (64, 2, 0)]
)
def test_a_fork_shares_whole_blocks_and_copies_a_part_filled_one(n_tokens, shared, copied):
    pool = cache()
    pool.data[...] = np.arange(8)[:, None, None, None, None]
    table = pool.take(2)
    twin = pool.fork(table, n_tokens)
    assert (len(twin), pool.n_free) == (shared + copied, 6 - copied)
    assert twin[:shared] == table[:shared]
    if copied:
        assert twin[-1] not in table
        np.testing.assert_array_equal(pool.data[twin[-1]], pool.data[table[shared]])


def test_a_shared_block_is_free_only_after_its_last_holder():
    pool = cache()
    table = pool.take(1)
    twin = pool.fork(table, 32)
    pool.release(table)
    assert pool.n_free == 7
    pool.release(twin)
    assert pool.n_free == 8


def test_the_block_freed_last_is_used_first():
    pool = cache()
    table = pool.take(3)
    again = list(table)
    pool.release(table)
    assert pool.take(3) == again


@pytest.mark.parametrize(("kind", "expected"), [("f32", 147456), ("f16", 73728), ("q8", 38400)])
def test_block_bytes_are_what_the_array_takes(kind, expected):
    assert block_bytes(2, 3, 96, kind) == Cache(5, 2, 3, 96, kind).data.nbytes // 5 == expected
