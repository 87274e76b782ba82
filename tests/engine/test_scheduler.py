"""Plans: the budget, the order, fairness, and what happens when blocks run out."""

from __future__ import annotations

import numpy as np
from driving import held_blocks, run, task
from hypothesis import given, settings
from hypothesis import strategies as st
from test_beam import chain

from slmkit.engine.cache import Cache
from slmkit.engine.scheduler import schedule
from slmkit.engine.worker import new_job
from slmkit.ops.segments import BLOCK


def sequences(cache: Cache, *sizes: tuple[int, int]):
    """(ids, cached) for each."""
    made = []
    for n_ids, n_cached in sizes:
        (sequence,) = new_job(task([1] * n_ids)).live
        sequence.blocks, sequence.n_cached = cache.take(-(-n_cached // BLOCK)), n_cached
        made.append(sequence)
    return made


def pool(n_blocks: int) -> Cache:
    return Cache(n_blocks, 1, 1, 2, "f32")


def counts(plan, made):
    return {made.index(work.sequence): work.count for work in plan}


def test_answers_go_on_while_a_long_prompt_is_read():
    cache = pool(64)
    made = sequences(cache, (1000, 0), (40, 39), (70, 69))
    assert counts(schedule(made, cache, 256), made) == {0: 224, 1: 1, 2: 1}  # whole blocks of the 254 that are left


def test_prompts_share_a_step_and_short_ones_leave_the_rest_to_others():
    cache = pool(64)
    made = sequences(cache, (100, 0), (100, 0), (100, 0), (100, 0))
    assert counts(schedule(made, cache, 256), made) == {0: 64, 1: 64, 2: 64, 3: 64}
    made = sequences(pool(64), (1000, 0), (10, 0), (40, 0))
    assert counts(schedule(made, cache, 256), made) == {0: 192, 1: 10, 2: 40}


def test_where_a_step_has_no_block_for_each_the_first_goes_on_and_the_others_take_turns():
    cache = pool(200)
    made = sequences(cache, *[(600, 0)] * 7)
    read = [counts(schedule(made, cache, 96), made) for _ in range(3)]
    assert [sorted(step) for step in read] == [[0, 1, 2], [0, 3, 4], [0, 5, 6]]
    assert {count for step in read for count in step.values()} == {BLOCK}


def test_a_prompt_that_would_not_fit_beside_those_before_it_waits_with_nothing_read():
    cache = pool(10)
    made = sequences(cache, (200, 64), (130, 0), (60, 0))
    assert sorted(counts(schedule(made, cache, 256), made)) == [0, 2]
    assert made[1].blocks == []


def test_a_prompt_can_have_the_blocks_of_those_that_came_after_it():
    cache = pool(10)
    made = sequences(cache, (130, 0), (300, 200))
    assert counts(schedule(made, cache, 1000), made)[0] == 130


def test_a_prompt_advances_by_a_block_however_many_answers_there_are():
    cache = pool(64)
    made = sequences(cache, *[(2, 1)] * 20, (100, 0))
    plan = counts(schedule(made, cache, 16), made)
    assert plan[20] == BLOCK
    assert sum(plan.values()) == 20 + BLOCK


def test_the_latest_comer_gives_its_blocks_back_first():
    cache = pool(4)
    made = sequences(cache, (33, 32), (40, 39), (10, 9))
    assert counts(schedule(made, cache, 256), made) == {0: 1, 1: 1}
    assert made[2].blocks == []
    assert made[2].n_cached == 0


def test_a_newcomer_takes_no_blocks_from_those_before_it():
    cache = pool(2)
    made = sequences(cache, (40, 39), (10, 0))
    assert counts(schedule(made, cache, 256), made) == {0: 1}
    assert len(made[0].blocks) == 2


def test_nobody_loses_blocks_for_one_who_still_would_not_have_enough():
    cache = pool(6)
    made = sequences(cache, (97, 96), (200, 0), (10, 9))
    assert counts(schedule(made, cache, 256), made)[2] == 1
    assert made[2].n_cached == 9


def test_a_sequence_that_waits_with_everything_read_can_lose_its_blocks():
    cache = pool(2)
    made = sequences(cache, (33, 32), (32, 32))
    assert counts(schedule(made, cache, 256), made) == {0: 1}
    assert made[1].blocks == []


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(1, 120), st.integers(0, 119)), min_size=1, max_size=8),
    st.integers(4, 20),
    st.integers(1, 300),
)
def test_every_plan_keeps_the_budget_and_holds_each_block_once(sizes, n_blocks, step_tokens):
    cache = pool(n_blocks)
    sizes = [(ids, min(cached, ids - 1)) for ids, cached in sizes]
    while sum(-(-cached // BLOCK) for _, cached in sizes) > n_blocks:
        sizes.pop()
    made = sequences(cache, *sizes)
    plan = schedule(made, cache, step_tokens)
    prompts = sum(work.count for work in plan if len(work.sequence.ids) - work.sequence.n_cached > 1)
    answers = sum(len(work.sequence.ids) - work.sequence.n_cached == 1 for work in plan)
    assert prompts <= max(step_tokens - answers, BLOCK)
    held = [block for s in made for block in s.blocks]
    assert len(held) == len(set(held)) == cache.n_blocks - cache.n_free
    for work in plan:
        assert 1 <= work.count <= len(work.sequence.ids) - work.sequence.n_cached
        assert len(work.sequence.blocks) * BLOCK >= work.sequence.n_cached + work.count
    assert not made or plan[0].sequence is made[0]  # the first always goes on: a context fits the cache


tasks = st.builds(
    lambda ids, limit, n, beams, seed: task(
        ids,
        limit,
        stop_ids=[0],
        n=min(n, beams) if beams > 1 else n,
        beams=beams,
        seed=seed,
        temperature=float(beams == 1),
    ),
    st.lists(st.integers(1, 29), min_size=1, max_size=60),
    st.integers(1, 40),
    st.integers(1, 4),
    st.sampled_from([1, 1, 2, 3]),
    st.integers(0, 2**64 - 1),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(tasks, min_size=1, max_size=5), st.integers(12, 20), st.integers(1, 80))
def test_every_job_ends_with_the_answer_it_has_alone_however_few_the_blocks(jobs, n_blocks, step_tokens):
    roomy, engine = chain(0, 30), chain(0, 30)
    engine.cache, engine.step_tokens = pool(n_blocks), step_tokens

    def check(engine):
        assert len(set(held_blocks(engine))) + engine.cache.n_free == n_blocks

    together = run(engine, *jobs, after_step=check)
    for job, answer in zip(jobs, together, strict=True):
        (alone,) = run(roomy, job)
        assert [(c.text, c.reason, c.score, c.tokens) for c in answer.choices] == [
            (c.text, c.reason, c.score, c.tokens) for c in alone.choices
        ]
    assert engine.cache.n_free == n_blocks
    assert np.isfinite([c.timing.total_s for a in together for c in a.choices]).all()
