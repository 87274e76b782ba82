"""Speculation changes nothing but the time: tokens, texts, log probabilities, reasons and scores stay."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from driving import Recorder, answer, events, held_blocks, run, task
from hypothesis import given, settings
from hypothesis import strategies as st
from test_beam import Chain, chain
from test_speculate import Known, flat, linear

import tiny
from checkpoints import NATIVE, REFERENCE, Runner, stored
from slmkit.engine.cache import Cache
from slmkit.engine.step import Engine
from slmkit.engine.worker import new_job
from slmkit.events import Chunk, Finished, Started
from slmkit.ops.segments import BLOCK

PERIOD = [10, 20, 30, 40, 50, 60, 70]
PROMPT = PERIOD * 3


def circle(vocab: int = 100, seed: int = 0) -> Engine:
    """A model that is likely to go through PERIOD, and to come back to it where it left it."""
    rows = np.random.default_rng(seed).normal(0, 1, (vocab, vocab))
    rows[:, PERIOD[0]] = 6
    for here, there in zip(PERIOD, [*PERIOD[1:], PERIOD[0]], strict=True):
        rows[here] = np.where(np.arange(vocab) == there, 6, np.minimum(rows[here], 3))
    return Engine(Chain(rows), Cache(64, 1, 1, 2, "f32"))


def told(answer):
    """Everything that an answer says, but for how it was made."""
    return [(c.text, c.reason, c.stop, c.score, c.tokens, c.usage.completion_tokens) for c in answer.choices]


def accepted(answer) -> int:
    return sum(c.usage.accepted_tokens for c in answer.choices)


def steps_of(engine: Engine, *tasks):
    """Answers, and the number of steps they took."""
    count = []
    return run(engine, *tasks, after_step=lambda e: count.append(1)), len(count)


def same(given: dict, ids=PROMPT, limit=40, **besides) -> int:
    """Check that an answer is told the same at every length of drafts; returns how many draft tokens were accepted."""
    make = {name: given[name] for name in given if name == "processors"}
    plain_options = {name: value for name, value in given.items() if name not in make}

    def ask(speculate):
        extra = {name: make[name]() for name in make}
        return task(ids, limit, **plain_options, **extra, **besides, speculate=speculate)

    (plain,) = run(circle(), ask(0))
    assert accepted(plain) == 0
    total = 0
    for speculate in (1, 2, 5, 16):
        engine = circle()
        (other,) = run(engine, ask(speculate))
        assert told(other) == told(plain)
        assert engine.cache.n_free == engine.cache.n_blocks
        total += accepted(other)
    (auto,) = run(circle(), ask(None))
    assert told(auto) == told(plain)
    return total


def counting():
    """A processor that depends on all ids so far, in their order."""
    seen = []

    def process(ids, logits):
        assert len(seen) == 0 or len(ids) == seen[-1] + 1, "each position is asked for once, in order"
        seen.append(len(ids))
        out = logits.copy()
        out[len(ids) % 7] += 5 * (sum(ids) % 3)
        return out

    return (process,)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"repetition_penalty": 1.2},
        {"repetition_penalty": 1.5, "repetition_window": 5},
        {"presence_penalty": 0.5, "frequency_penalty": 0.3},
        {"logit_bias": {10: -8.0, 33: 3.0}},
        {"logprobs": 3},
        {"temperature": 1.0, "seed": 3},
        {"temperature": 2.0, "seed": 4, "top_k": 20, "top_p": 0.9, "min_p": 0.01},
        {"temperature": 0.7, "seed": 5, "n": 4, "logprobs": 0},
        {"n": 3},
        {"scorer": lambda text, ids, logprob: logprob, "n": 2, "temperature": 1.0, "seed": 9},
        {"processors": counting},
        {"processors": counting, "temperature": 1.0, "seed": 6},
    ],
    ids=" ".join,
)
def test_an_answer_is_the_same_whatever_is_asked(given):
    assert same(given) > 0


@pytest.mark.parametrize("limit", range(1, 20))
def test_max_tokens_ends_an_answer_inside_a_draft(limit):
    n = same({}, limit=limit)
    assert n > 0 or limit < 3


def test_no_draft_goes_beyond_max_tokens():
    (result,) = run(circle(), task(PROMPT, 7, speculate=16))
    # six after the first: five of them drafted, as the last row gives one more
    assert (result.choices[0].usage.drafted_tokens, accepted(result)) == (5, 5)


@pytest.mark.parametrize("stop", range(len(PERIOD)))
def test_a_stop_id_ends_an_answer_inside_a_draft(stop):
    assert same({"stop_ids": [PERIOD[stop]]}) >= 0
    # the prompt's own circle has the stop id, so drafts run over it
    (result,) = run(circle(), task(PROMPT, 40, stop_ids=[PERIOD[stop]], speculate=16))
    assert result.choices[0].reason == "stop"
    assert result.choices[0].usage.completion_tokens == stop + 1


def test_a_stop_string_ends_an_answer_inside_a_draft():
    text = "the cat sat. "
    ids = [1, *tiny.tokenizer().encode(text * 4)[1:]]

    def ask(stop, speculate):
        return run(chain(0, 128), task(ids[:40], 60, stop=stop, speculate=speculate, processors=(Recorder(ids * 3),)))[
            0
        ]

    for stop in (("sat",), ("t sat. t",), (". ", "nothing"), ("at. the cat sat. x",)):
        plain = ask(stop, 0)
        for speculate in (1, 3, 16):
            assert told(ask(stop, speculate)) == told(plain)
    assert accepted(ask(("sat. the dog",), 16)) > 0


def test_text_that_repeats_takes_fewer_steps_and_the_counters_say_how():
    (plain,), n_plain = steps_of(circle(), task(PROMPT, 41, speculate=0))
    (quick,), n_quick = steps_of(circle(), task(PROMPT, 41, speculate=7))
    assert (n_plain, n_quick) == (41, 6)  # the prompt and its token, then eight tokens each
    usage = quick.choices[0].usage
    assert (usage.drafted_tokens, usage.accepted_tokens) == (35, 35)
    assert (plain.choices[0].usage.drafted_tokens, plain.choices[0].usage.accepted_tokens) == (0, 0)


def test_one_batch_holds_answers_with_drafts_and_without():
    asked = [
        {"ids": PROMPT, "limit": 30, "speculate": 5},
        {"ids": [3, 4, 5], "limit": 30, "speculate": 0},
        {"ids": PROMPT[1:], "limit": 9, "speculate": 16, "temperature": 1.0, "seed": 8},
        {"ids": PROMPT[3:], "limit": 20, "speculate": 3, "n": 3, "temperature": 1.5, "seed": 1},
        {"ids": PROMPT, "limit": 12, "beams": 3},
    ]
    together = run(circle(), *[task(**each) for each in asked])
    for each, answer_ in zip(asked, together, strict=True):
        (alone,) = run(circle(), task(**{**each, "speculate": 0}))
        assert told(answer_) == told(alone)
    assert [accepted(a) > 0 for a in together] == [True, False, True, True, False]


def test_by_default_drafts_are_made_where_they_pay_and_steps_are_long_enough_to_look():
    for speed, rows_cost, is_drafted in [(0.1, flat, True), (0.1, linear, False), (0.001, flat, False)]:
        engine = circle()
        engine.drafter.costs = Known(rows_cost, speed)
        (result,) = run(engine, task(PROMPT, 40))
        assert (accepted(result) > 0) is is_drafted
        assert told(result) == told(run(circle(), task(PROMPT, 40, speculate=0))[0])


def test_beams_do_not_speculate():
    (result,) = run(circle(), task(PROMPT, 20, beams=2, speculate=16))
    assert result.choices[0].usage.drafted_tokens == 0


def test_nothing_is_drafted_while_a_prompt_is_read():
    engine, lengths = circle(), []
    engine.step_tokens = 33
    job, late = new_job(task(PROMPT, 60, speculate=16)), new_job(task([5] * 200, 4, speculate=0))
    engine.add(job)
    engine.step()
    engine.add(late)
    while late.live and not late.first_token:
        before = len(job.live[0].ids)
        engine.step()
        lengths.append(len(job.live[0].ids) - before)
    assert set(lengths) == {1}
    engine.step()
    assert len(job.live[0].ids) - before > 2


def test_a_request_that_is_cancelled_between_drafts_gives_everything_back():
    engine, job = circle(), new_job(task(PROMPT, 100, speculate=16))
    engine.add(job)
    engine.step()
    engine.step()
    job.cancelled = True
    engine.step()
    assert [type(e) for e in events(job)] == [Started] + [Chunk] * 18
    assert engine.cache.n_free == engine.cache.n_blocks


def test_a_processor_that_fails_inside_a_draft_ends_its_own_request_only():
    def failing(ids, logits):
        if len(ids) == len(PROMPT) + 5:
            raise ValueError("mine")
        return logits

    engine = circle()
    bad, good = new_job(task(PROMPT, 30, speculate=16, processors=(failing,))), new_job(task(PROMPT, 30, speculate=16))
    engine.add(bad)
    engine.add(good)
    while engine.jobs:
        engine.step()
    assert told(answer(good)) == told(run(circle(), task(PROMPT, 30, speculate=0))[0])
    with pytest.raises(ValueError, match="mine"):
        events(bad)
    assert engine.cache.n_free == engine.cache.n_blocks


asked = st.fixed_dictionaries(
    {
        "ids": st.lists(st.integers(1, 7), min_size=1, max_size=70),
        "limit": st.integers(1, 50),
        "speculate": st.sampled_from([None, 0, 1, 2, 7, 16]),
        "n": st.integers(1, 2),
        "seed": st.integers(0, 2**64 - 1),
        "temperature": st.sampled_from([0.0, 0.5, 1.0]),
        "repetition_penalty": st.sampled_from([1.0, 1.1]),
        "repetition_window": st.sampled_from([0, 3]),
        "logprobs": st.sampled_from([None, 2]),
        "stop": st.sampled_from([(), ("ab", "cb")]),
        "stop_ids": st.sampled_from([(), (2,)]),
        "beams": st.sampled_from([1, 1, 1, 2]),
    }
).map(lambda d: {**d, "temperature": 0.0} if d["beams"] > 1 else d)


@settings(max_examples=80, deadline=None)
@given(st.lists(asked, min_size=1, max_size=5), st.integers(12, 20), st.integers(1, 80), st.integers(0, 9))
def test_answers_stay_in_any_company_however_few_the_blocks(requests, n_blocks, step_tokens, seed):
    """A vocabulary of eight, so that most ends were there before; blocks run out, and answers are read again."""
    engine = chain(seed, 8)
    engine.cache, engine.step_tokens = Cache(n_blocks, 1, 1, 2, "f32"), step_tokens

    def check(engine):
        held = held_blocks(engine)
        assert len(set(held)) + engine.cache.n_free == n_blocks
        for job in engine.jobs:
            for s in job.live:
                assert len(s.blocks) == -(-s.n_cached // BLOCK)
                assert s.n_cached <= len(s.ids)

    together = run(engine, *[task(**each) for each in requests], after_step=check)
    for each, answer_ in zip(requests, together, strict=True):
        (alone,) = run(chain(seed, 8), task(**{**each, "speculate": 0}))
        assert told(answer_) == told(alone)
    assert engine.cache.n_free == n_blocks


needs_kernels = pytest.mark.skipif(not NATIVE, reason="the native kernels were not built")


def recorded(quantize: str, cache: str, speculate: int | None, text, n_prompt: int, blocks: int = 64, others: int = 0):
    """The logits after each position of an answer that is made to be the text, and how many tokens were accepted."""
    run_ = Runner(REFERENCE / "longrope", "auto", quantize, cache, blocks)
    engine, recorder = Engine(run_.model, run_.cache), Recorder(then=text)
    first = [task(text[i : n_prompt + i], 40, speculate=4) for i in range(others)]
    mine = task(text[:n_prompt], len(text) - n_prompt, speculate=speculate, processors=(recorder,))
    *_, result = run(engine, *first, mine)
    assert [t.id for t in result.choices[0].tokens] == text[n_prompt:]
    assert run_.cache.n_free == blocks
    return recorder.rows, accepted(result)


@needs_kernels
@pytest.mark.parametrize(("quantize", "cache"), [("q4", "q8"), ("q4", "f16"), ("q8", "f32"), ("none", "f32")])
@pytest.mark.parametrize("speculate", [1, 3, 16])
def test_each_position_of_a_draft_has_the_bits_it_has_alone(quantize, cache, speculate):
    """Through the LongRoPE switch, over block boundaries, with drafts that come true and drafts that do not."""
    ids = stored("longrope")["steps_ids"].tolist()
    text = (ids[:11] + ids[:11] + ids[3:9] + ids[:7]) * 3  # longer than twice the context where the switch is
    plain, none = recorded(quantize, cache, 0, text, 9)
    drafted, n_accepted = recorded(quantize, cache, speculate, text, 9)
    assert none == 0 < n_accepted
    assert plain.keys() == drafted.keys()
    for length in plain:
        np.testing.assert_array_equal(drafted[length], plain[length], f"after {length} ids")


@needs_kernels
def test_drafts_under_preemption_have_the_same_bits():
    ids = stored("longrope")["steps_ids"].tolist()
    text = ids[:13] * 7
    plain, _ = recorded("q4", "f16", 0, text, 20)
    crowded, n_accepted = recorded("q4", "f16", 5, text, 20, blocks=5, others=3)
    assert n_accepted > 0
    for length in plain:
        np.testing.assert_array_equal(crowded[length], plain[length])


@needs_kernels
@pytest.mark.parametrize("blocks", [3, 4, 5])
def test_a_draft_that_is_cut_where_blocks_end_has_the_same_bits(blocks):
    """Of a draft that is cut, what was not read must not count as cached when it comes true."""
    ids = stored("longrope")["steps_ids"].tolist()
    text = ids[:13] * 7
    assert len(text) <= 3 * BLOCK
    plain, _ = recorded("q4", "f16", 0, text, 20)
    tight, n_accepted = recorded("q4", "f16", 16, text, 20, blocks=blocks)
    assert n_accepted > 0
    for length in plain:
        np.testing.assert_array_equal(tight[length], plain[length])


def test_a_fork_starts_without_guesses_of_its_own():
    job, engine = new_job(task(PROMPT, 20, speculate=3)), circle()
    engine.add(job)
    for _ in range(3):
        engine.step()
    line = job.live[0]
    line.draft = [1]
    twin = line.fork(1, job.rng(1))
    assert line.guesser is not None
    assert twin.guesser is None
    assert twin.draft == []


def test_finished_tells_what_was_drafted():
    job, engine = new_job(task(PROMPT, 20, n=2, speculate=3)), circle()
    engine.add(job)
    while engine.jobs:
        engine.step()
    usages = [e.usage for e in events(job) if isinstance(e, Finished)]
    assert [dataclasses.astuple(u) for u in usages] == [(21, 20, 0, 14, 14)] * 2
