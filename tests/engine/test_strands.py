"""Caches in strands: blocks that no head sees again are given back, and no answer shows it."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from driving import Recorder, run, task
from hypothesis import given
from hypothesis import strategies as st

import small
from checkpoints import KERNELS, NATIVE, Runner
from slmkit.engine.cache import GONE, Cache
from slmkit.engine.step import Engine
from slmkit.layers.cache_layout import CacheLayout, lay_out
from slmkit.models.phi3_small_config import Config
from slmkit.ops.choose import choose
from slmkit.ops.segments import BLOCK
from slmkit.ops.sparse import BlockSparse

every_format = pytest.mark.parametrize(
    ("kernels", "quantize", "cache"),
    [  # that the other sets give the same bits as the first is shown below
        pytest.param(*each, marks=[pytest.mark.slow] if each[0] != NATIVE[0] else [])
        for each in product(NATIVE, ("q4", "q8", "none"), ("q8", "f16", "f32"))
    ],
)
pytestmark = pytest.mark.skipif(not NATIVE, reason="the native kernels were not built")
IDS = np.random.default_rng(3).integers(4, 100, 400).tolist()
STEP = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small.write_model(tmp_path_factory.mktemp("small") / "model", **small.LONGROPE)


def recorded(run_, starts, blocks, step_tokens, together, limit=30):
    """Every row of logits of requests with prompts of these lengths."""
    run_.cache = fresh(run_, blocks)
    engine = Engine(run_.model, run_.cache, step_tokens)
    recorders = [Recorder() for _ in starts]
    tasks = [
        task(IDS[:n], limit=limit, processors=(r,), temperature=1.0, seed=n)
        for n, r in zip(starts, recorders, strict=True)
    ]
    for group in [tasks] if together else [[t] for t in tasks]:
        run(engine, *group)
    assert run_.cache.n_free == run_.cache.n_blocks
    return [r.rows for r in recorders]


def fresh(run_, n_blocks):
    layout = run_.config.cache_layout
    kind = {"float32": "f32", "float16": "f16", "int8": "q8"}[str(run_.cache.data.dtype)]
    return Cache(n_blocks, layout.layers, layout.kv_heads, layout.head_dim, kind, layout.strands)


@every_format
def test_chunks_batches_and_threads_give_the_same_bits(folder, kernels, quantize, cache):
    run_ = Runner(folder, kernels, quantize, cache, blocks=64)
    prompts = [IDS[:n] for n in (33, 97, 200)]
    alone = [run_.last_logits(ids) for ids in prompts]
    for ids, right in zip(prompts, alone, strict=True):
        for piece in (1, 31, 64) if len(ids) < 200 else (33,):
            np.testing.assert_array_equal(run_.last_logits(ids, piece), right, f"{len(ids)} in {piece}")
    lines = [run_.line(ids) for ids in prompts]
    np.testing.assert_array_equal(run_.run(*[(line, len(line.ids)) for line in lines]), np.stack(alone))
    for threads in (1, 3):
        choose(kernels, threads)
        np.testing.assert_array_equal(run_.last_logits(prompts[-1]), alone[-1])
    choose(kernels, 2)


@every_format
def test_preemption_and_blocks_given_back_change_no_bit_of_an_answer(folder, kernels, quantize, cache):
    run_ = Runner(folder, kernels, quantize, cache)
    starts = [60, 150, 90, 199]
    alone = recorded(run_, starts, blocks=400, step_tokens=256, together=False)
    most = max(run_.config.cache_layout.blocks_of(n + 30, STEP) for n in starts)
    crowded = recorded(run_, starts, blocks=most, step_tokens=STEP, together=True)
    for one, other in zip(alone, crowded, strict=True):
        assert one.keys() == other.keys()
        for length in one:
            np.testing.assert_array_equal(one[length], other[length])


@pytest.mark.skipif(len(NATIVE) < 2, reason="there is one kernel set only")
@pytest.mark.parametrize(("quantize", "cache"), [*product(("q4", "q8", "none"), ("q8", "f16", "f32"))])
def test_every_kernel_set_gives_the_same_bits(folder, quantize, cache):
    first, *others = [Runner(folder, kernels, quantize, cache).all_logits(IDS[:200]) for kernels in NATIVE]
    for other in others:
        np.testing.assert_array_equal(other, first)


@pytest.mark.parametrize("kernels", ["reference", *NATIVE[:1]])
def test_what_was_given_back_is_not_looked_at_again(folder, kernels):
    run_ = Runner(folder, kernels)
    (right,) = recorded(run_, [300], blocks=400, step_tokens=512, together=False)
    run_.cache = fresh(run_, 400)
    engine, recorder, held = Engine(run_.model, run_.cache, STEP), Recorder(), []

    def spoil(engine):
        engine.cache.data[engine.cache._free] = np.nan
        held.append(engine.cache.n_blocks - engine.cache.n_free)

    run(engine, task(IDS[:300], limit=30, processors=(recorder,), temperature=1.0, seed=300), after_step=spoil)
    for length, row in recorder.rows.items():
        if kernels == "reference":  # NumPy sums in an order that depends on the shape
            finite = np.isfinite(row)
            np.testing.assert_allclose(row[finite], right[length][finite], rtol=1e-4, atol=1e-6)
        else:
            np.testing.assert_array_equal(row, right[length])
    whole = 2 * 11 + 2 * 11  # of 330 tokens, 11 blocks in each of four strands
    # nine are no nearest ones any more: of the two sparse strands one keeps five of them, the other four
    assert max(held) == whole - 9


@pytest.mark.parametrize("kernels", KERNELS[:1])
def test_beams_and_drafts_share_and_give_back_blocks_like_any_other_answer(folder, kernels):
    run_ = Runner(folder, kernels)
    repeating = (IDS[:40] * 8)[:300]
    answers = []
    for step_tokens in (512, STEP):
        run_.cache = fresh(run_, 600)
        engine = Engine(run_.model, run_.cache, step_tokens)
        jobs = [task(repeating, limit=40, beams=3), task(repeating[:250], limit=60)]
        answers.append([a.choices[0].text for a in run(engine, *jobs)])
        assert run_.cache.n_free == run_.cache.n_blocks
    assert answers[0] == answers[1]


PUBLISHED = Config.from_dict({}).cache_layout


def test_a_sequence_keeps_half_of_what_only_far_blocks_of_sparse_layers_hold():
    cache = Cache(4 * 256, 1, 1, 2, "f32", PUBLISHED.strands)
    table = cache.take(4 * 256)
    cache.forget(table, 8192 - 1)
    far = (128 - 16) * 2  # cache blocks of 32 that are no head's nearest
    strands = np.array(table).reshape(-1, 4)
    assert (strands[:, :2] != GONE).all()
    for strand, kept in ((2, {4, 5, 6, 7}), (3, {0, 1, 2, 3})):
        gone = np.flatnonzero(strands[:, strand] == GONE)
        assert gone.tolist() == [i for i in range(far) if i // 2 % 8 not in kept]
    assert cache.n_held(table) == 1024 - 224
    cache.forget(table, 8191)
    assert cache.n_free == 224


def test_up_to_1024_tokens_nothing_is_given_back():
    cache = Cache(4 * 34, 1, 1, 2, "f32", PUBLISHED.strands)
    table = cache.take(4 * 34)
    cache.forget(table, 1024 + 63)
    assert GONE not in table[16:]
    assert cache.n_free == 2  # block 0 is out of the nearest 16 from token 1,024 on, and of use to one of the strands


def test_a_fork_shares_what_is_there_and_what_is_gone_stays_gone():
    cache = Cache(4 * 80, 1, 1, 2, "f32", PUBLISHED.strands)
    table = cache.take(4 * 64)
    cache.forget(table, 2047)
    free = cache.n_free
    twin = cache.fork(table, 2047)
    assert cache.n_free == free - 4
    assert twin[: 63 * 4] == table[: 63 * 4]
    cache.release(table)
    cache.release(twin)
    assert cache.n_free == cache.n_blocks


@given(st.integers(1, 20000), st.sampled_from([1, 40, 256]))
def test_no_sequence_holds_more_than_the_layout_says(tokens, at_once):
    pattern = PUBLISHED.strands[2]
    far = pattern.n_far(max(0, tokens - at_once))
    held = -(-tokens // BLOCK) - sum(not pattern.keeps(i) for i in range(far))
    alone = CacheLayout(1, 1, 2, (pattern,))
    assert held <= alone.blocks_of(tokens, at_once) <= held + 20
    most = alone.tokens_in(alone.blocks_of(tokens, at_once), at_once)
    assert most >= tokens
    assert alone.blocks_of(most, at_once) <= alone.blocks_of(tokens, at_once)


def test_a_plain_layout_counts_whole_blocks():
    layout = CacheLayout(2, 3, 96)
    assert [layout.blocks_of(n, 256) for n in (0, 1, 32, 33)] == [0, 1, 1, 2]
    assert [layout.tokens_in(n, 256) for n in (0, 1, 5)] == [0, 32, 160]


def patterns(*shifts):
    return [BlockSparse(64, 2, 4, np.array(own, np.int32)) for own in shifts]


def test_heads_that_see_everything_together_need_no_strand_that_forgets():
    layout, shares = lay_out([True, False], patterns([0, 1, 2, 3], [0, 1, 2, 3]), 8)
    assert (layout.layers, layout.kv_heads, layout.strands) == (1, 2, (None, None))
    assert [share.pattern is None for (share,) in shares] == [False, True]


def test_layers_and_heads_that_do_not_divide_evenly_share_blocks_of_the_largest_common_size():
    layout, shares = lay_out([True, True, False], patterns([0], [0], [1]), 8)
    assert (layout.layers, layout.kv_heads) == (1, 1)
    assert len(layout.strands) == 9
    assert sorted((s.strand, s.layer) for own in shares for s in own) == [(i, 0) for i in range(9)]
