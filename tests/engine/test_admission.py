"""Who goes on, who waits and who is refused: fair shares, deadlines, a bounded queue, and the counts of all that."""

from __future__ import annotations

import time
from dataclasses import asdict

import numpy as np
import pytest
from driving import answer, events, run, task
from test_beam import chain

import slmkit
import tiny
from checkpoints import KERNELS, runner
from slmkit.engine.cache import Cache
from slmkit.engine.step import Engine
from slmkit.engine.worker import Worker, new_job
from slmkit.errors import Busy, DeadlineExceeded, RequestError
from slmkit.events import Chunk, Started
from slmkit.options import Options
from slmkit.request import Request

IDS = np.random.default_rng(2).integers(4, 29, 5000).tolist()


def engine_of_letters(blocks: int = 400) -> Engine:
    engine = chain(0, 30)
    engine.cache = Cache(blocks, 1, 1, 2, "f32")
    return engine


def first_tokens(engine: Engine, *jobs) -> list[int]:
    """In which step each job has its first token."""
    found: dict[int, int] = {}
    for step in range(1000):
        engine.step()
        for i, job in enumerate(jobs):
            if job.first_token:
                found.setdefault(i, step)
        if not engine.jobs:
            return [found[i] for i in range(len(jobs))]
    raise AssertionError("the engine does not come to an end")


def test_a_short_prompt_that_comes_during_a_long_one_is_answered_before_that_is_read():
    engine = engine_of_letters()
    long, short = new_job(task(IDS[:4000], limit=1)), new_job(task(IDS[4000:4100], limit=1))
    engine.add(long)
    engine.step()
    engine.add(short)
    long_step, short_step = first_tokens(engine, long, short)
    assert short_step <= 1
    assert long_step == 15  # 256 tokens in the first step, and the 100 cost it one more


def test_a_long_prompt_goes_on_under_a_stream_of_short_ones():
    engine = engine_of_letters()
    long = new_job(task(IDS[:2000], limit=1))
    engine.add(long)
    for step in range(200):
        engine.add(new_job(task(IDS[2000 + step :][:100], limit=1)))
        engine.step()
        if long.first_token:
            break
    assert step <= 2000 // (256 - 2 * 100) + 2


def test_fifty_prompts_at_once_all_advance_and_none_waits_for_good():
    engine = engine_of_letters(2000)
    jobs = [new_job(task(IDS[60 * i :][:300], limit=1)) for i in range(50)]
    for job in jobs:
        engine.add(job)
    for _ in range(14):
        engine.step()
    assert all(job.live[0].n_cached or not job.live for job in jobs if job.live)
    assert max(first_tokens(engine, *jobs)) < 50 * 300 / 256 + 60


def test_a_deadline_ends_a_request_with_the_next_step_and_no_other():
    engine = engine_of_letters()
    late, other = new_job(task([4], limit=50, deadline=time.perf_counter() + 3600)), new_job(task([4], limit=50))
    for job in (late, other):
        engine.add(job)
    engine.step()
    object.__setattr__(late.task, "deadline", time.perf_counter() - 1)
    engine.step()
    assert engine.jobs == [other]
    with pytest.raises(DeadlineExceeded, match="after 1 tokens of the answer, which is not complete; allow more time"):
        events(late)
    while engine.jobs:
        engine.step()
    assert answer(other).choices[0].usage.completion_tokens == 50
    assert engine.cache.n_free == engine.cache.n_blocks


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("admission") / "model")


@pytest.fixture(scope="module")
def model(folder):
    with slmkit.load(folder) as model:
        yield model


def test_a_request_ends_when_its_time_is_over(model):
    began, got = time.perf_counter(), []
    with pytest.raises(DeadlineExceeded):
        got.extend(model.events(Request(prompt="Hm", options=Options(ignore_eos=True, n=64), deadline_s=0.3)))
    assert 0.25 < time.perf_counter() - began < 20
    assert isinstance(got[0], Started)
    assert any(isinstance(event, Chunk) for event in got)
    assert model.generate("Hm", max_tokens=3, deadline_s=1000).choices[0].reason == "length"


@pytest.mark.parametrize("deadline_s", [0, -1, float("nan"), float("inf"), "1", True])
def test_a_deadline_is_a_number_above_0(model, deadline_s):
    with pytest.raises(RequestError, match=r"deadline_s is .*; it takes a number of seconds above 0"):
        model.generate("Hm", deadline_s=deadline_s)


def test_one_request_more_than_the_queue_holds_is_refused_and_later_taken(folder):
    with slmkit.load(folder, queue=3) as model:
        long = Request(prompt="Hm", options=Options(max_tokens=3000, ignore_eos=True))
        started = [model.events(long) for _ in range(3)]
        with pytest.raises(
            Busy, match="3 requests are under way or waiting, as many as are allowed; try again in"
        ) as e:
            model.generate("Hm")
        assert (e.value.http_status, e.value.exit_code) == (503, 5)
        assert 1 <= e.value.retry_after_s <= 60
        assert model.backend.stats().running + model.backend.stats().waiting == 3
        started.pop().close()
        for _ in range(1000):
            try:
                assert model.generate("Hm", max_tokens=2).choices[0].text is not None
                break
            except Busy:  # the step that drops the cancelled one has not come yet
                time.sleep(0.01)
        else:
            raise AssertionError("there was never room again")


def test_a_worker_refuses_under_its_own_lock():
    worker = Worker(engine_of_letters(), most=1)
    kept = worker.submit(task([4], limit=4000))
    with pytest.raises(Busy):
        worker.submit(task([4]))
    kept.close()
    worker.close()


@pytest.mark.parametrize("kernels", KERNELS[:1])
def test_counts_are_those_of_what_was_done(kernels):
    model = runner("gqa", kernels)
    engine = Engine(model.model, Cache(200, *_shape(model)))
    run(engine, task(IDS[:100], limit=5), task(IDS[200:250], limit=3, n=2))
    run(engine, task(IDS[:100], limit=5))
    counts = asdict(engine.counts)
    pace = counts.pop("pace")
    assert 0 < pace < 10
    assert counts == {
        "running": 0, "ended": 3, "prompt_tokens": 250, "reused_tokens": 96, "generated_tokens": 16, "preemptions": 0,
        "steps": counts["steps"],
    }  # fmt: skip
    assert counts["steps"] >= 10


def test_preemptions_are_counted():
    engine = engine_of_letters(4)
    run(engine, *[task(IDS[40 * i :][:30], limit=60) for i in range(3)])
    assert engine.counts.preemptions > 0


def _shape(model):
    return model.cache.data.shape[1], model.cache.data.shape[3], model.config.head_dim, "f32"


def test_stats_of_a_model_at_rest(folder):
    with slmkit.load(folder) as model:
        assert model.backend.stats().blocks_used == 0
        model.generate(["Hm" * 40, "Hm" * 40], max_tokens=4)
        stats = model.backend.stats()
        assert (stats.running, stats.waiting, stats.blocks_used) == (0, 0, 0)
        assert stats.blocks > 0
        assert (stats.generated_tokens, stats.preemptions) == (8, 0)
        assert 0 < stats.reused_tokens < stats.prompt_tokens
    assert model.backend.stats().blocks == 0
