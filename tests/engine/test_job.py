"""Jobs in the engine: what is told, who fails, what is freed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from driving import Recorder, answer, events, run, task
from test_beam import chain

import tiny
from checkpoints import KERNELS, runner
from slmkit.engine.cache import Cache
from slmkit.engine.sampling import log_softmax
from slmkit.engine.step import Engine
from slmkit.engine.worker import new_job
from slmkit.errors import ModelError, RequestError, RuntimeFailure
from slmkit.events import Chunk, Finished, Started

PROMPT = [10, 20, 30]


def fails_at(length):
    def failing(ids, logits):
        if len(ids) >= length:
            raise ValueError("mine")
        return logits

    return failing


@pytest.mark.parametrize("bad", [1, 2])
def test_a_processor_that_fails_ends_its_own_request_only_and_moves_no_row(bad):
    """Rows after those of the job that failed must still reach their owners."""
    engine, others = chain(0, 100), [[5, 6], [7, 8, 9]]
    expected = [run(chain(0, 100), task(ids, 6))[0].text for ids in others]
    jobs = [new_job(task(ids, 6)) for ids in others]
    failing = new_job(task(PROMPT, 6, n=3, temperature=1.0, seed=1, processors=(fails_at(4 + bad),)))
    for job in (failing, *jobs):
        engine.add(job)
    while engine.jobs:
        engine.step()
    assert [answer(job).text for job in jobs] == expected
    with pytest.raises(ValueError, match="mine"):
        events(failing)
    assert engine.cache.n_free == engine.cache.n_blocks


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_a_processor_that_wants_to_end_the_program_ends_its_own_request(error):
    def leaving(ids, logits):
        raise error

    engine = chain(0, 100)
    job = new_job(task(PROMPT, processors=(leaving,)))
    engine.add(job)
    engine.step()
    assert engine.jobs == []
    with pytest.raises(type(error)):
        events(job)


def test_logits_that_are_not_finite_end_the_request_as_the_models_fault():
    engine = chain(0, 100)
    engine.model.rows[30, 2] = math.nan
    with pytest.raises(ModelError, match="not all finite numbers; fetch its weights again"):
        run(engine, task(PROMPT))


def test_a_failed_engine_gives_every_job_an_error_of_its_own():
    engine, jobs = chain(0, 100), [new_job(task(PROMPT)) for _ in range(2)]
    for job in jobs:
        engine.add(job)
    cause = MemoryError()
    engine.fail("no memory", cause)
    errors = []
    for job in jobs:
        with pytest.raises(RuntimeFailure, match="no memory") as raised:
            events(job)
        assert raised.value.__cause__ is cause
        errors.append(raised.value)
    assert errors[0] is not errors[1]


def test_a_request_tells_its_start_each_token_and_one_end_for_each_choice():
    job = new_job(task(PROMPT, 5, n=2, temperature=1.0, seed=3))
    engine = chain(0, 100)
    engine.add(job)
    while engine.jobs:
        engine.step()
    told = events(job)
    assert told[0] == Started(3)
    for index in (0, 1):
        mine = [e for e in told[1:] if e.index == index]
        assert [type(e) for e in mine] == [Chunk] * 5 + [Finished]
        assert (mine[-1].reason, mine[-1].usage.prompt_tokens, mine[-1].usage.completion_tokens) == ("length", 3, 5)
        assert 0 <= mine[-1].timing.first_token_s <= mine[-1].timing.total_s


def test_a_cancelled_request_ends_before_the_next_step_without_a_finished_event():
    job, engine = new_job(task(PROMPT, 100)), chain(0, 100)
    engine.add(job)
    engine.step()
    job.cancelled = True
    engine.step()
    told = events(job)
    assert [type(e) for e in told] == [Started, Chunk]
    assert engine.jobs == []
    assert engine.cache.n_free == engine.cache.n_blocks


def test_samples_share_the_prompt_and_differ(monkeypatch):
    engine = chain(0, 100)
    (result,) = run(engine, task([1] * 40, 10, n=4, temperature=1.5, seed=11))
    assert len({c.text for c in result.choices}) == 4
    # choice i draws the same numbers whatever n is
    (two,) = run(engine, task([1] * 40, 10, n=2, temperature=1.5, seed=11))
    assert [c.text for c in two.choices] == [c.text for c in result.choices[:2]]


def test_samples_of_a_prompt_read_it_once():
    engine, read = chain(0, 100), []
    hidden = engine.model.hidden
    engine.model.hidden = lambda ids, step: (read.append(len(ids)), hidden(ids, step))[1]
    run(engine, task([1] * 40, 10, n=4, temperature=1.5, seed=11))
    assert sum(read) == 40 + 4 * 9


def test_the_seed_decides_the_answer_and_the_batch_does_not():
    engine = chain(0, 100)
    one = task(PROMPT, 20, temperature=1.0, seed=5)
    alone = run(engine, one)[0].text
    crowd = run(engine, *[task([i, 2], 20, temperature=1.0, seed=i) for i in range(6)], one)
    assert crowd[-1].text == alone
    assert run(engine, task(PROMPT, 20, temperature=1.0, seed=6))[0].text != alone


def letters(text: str) -> list[int]:
    return tiny.tokenizer().encode(text)[1:]


def say(text: str, limit: int = 50, **options):
    """The answer of a model that says this."""
    ids = [*PROMPT, *letters(text), tiny.END]
    run_ = chain(0, 128)
    return run(run_, task(PROMPT, limit, stop_ids=[tiny.END], processors=(Recorder(then=ids),), **options))[0].choices[
        0
    ]


@pytest.mark.parametrize(
    ("stop", "text", "reason", "met"),
    [
        (("lo w",), "hel", "stop", "lo w"),  # across tokens
        (("world",), "hello ", "stop", "world"),
        (("worldly",), "hello world", "stop", "<|endoftext|>"),  # begun, never met
        (("w", "o"), "hell", "stop", "o"),
    ],
)
def test_stop_strings_end_the_text_before_themselves(stop, text, reason, met):
    choice = say("hello world", stop=stop)
    assert (choice.text, choice.reason, choice.stop) == (text, reason, met)


def test_text_held_back_for_a_stop_string_comes_when_max_tokens_ends_the_answer():
    choice = say("hello world", limit=4, stop=("lot",))
    assert (choice.text, choice.reason, choice.stop) == ("hell", "length", None)
    choice = say("hello world", limit=5, stop=("lot",))
    assert (choice.text, choice.reason, choice.stop) == ("hello", "length", None)


def test_half_a_character_at_the_end_is_one_mark():
    ids = tiny.tokenizer().encode("é")[1:]
    assert len(ids) == 2
    run_ = chain(0, 128)
    (result,) = run(run_, task(PROMPT, 1, processors=(Recorder(then=[*PROMPT, *ids]),)))
    assert result.text == "�"


def test_a_stop_id_is_told_and_is_not_text():
    choice = say("hi")
    assert (choice.text, choice.reason, choice.stop) == ("hi", "stop", "<|endoftext|>")
    assert choice.tokens[-1].id == tiny.END
    assert choice.usage.completion_tokens == 3


@pytest.mark.parametrize("kernels", KERNELS)
def test_log_probabilities_are_the_models_own_before_bias_and_temperature(kernels):
    run_, recorder = runner("gqa", kernels), Recorder()
    (result,) = run(
        Engine(run_.model, run_.cache),
        task(PROMPT, 6, logprobs=3, temperature=0.5, seed=1, top_k=5, processors=(recorder,)),
    )
    for n, token in enumerate(result.choices[0].tokens):
        row = log_softmax(recorder.rows[3 + n])
        assert token.logprob == row[token.id]
        assert [t.id for t in token.top] == np.argsort(-row, kind="stable")[:3].tolist()
        assert [t.logprob for t in token.top] == [row[t.id] for t in token.top]
        assert math.fsum(np.exp(row.astype(np.float64))) == pytest.approx(1, abs=1e-5)


def test_log_probabilities_alone_are_told_without_alternatives_and_by_default_none():
    assert say("hi", logprobs=0).tokens[0].logprob < 0
    assert say("hi", logprobs=0).tokens[0].top == ()
    assert say("hi").tokens[0].logprob is None


def test_a_scorer_gets_text_ids_and_log_probability_and_ranks_the_choices():
    seen = []

    def scorer(text, ids, logprob):
        seen.append((text, ids, logprob))
        return len(seen) % 3

    (result,) = run(chain(0, 100), task(PROMPT, 4, n=3, temperature=1.0, seed=2, logprobs=0, scorer=scorer))
    assert [c.score for c in result.choices] == [2, 1, 0]
    best = result.choices[0]
    assert seen[1] == (best.text, tuple(t.id for t in best.tokens), pytest.approx(sum(t.logprob for t in best.tokens)))


@pytest.mark.parametrize("value", [math.nan, None, "good"])
def test_a_scorer_that_gives_no_number_is_refused_by_name(value):
    def judge(text, ids, logprob):
        return value

    with pytest.raises(RequestError, match=r"the scorer judge returned .*; return a number"):
        run(chain(0, 100), task(PROMPT, 2, scorer=judge))


@pytest.mark.parametrize("n_blocks", [2, 3, 5])
def test_samples_that_find_no_block_for_a_copy_read_their_tokens_again(n_blocks):
    one = task([1] * 40, 20, n=4, temperature=1.5, seed=11)
    roomy, engine = chain(0, 100), chain(0, 100)
    engine.cache = Cache(n_blocks, 1, 1, 2, "f32")
    assert [c.text for c in run(engine, one)[0].choices] == [c.text for c in run(roomy, one)[0].choices]
    assert engine.cache.n_free == n_blocks
