"""What every backend promises, run over each that can run here (subjects.py)."""

from __future__ import annotations

import asyncio
import time
from dataclasses import fields

import pytest
from subjects import HEAVY, PROMPT, SUBJECTS

from slmkit import Constraint, Message
from slmkit.backends.base import Capabilities
from slmkit.errors import ContextExceeded, RuntimeFailure, SlmError, UnsupportedFeature
from slmkit.events import Chunk, Finished, Started
from slmkit.options import Options
from slmkit.request import Request

RUNTIMES = [
    *SUBJECTS,
    *(pytest.param(name, marks=pytest.mark.runtimes) for name in HEAVY),
]
CALM = {"max_tokens": 12, "temperature": 0.0}
# One request for each thing that a backend may lack.
ASKED = {
    "chat": Request(messages=(Message("user", PROMPT),)),
    "completion": Request(prompt="Once upon a time"),
    "seed": Request(messages=(Message("user", PROMPT),), options=Options(seed=1)),
    "stop": Request(messages=(Message("user", PROMPT),), options=Options(stop=("x",))),
    "top_p": Request(messages=(Message("user", PROMPT),), options=Options(top_p=0.5)),
    "presence_penalty": Request(messages=(Message("user", PROMPT),), options=Options(presence_penalty=1.0)),
    "frequency_penalty": Request(messages=(Message("user", PROMPT),), options=Options(frequency_penalty=1.0)),
    "token_ids": Request(ids=(5, 6, 7)),
    "logprobs": Request(messages=(Message("user", PROMPT),), options=Options(logprobs=2)),
    "beams": Request(messages=(Message("user", PROMPT),), options=Options(beams=2)),
    "logit_bias": Request(messages=(Message("user", PROMPT),), options=Options(logit_bias={5: 1.0})),
    "processors": Request(messages=(Message("user", PROMPT),), processors=(lambda ids, logits: logits,)),
    "scorer": Request(messages=(Message("user", PROMPT),), scorer=lambda text, ids, logprob: logprob),
    "top_k": Request(messages=(Message("user", PROMPT),), options=Options(top_k=5)),
    "min_p": Request(messages=(Message("user", PROMPT),), options=Options(min_p=0.1)),
    "repetition_penalty": Request(messages=(Message("user", PROMPT),), options=Options(repetition_penalty=1.1)),
    "repetition_window": Request(messages=(Message("user", PROMPT),), options=Options(repetition_window=9)),
    "parse_special": Request(messages=(Message("user", PROMPT),), parse_special=True),
    "ignore_eos": Request(messages=(Message("user", PROMPT),), options=Options(ignore_eos=True)),
    "stop_ids": Request(messages=(Message("user", PROMPT),), options=Options(stop_ids=(5,))),
    "many": Request(messages=(Message("user", PROMPT),), options=Options(n=2)),
    "adapter": Request(messages=(Message("user", PROMPT),), options=Options(adapter="poet")),
    "constraint": Request(messages=(Message("user", PROMPT),), constraint=Constraint("json")),
    "deadline": Request(messages=(Message("user", PROMPT),), deadline_s=60.0),
    "prompt_logprobs": Request(messages=(Message("user", PROMPT),), prompt_logprobs=1),
}


@pytest.fixture(scope="module", params=RUNTIMES)
def model(request, tmp_path_factory):
    with {**SUBJECTS, **HEAVY}[request.param](tmp_path_factory.mktemp(request.param)) as model:
        yield model


def test_a_conversation_streams_begins_and_ends_as_it_should(model):
    events = list(model.events(Request(messages=(Message("user", PROMPT),), options=Options(**CALM))))
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    chunks = events[1:-1]
    assert len(chunks) > 1
    assert all(isinstance(event, Chunk) for event in chunks)
    assert "".join(chunk.text for chunk in chunks).strip()
    usage, timing = events[-1].usage, events[-1].timing
    assert usage.prompt_tokens > 0
    assert 0 < usage.completion_tokens <= 12
    assert 0 < timing.first_token_s <= timing.total_s


def test_temperature_0_gives_the_same_answer_whole_and_streamed(model):
    answer = model.chat(PROMPT, **CALM)
    assert answer.text == model.chat(PROMPT, **CALM).text == "".join(model.stream([Message("user", PROMPT)], **CALM))


