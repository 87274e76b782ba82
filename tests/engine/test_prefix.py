"""What one request has read, others do not read again; no bit of an answer shows it, and no block is lost."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest
from driving import Recorder, answer, held_blocks, run, task
from hypothesis import given, settings
from hypothesis import strategies as st

import adapters
import small
from checkpoints import CASES, NATIVE, REFERENCE, Runner
from slmkit.engine import step as step_module
from slmkit.engine.cache import Cache
from slmkit.engine.memory import layout_of
from slmkit.engine.step import Engine
from slmkit.engine.worker import new_job
from slmkit.ops.segments import BLOCK

if TYPE_CHECKING:
    from pathlib import Path

IDS = np.random.default_rng(9).integers(4, 100, 900).tolist()
pytestmark = pytest.mark.skipif(not NATIVE, reason="the native kernels were not built")


class Models:
    """One model; every engine of it begins with an empty cache, full of what must not matter."""

    def __init__(self, folder: Path, quantize: str = "q4", cache: str = "q8", **given) -> None:
        self.runner = Runner(folder, NATIVE[0], quantize, cache, blocks=1, **given)
        layout = layout_of(self.runner.config)
        self.shape = (layout.layers, layout.kv_heads, layout.head_dim, cache, layout.strands)
        self.cold: dict[tuple, tuple] = {}

    def engine(self, blocks: int = 400, step_tokens: int = 256) -> Engine:
        cache = Cache(blocks, *self.shape)
        cache.data.view(np.uint8)[...] = 0xA5
        return Engine(self.runner.model, cache, step_tokens)

    def ask(self, engine: Engine, *prompts: list[int], limit: int = 12, **options):
        """[(rows of logits by length, answer)] of prompts that come at once"""
        recorders = [Recorder() for _ in prompts]
        tasks = [
            task(ids, limit=limit, processors=(r,), **{"temperature": 1.0, "seed": 7, **options})
            for ids, r in zip(prompts, recorders, strict=True)
        ]
        answers = run(engine, *tasks, after_step=check)
        return [(r.rows, a) for r, a in zip(recorders, answers, strict=True)]

    def right(self, ids: list[int], **options):
        """The same with nothing to share."""
        key = tuple(ids), *sorted(options.items())
        if key not in self.cold:
            (self.cold[key],) = self.ask(self.engine(), ids, **options)
        return self.cold[key]


def check(engine: Engine) -> None:
    """Every block is held by those that say so, kept once, or free."""
    cache = engine.cache
    held = held_blocks(engine)
    assert len(set(held) - {-1}) + cache.n_free == cache.n_blocks
    nodes, kept = list(cache.prefixes._roots.values()), []
    while nodes:
        node = nodes.pop()
        assert not node.is_gone
        kept += node.blocks
        nodes += node.children.values()
    assert len(kept) == len(set(kept)) == sum(cache._is_kept)
    assert sum(not cache._holders[block] for block in kept) == cache.n_free - cache.n_unkept


def assert_same(got, right):
    (rows, answer), (right_rows, right_answer) = got, right
    assert rows.keys() == right_rows.keys()
    for length in rows:
        np.testing.assert_array_equal(rows[length], right_rows[length], str(length))
    assert [c.text for c in answer.choices] == [c.text for c in right_answer.choices]


def cached(got) -> int:
    return got[1].choices[0].usage.cached_tokens


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(REFERENCE / CASES["gqa"]["folder"])


@pytest.fixture(scope="module")
def sparse(tmp_path_factory) -> Models:
    """Strands, and another rotary table from 97 tokens on."""
    return Models(small.write_model(tmp_path_factory.mktemp("sparse") / "model", **small.LONGROPE))


@pytest.fixture
def n_read(monkeypatch):
    """How many tokens each step reads."""
    counts = []

    def counted(model, cache, plan, forward=step_module.forward):
        counts.append(sum(work.count for work in plan))
        return forward(model, cache, plan)

    monkeypatch.setattr(step_module, "forward", counted)
    return counts


@pytest.mark.parametrize(("quantize", "cache"), [*product(("q4", "none"), ("q8", "f16", "f32"))])
@pytest.mark.parametrize("shared", [31, 32, 33, 100, 256, 300])
def test_a_second_prompt_reads_only_what_is_new_and_gives_the_same_bits(quantize, cache, shared):
    models = Models(REFERENCE / CASES["gqa"]["folder"], quantize, cache)
    engine = models.engine()
    models.ask(engine, IDS[:300])
    other = IDS[:shared] + IDS[400:440]
    (got,) = models.ask(engine, other)
    assert cached(got) == shared // BLOCK * BLOCK
    assert_same(got, models.right(other))


@pytest.mark.parametrize("n", [1, 32, 33, 64, 65, 300])
def test_of_the_same_prompt_the_last_token_is_read_again(models, n):
    engine = models.engine()
    for expected in (0, (n - 1) // BLOCK * BLOCK):
        (got,) = models.ask(engine, IDS[:n])
        assert cached(got) == expected
        assert_same(got, models.right(IDS[:n]))


def test_a_conversation_goes_on_from_the_answer(models):
    engine = models.engine()
    ((_, first),) = models.ask(engine, IDS[:40], limit=60)
    longer = IDS[:40] + [token.id for token in first.choices[0].tokens] + IDS[500:520]
    (got,) = models.ask(engine, longer)
    assert cached(got) == 96
    assert_same(got, models.right(longer))


def test_several_lines_stay_side_by_side(models):
    engine = models.engine()
    prompts = [IDS[i : i + 100] for i in (0, 100, 200)]
    models.ask(engine, *prompts)
    for ids in prompts:
        (got,) = models.ask(engine, ids)
        assert cached(got) == 96


def test_what_comes_at_the_same_time_is_read_once(models, n_read):
    engine = models.engine(step_tokens=64)
    prompts = [IDS[:256] + IDS[300 + 10 * i : 310 + 10 * i] for i in range(6)]
    got = models.ask(engine, *prompts, limit=1)
    assert sum(n_read) == 256 + 6 * 10
    for each, ids in zip(got, prompts, strict=True):
        assert_same(each, models.right(ids, limit=1))


def test_one_that_comes_later_joins_the_one_that_is_reading(models, n_read):
    engine = models.engine(step_tokens=64)
    first, second = (new_job(task(ids, limit=1)) for ids in (IDS[:500], [*IDS[:480], 5, 6, 7]))
    engine.add(first)
    engine.step()
    engine.add(second)
    while engine.jobs:
        engine.step()
    assert sum(n_read) == 500 + 3
    assert answer(second).choices[0].usage.cached_tokens == 480


@pytest.mark.parametrize("options", [{"n": 3}, {"beams": 3, "temperature": 0.0, "seed": None}, {"speculate": 8}])
def test_several_answers_beams_and_drafts_see_no_difference(models, options):
    engine = models.engine()
    repeating = (IDS[:20] * 12)[:200]
    models.ask(engine, repeating)
    (got,) = models.ask(engine, repeating, limit=40, **options)
    (right,) = models.ask(models.engine(), repeating, limit=40, **options)
    assert cached(got) == 192
    assert [c.text for c in got[1].choices] == [c.text for c in right[1].choices]
    (again,) = models.ask(engine, repeating, limit=40, **options)
    assert [c.text for c in again[1].choices] == [c.text for c in right[1].choices]


def test_rotary_tables_are_never_mixed(sparse):
    """Up to 96 tokens use one table, more the other."""
    engine = sparse.engine()
    for n, limit, expected in (
        (80, 8, 0),
        (80, 8, 64),
        (97, 8, 0),
        (130, 8, 96),
        (90, 1, 64),
        (90, 30, 38),  # crosses over: of the prompt 26 tokens were read with each table
        (200, 8, 128),
    ):
        (got,) = sparse.ask(engine, IDS[:n], limit=limit)
        assert cached(got) == expected, n
        assert_same(got, sparse.right(IDS[:n], limit=limit))


def test_a_sequence_that_crosses_over_is_lent_what_the_other_table_has(sparse, n_read):
    engine = sparse.engine()
    sparse.ask(engine, IDS[:200])
    before = sum(n_read)
    (first,) = sparse.ask(engine, IDS[:90], limit=30)
    rest = [token.id for token in first[1].choices[0].tokens]
    assert sum(n_read) - before < 90 + 97 + 30 if rest else True
    assert_same(first, sparse.right(IDS[:90], limit=30))


@pytest.mark.parametrize("blocks", [9, 14])
def test_preemption_with_shared_blocks_changes_no_bit(models, blocks):
    prompts = [IDS[:n] for n in (70, 150, 96)] + [IDS[:64] + IDS[300:350], IDS[:150], IDS[200:300]]
    engine = models.engine(blocks, step_tokens=64)
    for _ in range(2):
        got = models.ask(engine, *prompts, limit=40)
        for each, ids in zip(got, prompts, strict=True):
            assert_same(each, models.right(ids, limit=40))
    assert engine.cache.n_free == blocks


@pytest.mark.parametrize("blocks", [52, 70, 300])
def test_strands_that_lose_sight_of_blocks_share_them_all_the_same(sparse, blocks):
    """And a long sequence can have them back where there are no others: a context fits the cache."""
    engine = sparse.engine(blocks, step_tokens=64)
    for n in (330, 130, 330, 400):
        (got,) = sparse.ask(engine, IDS[:n], limit=30)
        assert_same(got, sparse.right(IDS[:n], limit=30))
    got = sparse.ask(engine, IDS[:300], IDS[:200], IDS[400:600], limit=30)
    for each, ids in zip(got, (IDS[:300], IDS[:200], IDS[400:600]), strict=True):
        assert_same(each, sparse.right(ids, limit=30))
    assert engine.cache.n_free == blocks


def test_what_was_used_longest_ago_goes_first_and_from_its_end(models):
    engine = models.engine(blocks=12)
    old, new = IDS[:130], IDS[200:330]  # 4 whole blocks each
    for ids in (old, new, old):
        models.ask(engine, ids, limit=1)
    models.ask(engine, IDS[400:570], limit=1)  # 6 blocks, where 4 are free
    left = [engine.cache.prefixes.line(new_job(task(ids)).live[0], 99)[0] for ids in (new, old)]
    assert left == [new[:64], old[:128]]


def test_adapters_have_prefixes_of_their_own(tmp_path):
    folder = REFERENCE / CASES["gqa"]["folder"]
    models = Models(folder, adapters={"a": adapters.write_for(tmp_path / "a", folder)})
    engine = models.engine()
    for adapter, expected in (("", 0), ("a", 0), ("", 96), ("a", 96)):
        (got,) = models.ask(engine, IDS[:100], adapter=adapter)
        assert cached(got) == expected
        assert_same(got, models.right(IDS[:100], adapter=adapter))


def test_images_are_told_apart(models):
    """By the numbers that stand for them among the ids (images.py); the model here reads each as token 0."""
    engine = models.engine()
    found = []
    for number in (0, 1, 0):
        engine.add(job := new_job(task(IDS[:100])))
        job.live[0].ids[20:60] = [-1 - number] * 40
        while engine.jobs:
            engine.step()
        found.append(answer(job).choices[0].usage.cached_tokens)
    assert found == [0, 0, 96]


def test_a_request_that_was_cancelled_leaves_what_it_has_read(models):
    engine = models.engine(step_tokens=64)
    engine.add(job := new_job(task(IDS[:300])))
    engine.step()
    engine.step()
    job.cancelled = True
    engine.step()
    check(engine)
    (got,) = models.ask(engine, IDS[:300])
    assert cached(got) == 128


prompts = st.builds(
    lambda stem, n, tail: IDS[100 * stem : 100 * stem + n] + IDS[700 + tail : 700 + 2 * tail],
    st.integers(0, 1),
    st.integers(1, 140),
    st.integers(0, 20),
)


@settings(max_examples=25)
@given(st.lists(st.lists(prompts, min_size=1, max_size=4), min_size=1, max_size=4), st.integers(6, 20), st.booleans())
def test_whatever_comes_together_and_however_few_the_blocks(models, groups, blocks, is_small_step):
    engine = models.engine(blocks, 32 if is_small_step else 256)
    for group in groups:
        for got, ids in zip(models.ask(engine, *group, limit=5), group, strict=True):
            assert_same(got, models.right(ids, limit=5))
    assert engine.cache.n_free == blocks
