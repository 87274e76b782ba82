"""Prompts that an earlier run has read: the same answers to the bit, whatever the file has and has not."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest
from driving import Recorder, run, task

import small
from checkpoints import KERNELS, NATIVE, Runner, runner
from slmkit.engine.cache import Cache
from slmkit.engine.memory import layout_of
from slmkit.engine.prompt_file import NUMERICS
from slmkit.engine.prompts import FilePrompts
from slmkit.engine.step import Engine

if TYPE_CHECKING:
    from pathlib import Path

IDS = np.random.default_rng(5).integers(4, 100, 600).tolist()
needs_native = pytest.mark.skipif(not NATIVE, reason="the native kernels were not built")


@dataclass
class Key:
    name: str = "k"

    def digest(self) -> str:
        return self.name


class Runs:
    """Runs of one model, each with a cache of its own; all name the same file."""

    def __init__(self, model: Runner, path: Path, blocks: int = 256) -> None:
        self.model, self.path, self.blocks = model, path, blocks
        layout = layout_of(model.config)
        kind = {"float32": "f32", "float16": "f16", "int8": "q8"}[str(model.cache.data.dtype)]
        self.shape = (layout.layers, layout.kv_heads, layout.head_dim, kind, layout.strands)

    def engine(self, key: str = "k", step_tokens: int = 256, *, with_file: bool = True) -> Engine:
        cache = Cache(self.blocks, *self.shape)
        cache.data.view(np.uint8)[...] = 0xA5  # what a block held before must not matter
        prompts = FilePrompts(self.path, Key(key), "model", cache) if with_file else None
        return Engine(self.model.model, cache, step_tokens, prompts)

    def ask(self, engine: Engine, ids: list[int], limit: int = 20, **options):
        """(rows of logits by length, answer)"""
        recorder = Recorder()
        options = {"temperature": 1.0, "seed": 7, **options}
        (answer,) = run(engine, task(ids, limit=limit, processors=(recorder,), **options))
        return recorder.rows, answer

    def __call__(self, ids, *, with_file=True, key="k", step_tokens=256, **options):
        """One run from beginning to end."""
        engine = self.engine(key, step_tokens, with_file=with_file)
        rows, answer = self.ask(engine, ids, **options)
        engine.close()
        assert engine.cache.n_free == engine.cache.n_blocks
        return rows, answer


def assert_same(got, right, exact=True):
    (rows, answer), (right_rows, right_answer) = got, right
    assert rows.keys() == right_rows.keys()
    for length in rows:
        if exact:
            np.testing.assert_array_equal(rows[length], right_rows[length], str(length))
        else:  # NumPy's sums go in another order where a step has another number of rows
            np.testing.assert_allclose(rows[length], right_rows[length], rtol=1e-3, atol=1e-4)
    assert [c.text for c in answer.choices] == [c.text for c in right_answer.choices]


def cached(got) -> int:
    return got[1].choices[0].usage.cached_tokens


@pytest.fixture(params=["gqa"])
def runs(request, tmp_path):
    return Runs(runner(request.param, KERNELS[0]), tmp_path / "x.cache")


@pytest.mark.parametrize("n", [1, 31, 32, 33, 63, 64, 65, 96, 97, 300])
@pytest.mark.parametrize(
    ("kernels", "quantize", "cache"),
    [
        *product(NATIVE[:1], ("q4",), ("f32", "f16", "q8")),
        ("reference", "none", "f32"),
        ("reference", "none", "f16"),
    ],
)
def test_the_second_run_gives_the_same_bits_and_reads_less(tmp_path, kernels, quantize, cache, n):
    runs = Runs(runner("gqa", kernels, quantize, cache), tmp_path / "x")
    exact = kernels != "reference"
    right = runs(IDS[:n], with_file=False)
    first = runs(IDS[:n])
    second = runs(IDS[:n])
    assert_same(first, right, exact)
    assert_same(second, right, exact)
    assert (cached(first), cached(second)) == (0, (n - 1) // 32 * 32)  # the last token is read for its logits


@needs_native
def test_an_answer_is_kept_too_and_a_conversation_goes_on_from_it(runs):
    _, answer = runs(IDS[:40], limit=60)
    said = [token.id for token in answer.choices[0].tokens]
    longer = IDS[:40] + said + IDS[100:130]
    got = runs(longer)
    assert cached(got) == 96  # of 40 + 59, the last token of an answer is never read
    assert_same(got, runs(longer, with_file=False))


@needs_native
@pytest.mark.parametrize("shared", [0, 1, 31, 32, 33, 64, 200])
def test_a_prompt_that_differs_takes_whole_blocks_of_what_is_the_same(runs, shared):
    runs(IDS[:250])
    other = [*IDS[:shared], 5 + IDS[shared] % 90, *IDS[300:350]]
    assert other[shared] != IDS[shared]
    got = runs(other)
    assert cached(got) == shared // 32 * 32
    assert_same(got, runs(other, with_file=False))
    assert cached(runs(other)) == (len(other) - 1) // 32 * 32  # the file has the last line now


@needs_native
@pytest.mark.parametrize("step_tokens", [32, 100])
def test_drafts_steps_and_several_answers_see_no_difference(runs, step_tokens):
    prompt = (IDS[:20] * 12)[:230]
    runs(prompt)
    for options in ({"speculate": 8}, {"n": 3}, {"temperature": 0.0, "beams": 3, "seed": None}, {"speculate": 0}):
        got = runs(prompt, step_tokens=step_tokens, **options)
        right = runs(prompt, step_tokens=step_tokens, with_file=False, **options)
        assert [c.text for c in got[1].choices] == [c.text for c in right[1].choices]
        assert cached(got) == 224


@needs_native
def test_turns_of_one_run_read_only_what_is_new_and_the_file_is_written_once(runs):
    engine, line = runs.engine(), list(IDS[:50])
    for turn in range(3):
        rows, answer = runs.ask(engine, line)
        assert answer.choices[0].usage.cached_tokens == [0, 64, 96][turn]
        assert_same((rows, answer), runs(line, with_file=False))
        line += [token.id for token in answer.choices[0].tokens] + IDS[200 + turn : 215 + turn]
        assert not runs.path.exists()
    engine.close()
    assert cached(runs(line)) == 128


@needs_native
def test_rope_tables_are_never_mixed(tmp_path):
    """Up to 96 tokens use one table, more the other: the file has the keys of one of them."""
    folder = small.write_model(tmp_path / "model", **small.LONGROPE)
    runs = Runs(Runner(folder, NATIVE[0], "q4", "q8", blocks=1), tmp_path / "x")
    for n, limit, expected in (
        (80, 8, 0), (80, 8, 64),  # short
        (80, 40, 0), (80, 8, 0),  # crosses over while it answers: all is read again, and the file has that
        (96, 1, 64), (97, 1, 0), (97, 20, 96), (96, 1, 0), (120, 8, 0), (96, 1, 0),
    ):  # fmt: skip
        got = runs(IDS[:n], limit=limit)
        assert cached(got) == expected, n
        assert_same(got, runs(IDS[:n], limit=limit, with_file=False))


@needs_native
@pytest.mark.parametrize("cache", ["f32", "f16", "q8"])
def test_strands_of_sparse_layers_come_back_whole(tmp_path, cache):
    """Blocks that no head saw any more at the end of one run are seen by a shorter prompt of the next."""
    runs = Runs(Runner(small.write_model(tmp_path / "model"), NATIVE[0], "q4", cache, blocks=1), tmp_path / "x")
    for n, expected in ((400, 0), (400, 384), (200, 192), (130, 128), (500, 128)):
        got = runs(IDS[:n], limit=40)
        assert cached(got) == expected
        assert_same(got, runs(IDS[:n], limit=40, with_file=False))


@needs_native
def test_what_is_held_gives_way_where_blocks_are_short(runs):
    right = [runs(IDS[i : i + 150], with_file=False) for i in (0, 200)]
    runs.blocks = 6  # 150 + 20 tokens take as many
    engine = runs.engine()
    for i, other in zip((0, 200), right, strict=True):
        got = runs.ask(engine, IDS[i : i + 150])
        assert cached(got) == 0
        assert_same(got, other)
    engine.close()
    got = runs(IDS[200:350])
    assert cached(got) == 128
    assert_same(got, right[1])


@needs_native
def test_of_a_file_as_many_blocks_are_taken_as_are_free(runs):
    runs(IDS[:150])
    runs.blocks = 6
    engine = runs.engine()
    engine.cache.take(3)
    job = _job(IDS[:150])
    engine.prompts.begin(job.live[0], 0)
    assert (job.live[0].n_cached, engine.cache.n_free) == (96, 0)


@needs_native
def test_tokens_that_were_given_back_and_read_again_do_not_count_as_cached(runs):
    runs(IDS[:150])
    runs.blocks = 6
    engine = runs.engine()
    answers = run(engine, task(IDS[300:400], limit=60), task(IDS[:150], limit=20))
    assert answers[1].choices[0].usage.cached_tokens == 0  # the first one's answer took what the file had filled


@needs_native
@pytest.mark.parametrize(
    ("quantize", "cache", "digest"),
    [
        ("none", "f32", "29cd4e1991932d22"),
        ("q8", "f16", "906802a1cdd92d0d"),
        ("q4", "q8", "2965dc6c7f802a9a"),
    ],
)
def test_numbers_of_old_files_are_those_of_today(quantize, cache, digest):
    """Where a change moved bits: NUMERICS in engine/prompt_file.py goes up, and the digests here are new ones."""
    run_ = runner("gqa", NATIVE[-1], quantize, cache)
    line = run_.line(IDS[:64])
    run_.run((line, 64))
    found = hashlib.sha256(run_.cache.data[line.blocks].tobytes()).hexdigest()
    run_.cache.release(line.blocks)
    assert (NUMERICS, found[:16]) == (1, digest)


def _job(ids):
    from slmkit.engine.worker import new_job

    return new_job(task(ids, limit=20))


@needs_native
def test_a_run_that_was_cancelled_keeps_what_it_has_read(runs):
    engine = runs.engine(step_tokens=64)
    engine.add(job := _job(IDS[:300]))
    engine.step()
    engine.step()
    job.cancelled = True
    engine.step()
    engine.close()
    assert cached(runs(IDS[:300])) == 128


@needs_native
def test_an_image_among_the_ids_ends_what_is_kept(runs):
    engine = runs.engine()
    engine.add(job := _job(IDS[:100]))
    job.live[0].ids[70:80] = [-1] * 10
    engine.prompts.begin(job.live[0], 0)
    job.live[0].n_cached, job.live[0].blocks = 96, engine.cache.take(3)
    engine.cache.prefixes.note(job.live[0], engine.cache)
    assert engine.prompts.line() == (IDS[:64], job.live[0].blocks[:2])