def test_max_tokens_ends_an_answer_and_is_the_reason(model):
    choice = model.chat(PROMPT, max_tokens=3, temperature=0.0).choices[0]
    assert (choice.reason, choice.usage.completion_tokens) == ("length", 3)


def test_a_stop_text_ends_the_answer_before_it(model):
    if not model.backend.capabilities.stop:
        pytest.skip("has no stop texts, which test_what_it_lacks looks at")
    whole = model.chat(PROMPT, **CALM).text
    stop = whole[len(whole) // 2 :][:4]
    choice = model.chat(PROMPT, **CALM, stop=[stop]).choices[0]
    assert choice.text == whole[: whole.index(stop)]
    assert choice.reason == "stop"


def test_a_seed_repeats_an_answer(model):
    if not model.backend.capabilities.seed:
        pytest.skip("has no seed")
    drawn = {model.chat(PROMPT, max_tokens=12, temperature=1.5, seed=seed).text for seed in (1, 2, 3, 1, 2, 3)}
    assert 1 < len(drawn) <= 3


def test_log_probabilities_are_those_of_a_choice(model):
    if not model.backend.capabilities.logprobs:
        pytest.skip("has no log probabilities")
    tokens = model.chat(PROMPT, **CALM, logprobs=3).choices[0].tokens
    assert tokens
    for token in tokens:
        top = [each.logprob for each in token.top]
        assert len(top) == 3
        assert top == sorted(top, reverse=True)
        assert token.logprob == pytest.approx(top[0], abs=1e-4)  # the likeliest was chosen; servers round
        assert token.logprob <= 0


def test_a_text_is_continued(model):
    if not model.backend.capabilities.completion:
        pytest.skip("has no completion")
    special = {"parse_special": True} if model.name.startswith("ollama:") else {}  # as its API has it
    assert model.generate("Once upon a time", **CALM, **special).text.strip()


def test_closing_the_events_cancels_and_the_next_request_is_answered(model):
    events = model.events(
        Request(messages=(Message("user", PROMPT),), options=Options(max_tokens=200, temperature=0.0))
    )
    for event in events:
        if isinstance(event, Chunk):
            break
    began = time.perf_counter()
    events.close()
    assert not list(events)
    assert model.chat(PROMPT, max_tokens=2, temperature=0.0).text is not None
    assert time.perf_counter() - began < 10


def test_requests_at_the_same_time_have_the_answers_that_they_have_alone(model):
    async def both():
        return await asyncio.gather(model.achat(PROMPT, **CALM), model.achat("Who are you?", **CALM))

    alone = [model.chat(text, **CALM).text for text in (PROMPT, "Who are you?")]
    assert [answer.text for answer in asyncio.run(both())] == alone


@pytest.mark.parametrize("what", ASKED)
def test_what_it_lacks_is_refused_by_name_and_what_it_has_is_answered(model, what):
    if getattr(model.backend.capabilities, what):
        if what in (
            "adapter", "prompt_logprobs", "completion", "constraint", "token_ids", "stop_ids", "logit_bias",
            "parse_special",
        ):  # fmt: skip
            pytest.skip("needs more than a word; tested where it is built")
        list(model.events(Request(**{**vars(ASKED[what]), "options": ASKED[what].options.over(Options(max_tokens=2))})))
        return
    with pytest.raises(UnsupportedFeature, match=what):
        model.events(ASKED[what])


def test_each_capability_is_asked_for_here():
    assert {f.name for f in fields(Capabilities)} == {*ASKED, "images"}


def test_a_prompt_beyond_the_context_is_refused_before_it_is_answered(model):
    with pytest.raises((ContextExceeded, SlmError), match=r"\d"):
        model.chat("dog " * 2 * min(model.context, 200_000), max_tokens=2)


@pytest.mark.parametrize("name", RUNTIMES)
def test_it_says_what_it_is_and_is_closed_for_good(name, tmp_path):
    with {**SUBJECTS, **HEAVY}[name](tmp_path) as model:
        assert model.describe()["name"] == model.name
        model.close()
        with pytest.raises(RuntimeFailure, match="closed"):
            list(model.events(ASKED["chat"]))
