"""Answers made by threads of their own: told, cancelled, failed, one at a time."""

from __future__ import annotations

import threading

import pytest

from slmkit.backends.answering import Answering, Turns
from slmkit.errors import OptionError, RequestError, RuntimeFailure
from slmkit.events import Chunk, Started


def test_what_a_runtime_tells_is_read_as_it_comes():
    second = threading.Event()

    def run(cancel, tell):
        tell(Started(1))
        second.wait(10)
        tell(Chunk("a"))

    events = Answering.of_calls(run)
    assert next(events) == Started(1)
    second.set()
    assert list(events) == [Chunk("a")]


def test_nothing_can_be_told_to_nobody():
    begun, ended = threading.Event(), threading.Event()

    def run(cancel, tell):
        begun.set()
        try:
            while True:
                tell(Chunk("a"))
        finally:
            ended.set()

    events = Answering.of_calls(run)
    assert begun.wait(10)
    events.close()
    assert ended.wait(10)
    assert list(events) == []


def test_errors_of_ours_come_as_they_are_and_others_as_failures_of_the_runtime():
    def refuse(cancel, tell):
        raise OptionError("no")

    def fail(cancel, tell):
        raise KeyError("x")

    with pytest.raises(OptionError, match="no"):
        next(Answering.of_calls(refuse))
    with pytest.raises(RuntimeFailure, match="KeyError"):
        next(Answering.of_calls(fail))


def test_answers_take_turns_and_a_cancelled_one_gives_its_up():
    turns, free, order = Turns(), threading.Event(), []

    def run(name):
        def answer(cancel, tell):
            order.append(name)
            if name == "a":
                free.wait(10)
            tell(Chunk(name))

        return answer

    first = turns.answer(run("a"))
    while not order:
        pass
    second, third = turns.answer(run("b")), turns.answer(run("c"))
    second.close()
    free.set()
    assert [event.text for event in first] == ["a"]
    assert [event.text for event in third] == ["c"]
    assert order == ["a", "c"]


def test_a_model_that_is_asked_by_its_own_answer_says_so_and_does_not_wait_for_ever():
    turns = Turns()

    def run(cancel, tell):
        turns.answer(run)

    with pytest.raises(RequestError, match="its own model"):
        next(turns.answer(run))


def test_closing_ends_what_runs_with_a_reason_and_refuses_what_comes():
    turns = Turns()

    def run(cancel, tell):
        tell(Started(1))
        while True:
            cancel.check()

    events = turns.answer(run)
    assert next(events) == Started(1)
    turns.close()
    with pytest.raises(RuntimeFailure, match="closed while it answered"):
        next(events)
    with pytest.raises(RuntimeFailure, match="was closed"):
        turns.answer(run)
