"""The engine's own way through a prompt and an answer, against the stored references."""

from __future__ import annotations

import pytest
from driving import Recorder, run, task

from checkpoints import CASES, KERNELS, REFERENCE, Runner, relative_errors, runner, stored
from slmkit.engine import step as step_module
from slmkit.engine.step import Engine

TOLERANCE = 1e-5  # as in tests/models/test_phi3_logits.py
LONG = [name for name, case in CASES.items() if case["steps"][0] > 4000]
PAIRS = [(name, kernels) for name in CASES for kernels in KERNELS if name not in LONG or kernels == KERNELS[0]]


@pytest.fixture
def tokens_read(monkeypatch):
    """How many tokens each forward pass read."""
    counts = []
    forward = step_module.forward

    def counting(model, cache, plan):
        counts.append(sum(work.count for work in plan))
        return forward(model, cache, plan)

    monkeypatch.setattr(step_module, "forward", counting)
    return counts


@pytest.mark.parametrize(("name", "kernels"), PAIRS)
def test_decoding_token_by_token_gives_the_stored_logits_and_reads_again_once_at_the_switch(name, kernels, tokens_read):
    arrays, lengths = stored(name), CASES[name]["steps"]
    ids = arrays["steps_ids"].tolist()
    recorder = Recorder(then=[*ids, 0])
    run_ = runner(name, kernels)
    answer, = run(Engine(run_.model, run_.cache),
                  task(ids[: lengths[0]], limit=lengths[-1] - lengths[0] + 1, processors=(recorder,)))  # fmt: skip
    assert [t.id for t in answer.choices[0].tokens][:-1] == ids[lengths[0] : lengths[-1]]
    for length, logits in zip(lengths, arrays["steps_logits"], strict=True):
        assert relative_errors(recorder.rows[length], logits) < TOLERANCE, length
    scaling = run_.config.rope_scaling
    again = scaling.original_context + 1 if scaling else 1  # at the switch the whole sequence in place of one token
    assert sum(tokens_read) == lengths[-1] - 1 + again
    assert run_.cache.n_free == run_.cache.n_blocks


@pytest.mark.parametrize(("name", "kernels"), PAIRS)
def test_greedy_answers_are_the_stored_ones(name, kernels):
    run_, case = runner(name, kernels), CASES[name]["greedy"]
    (answer,) = run(Engine(run_.model, run_.cache), task(stored(name)["greedy_prompt"], limit=len(case["ids"])))
    assert [token.id for token in answer.choices[0].tokens] == case["ids"]


@pytest.mark.parametrize("kernels", KERNELS)
def test_greedy_answers_of_a_batch_with_both_rope_tables_are_the_stored_ones(kernels):
    run_ = Runner(REFERENCE / "longrope", kernels, blocks=6)  # six blocks: preemption, too
    steps, greedy = stored("longrope")["steps_ids"].tolist(), stored("longrope")["greedy_prompt"]
    expected = CASES["longrope"]["greedy"]["ids"]
    answers = run(Engine(run_.model, run_.cache, 32), *[task(greedy, len(expected)), task(steps, 30)] * 2)
    assert [[t.id for t in a.choices[0].tokens] for a in answers[::2]] == [expected, expected]
