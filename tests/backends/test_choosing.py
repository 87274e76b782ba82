"""Tokens chosen from logits of elsewhere: with those of our own model, the answers of our own engine."""

from __future__ import annotations

import time

import numpy as np
import pytest

import slmkit
from checkpoints import NATIVE, Runner
from slmkit import Message, Options, Request
from slmkit.backends.choosing import Asking, Choosing
from slmkit.errors import ContextExceeded, DeadlineExceeded, OptionError, RequestError
from slmkit.events import collect
from slmkit.sources.find import open_source

ASKED = (Message("user", "Tell me a story about a dog."),)


@pytest.fixture(scope="module")
def source():
    return open_source("tiny")


@pytest.fixture(scope="module")
def asking(source):
    return Asking(source.tokenizer, 4096, source.defaults, source.stop_ids, 1024, 1024)


@pytest.fixture(scope="module")
def logits(source):
    """Of the last of some ids."""
    runner = Runner(source.path, NATIVE[0] if NATIVE else "reference")
    return lambda ids: runner.last_logits(ids)


def answered(asking, logits, request, ids):
    events = []
    choosing = Choosing(asking.task(request, ids, time.perf_counter()), events.append)
    lines = [[*ids] for _ in range(choosing.n)]
    while not choosing.is_done:
        for line, id in zip(lines, choosing.take(np.stack([logits(line) for line in lines])), strict=True):
            line.append(id)
    assert choosing.done == [True] * choosing.n
    return collect(iter(events))


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0, "logprobs": 2},
        {"temperature": 0.9, "top_p": 0.9, "seed": 3, "n": 3, "repetition_penalty": 1.2, "presence_penalty": 0.5},
        {"temperature": 0.0, "stop": ["dog"], "min_p": 0.1},
    ],
)
def test_they_are_those_of_our_engine(source, asking, logits, options):
    request = Request(messages=ASKED, options=Options(max_tokens=24, **options))
    theirs = answered(asking, logits, request, source.prompt(ASKED).ids)
    with slmkit.load("tiny", quantize="none", cache="f32") as model:
        ours = collect(model.events(request))
    for a, b in zip(theirs.choices, ours.choices, strict=True):
        assert (a.text, a.reason, a.stop) == (b.text, b.reason, b.stop)
        assert [token.id for token in a.tokens] == [token.id for token in b.tokens]
        assert (a.usage.prompt_tokens, a.usage.completion_tokens) == (b.usage.prompt_tokens, b.usage.completion_tokens)


def test_a_deadline_that_is_over_ends_them(asking, source):
    task = asking.task(Request(messages=ASKED, deadline_s=1e-9), source.prompt(ASKED).ids, 0.0)
    with pytest.raises(DeadlineExceeded, match="0 tokens"):
        Choosing(task, lambda event: None).take(np.zeros((1, 4096), np.float32))


def test_what_cannot_be_run_is_refused_before_it_begins(asking):
    now = time.perf_counter()
    with pytest.raises(RequestError, match="prompt is empty"):
        asking.task(Request(prompt=""), (), now)
    with pytest.raises(RequestError, match="4096 is none"):
        asking.task(Request(ids=(4096,)), (4096,), now)
    with pytest.raises(OptionError, match=r"logit_bias names token 5000.*4095"):
        asking.task(Request(prompt="a", options=Options(logit_bias={5000: 1.0})), (5,), now)
    with pytest.raises(ContextExceeded, match=r"5 tokens and max_tokens is 1020.*1024"):
        asking.task(Request(prompt="a", options=Options(max_tokens=1020)), (5,) * 5, now)
