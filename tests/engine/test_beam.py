"""Beam search against stored searches of `transformers`, and against trying everything."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from driving import held_blocks, run, task

from checkpoints import KERNELS, runner
from slmkit.engine.cache import Cache
from slmkit.engine.sampling import log_softmax
from slmkit.engine.step import Engine
from slmkit.engine.worker import new_job
from slmkit.ops import reference

SEARCHES = json.loads((Path(__file__).parents[1] / "reference/beams.json").read_text())["searches"]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("n", range(len(SEARCHES)))
def test_answers_and_scores_are_those_of_transformers(n, kernels):
    search, model = SEARCHES[n], runner(SEARCHES[n]["case"], kernels)
    beams = search["num_beams"]
    answer, = run(
        Engine(model.model, model.cache),
        task(search["prompt"], search["max_new_tokens"], search["stop_ids"], beams=beams, n=beams,
             length_penalty=search["length_penalty"], repetition_penalty=search["repetition_penalty"]),
    )  # fmt: skip
    assert [[t.id for t in c.tokens] for c in answer.choices] == search["ids"]
    # sums of up to 16 float32 log probabilities of about -3: the last bits of a few tens
    np.testing.assert_allclose([c.score for c in answer.choices], search["scores"], atol=1e-4)
    for choice in answer.choices:
        ended = choice.tokens[-1].id in search["stop_ids"]
        assert choice.reason == ("stop" if ended else "length")
    assert model.cache.n_free == model.cache.n_blocks


class Chain:
    """A model whose next token depends on the last one alone: logits are a row of a table."""

    ops = reference

    class rope:  # noqa: N801
        @staticmethod
        def table(length: int) -> int:
            return 0

    def __init__(self, table: np.ndarray) -> None:
        self.rows = table.astype(np.float32)

    def hidden(self, ids, step):
        return ids

    def logits(self, ids):
        return self.rows[ids]


def chain(seed: int, vocab: int) -> Engine:
    return Engine(Chain(np.random.default_rng(seed).normal(0, 2, (vocab, vocab))), Cache(64, 1, 1, 2, "f32"))


def everything(engine: Engine, start: int, depth: int, stops: set[int], power: float) -> list[tuple[float, list[int]]]:
    """Every line that ends at a stop id or at `depth` tokens, best first."""
    rows = np.array([log_softmax(row) for row in engine.model.rows], np.float64)
    found = []
    for length in range(1, depth + 1):
        for line in itertools.product(range(len(rows)), repeat=length):
            if stops & set(line[:-1]) or (line[-1] not in stops and length < depth):
                continue
            total = sum(rows[a, b] for a, b in itertools.pairwise((start, *line)))
            found.append((total / length**power, list(line)))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("power", [0.0, 1.0])
def test_as_many_beams_as_there_are_lines_find_the_best_line_of_all(seed, power):
    engine, beams = chain(seed, 4), 64
    (answer,) = run(engine, task([1], 3, stop_ids=[0], beams=beams, n=5, length_penalty=power))
    best = everything(engine, 1, 3, {0}, power)[:5]
    assert [[t.id for t in c.tokens] for c in answer.choices] == [line for _, line in best]
    np.testing.assert_allclose([c.score for c in answer.choices], [score for score, _ in best], atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_two_searches_that_need_all_blocks_do_not_wait_for_each_other(seed):
    """Beams that wait with everything read must give their blocks back to an earlier request."""
    engine = chain(seed, 50)
    engine.cache = Cache(12, 1, 1, 2, "f32")
    roomy = chain(seed, 50)
    tasks = [task([1, 2, 3] * 10, 60, beams=4, n=4), task([3, 2, 1] * 10, 60, beams=4, n=4)]
    alone = [run(roomy, each)[0] for each in tasks]

    def check(engine: Engine) -> None:
        assert len(set(held_blocks(engine))) + engine.cache.n_free == 12

    together = run(engine, *tasks, after_step=check)
    assert [[c.tokens for c in a.choices] for a in together] == [[c.tokens for c in a.choices] for a in alone]
    assert engine.cache.n_free == 12


def test_a_beam_ends_at_a_stop_string():
    engine = chain(3, 50)
    (free,) = run(engine, task([1], 12, beams=3))
    stop = free.text[4:6]
    (stopped,) = run(engine, task([1], 12, beams=3, n=3, stop=(stop,)))
    assert any(c.reason == "stop" and c.stop == stop for c in stopped.choices)
    assert all(stop not in c.text for c in stopped.choices)
    assert [c.score for c in stopped.choices] == sorted((c.score for c in stopped.choices), reverse=True)


def test_a_scorer_ranks_the_answers_of_the_beams():
    engine = chain(1, 20)
    (answer,) = run(engine, task([1], 5, beams=4, n=4, scorer=lambda text, ids, logprob: -ids[-1]))
    assert [c.score for c in answer.choices] == sorted([-c.tokens[-1].id for c in answer.choices], reverse=True)


def test_all_beams_go_on_though_stop_ids_fill_the_best_candidates():
    engine = chain(0, 20)
    engine.model.rows[:, :3] = 9  # three stop ids come after the likeliest: the rest of the best 2 k continuations
    engine.model.rows[:, 4] = 10
    job = new_job(task([5], 10, stop_ids=[0, 1, 2], beams=2))
    engine.add(job)
    engine.step()
    assert len(job.live) == 2
    assert [line.ids[-1] for _, line in job.ended] == [0]
