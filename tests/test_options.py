"""Options and requests: bounds, types, and one sentence for each fault."""

from __future__ import annotations

import math
import time
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmkit.errors import OptionError, RequestError
from slmkit.options import FALLBACKS, LoadOptions, Options
from slmkit.request import Message, Request, as_messages


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("max_tokens", 1, 0),
        ("temperature", 0, -1),
        ("temperature", 100, 100.1),
        ("top_k", 0, -1),
        ("top_p", 1, 2),
        ("top_p", 0, -0.1),
        ("min_p", 1, 1.1),
        ("repetition_penalty", 0.01, 0),
        ("seed", 2**64 - 1, 2**64),
        ("n", 256, 257),
        ("beams", 64, 65),
        ("speculate", 0, -1),
        ("speculate", 16, 17),
        ("logprobs", 0, -1),
        ("length_penalty", -10, -11),
        ("stop_ids", [0], [-1]),
    ],
)
def test_values_are_taken_up_to_their_bounds(name, good, bad):
    Options(**{name: good})
    with pytest.raises(OptionError, match=f"{name} is .*; it takes a (whole )?number (from|of) "):
        Options(**{name: bad})


everything = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=2)
nested = everything | st.lists(everything, max_size=2) | st.dictionaries(everything, everything, max_size=2)


@given(st.sampled_from(fields(Options)), nested)
def test_whatever_is_given_is_taken_or_refused_in_one_sentence(field, value):
    try:
        options = Options(**{field.name: value})
    except OptionError as error:
        assert field.name in str(error)  # noqa: PT017
    else:
        assert Options(**options.set_values()) == options


@pytest.mark.parametrize("value", [True, "1", 1.0, None.__class__, math.nan])
def test_a_whole_number_is_no_truth_value_and_no_text(value):
    with pytest.raises(OptionError, match=r"max_tokens is .*; it takes a whole number"):
        Options(max_tokens=value)


def test_numbers_of_numpy_are_numbers():
    options = Options(max_tokens=np.int64(5), temperature=np.float32(0.5), stop_ids=np.array([1, 2]))
    assert (options.max_tokens, options.temperature, options.stop_ids) == (5, 0.5, (1, 2))
    assert type(options.max_tokens) is int


@pytest.mark.parametrize(
    "bias", [{1: math.nan}, {1: math.inf}, {1: 1e30}, {-1: 1.0}, {"a": 1}, {"1_0": 1}, {" 1": 1}, 5, [1]]
)
def test_a_bias_is_a_number_or_minus_infinity(bias):
    with pytest.raises(OptionError, match="logit_bias"):
        Options(logit_bias=bias)
    assert Options(logit_bias={"7": -math.inf, 8: 3}).logit_bias == {7: -math.inf, 8: 3.0}


def test_one_stop_is_a_list_of_one_and_an_empty_one_is_refused():
    assert Options(stop="x", stop_ids=3) == Options(stop=["x"], stop_ids=[3])
    with pytest.raises(OptionError, match="stop holds an empty text"):
        Options(stop=["a", ""])


def test_options_that_are_set_win_over_defaults():
    merged = Options(top_k=5).over(Options(top_k=1, temperature=0.5))
    assert (merged.top_k, merged.temperature, merged.seed) == (5, 0.5, None)
    assert Options(temperature=0.0).over(Options(temperature=0.5)).temperature == 0.0
    unset = {f.name for f in fields(Options) if getattr(FALLBACKS, f.name) is None}
    assert unset == {"max_tokens", "seed", "logit_bias", "logprobs", "speculate", "num_crops", "adapter"}


@pytest.mark.parametrize(("name", "value"), [("quantize", "q5"), ("cache", "int8"), ("kernels", "sse"), ("threads", 0)])
def test_load_options_name_what_they_accept(name, value):
    with pytest.raises(OptionError, match=f"{name} is .*; it takes"):
        LoadOptions(**{name: value})


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({}, "exactly one of"),
        ({"prompt": "a", "ids": (1,)}, "exactly one of"),
        ({"messages": ()}, "at least one message"),
        ({"prompt": b"a"}, "is text, not bytes"),
    ],
)
def test_a_request_has_one_prompt(given_, message):
    with pytest.raises(RequestError, match=message):
        Request(**given_)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([{"role": "user"}], "a message is"),
        ([{"role": "robot", "content": "x"}], "role 'robot' is not known; use one of system, user, assistant, tool"),
        ([{"role": "user", "content": 5}], "content must be text, not int"),
        ([{"role": "user", "content": "x", "name": "y"}], "a message is"),
        (["user"], "a message is"),
        ({"role": "user", "content": "x"}, "a text or a list of messages, not dict"),
        (5, "a text or a list of messages, not int"),
    ],
)
def test_what_is_no_conversation_is_refused(messages, message):
    with pytest.raises(RequestError, match=message):
        as_messages(messages)


def test_a_text_is_one_user_turn():
    assert as_messages("hi") == (Message("user", "hi"),)


@pytest.mark.parametrize("bias", [{1.5: 2}, {True: 2}, {"1": 2, 1: 3}])
def test_a_bias_is_never_given_to_another_token_or_lost(bias):
    with pytest.raises(OptionError, match="it takes pairs of a token id and a number"):
        Options(logit_bias=bias)


def test_a_conversation_of_many_messages_is_read_in_one_go():
    """Its images were counted anew for each message: 200,000 of them, an 8 MB body, stood still for minutes."""
    began = time.perf_counter()
    assert len(as_messages([{"role": "user", "content": "a"}] * 50_000)) == 50_000
    assert time.perf_counter() - began < 10  # 0.1 s; a count for each message took 60


@pytest.mark.parametrize("stop", [["a"] * 1001, ["a" * 10_001]])
def test_texts_to_stop_at_are_bounded(stop):
    """100,000 of them took 0.2 s of each token, which everybody's answers waited for."""
    with pytest.raises(OptionError, match=r"stop h.* at most"):
        Options(stop=stop)
    assert len(Options(stop=["a" * 10_000] * 1000).stop or ()) == 1000
