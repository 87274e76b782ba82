from __future__ import annotations

import json

import pytest

import slmkit
from slmkit.compare import Case, Entry, compare
from slmkit.compare.entry import entries_of, open_entry
from slmkit.compare.prices import Price, prices_of
from slmkit.compare.side_by_side import Comparison
from slmkit.errors import OptionError, RequestError
from slmkit.options import LoadOptions, Options
from slmkit.request import Message

PROMPTS = ["Tell me a story about a dog.", "Who are you?"]
FEW = Options(max_tokens=12)
SMALL = LoadOptions(ctx=256)


@pytest.fixture(scope="module")
def compared():
    models = [Entry("tiny", LoadOptions(ctx=256, quantize="q8"), "eight"), "tiny", "./nowhere"]
    return compare(models, PROMPTS, options=FEW, load_options=SMALL, prices={"tiny": Price(2.0, 10.0)})


def test_each_model_answers_as_it_does_alone(compared):
    with slmkit.load("tiny", ctx=256) as model:
        alone = [model.chat(prompt, max_tokens=12, temperature=0.0) for prompt in PROMPTS]
    for column in compared.columns[:2]:
        assert [row.text for row in column.answered] == [answer.text for answer in alone]
        assert [row.usage.prompt_tokens for row in column.rows] == [a.choices[0].usage.prompt_tokens for a in alone]


def test_times_speed_and_memory_are_told(compared):
    column = compared.columns[0]
    for row in column.rows:
        assert 0 < row.first_token_s < row.total_s
        assert row.tokens_per_s == (row.usage.completion_tokens - 1) / (row.total_s - row.first_token_s)
    assert column.total_s == sum(row.total_s for row in column.rows)
    assert 20e6 < column.memory_bytes < 20e9
    assert column.load_s > 0
    assert column.facts["quantization"] == "q8"


def test_a_model_that_fails_has_its_error_and_the_others_go_on(compared):
    failed = compared.columns[2]
    assert "nowhere" in failed.error
    assert (failed.rows, failed.tokens_per_s, failed.memory_bytes) == ([], None, None)
    assert compared.exit_code == failed.exit_code == 3
    assert len(compared.columns[1].answered) == 2


def test_a_prompt_that_fails_is_a_row_and_the_next_is_answered():
    found = compare(["tiny"], ["dog " * 2000, "Hi"], options=FEW, load_options=SMALL)
    long, short = found.columns[0].rows
    assert "over the context of 256" in long.error
    assert (long.text, short.error) == ("", "")
    assert short.text
    assert found.exit_code == 2


def test_a_fault_of_another_package_is_a_row_too():
    def broken(entry):
        raise ZeroDivisionError("by nought")

    found = Comparison(["tiny"], ["Hi"])
    found.run(broken)
    assert (found.columns[0].error, found.exit_code) == ("unexpected ZeroDivisionError: by nought", 1)


def test_an_interruption_keeps_what_is_done():
    def stop(column, row):
        if row is not None:
            raise KeyboardInterrupt

    found = Comparison(entries_of(["tiny", "tiny"], SMALL), PROMPTS, FEW)
    with pytest.raises(KeyboardInterrupt):
        found.run(tell=stop)
    assert [len(column.rows) for column in found.columns] == [1, 0]
    assert found.interrupted
    assert found.as_dict()["interrupted"]


def test_a_model_is_closed_before_the_next_is_opened():
    there = []

    def watched(entry):
        assert all(model.backend.loaded.model is None for model in there)
        there.append(open_entry(entry))
        return there[-1]

    Comparison(entries_of(["tiny", "tiny"], SMALL), ["Hi"], FEW).run(watched)
    assert len(there) == 2


def test_costs_are_those_of_the_tokens(compared):
    for row in compared.columns[1].rows:
        assert row.cost == pytest.approx((2 * row.usage.prompt_tokens + 10 * row.usage.completion_tokens) / 1e6)
    assert compared.columns[1].cost == pytest.approx(sum(row.cost for row in compared.columns[1].rows))
    assert prices_of(["openai:a=b=0.15/0.60"]) == {"openai:a=b": Price(0.15, 0.6)}
    for wrong in ("tiny", "tiny=1", "tiny=1/x", "=1/2", "tiny=-1/2", "tiny=inf/1"):
        with pytest.raises(OptionError, match="MODEL=IN/OUT"):
            prices_of([wrong])
    with pytest.raises(OptionError, match="'other', which does not take part"):
        Comparison(["tiny"], ["Hi"], prices={"other": Price(1, 1)})


def test_agreement_is_told_of_each_two_that_answered(compared):
    (pair,) = compared.pairs
    assert (pair.a, pair.b, pair.prompts, pair.same, pair.chrf) == (0, 1, 2, 1.0, 1.0)


def test_all_of_it_is_json(compared):
    facts = json.loads(json.dumps(compared.as_dict(), allow_nan=False))
    assert [model["label"] for model in facts["models"]] == ["eight", "tiny", "./nowhere"]
    assert facts["options"] == {"max_tokens": 12, "temperature": 0.0}
    assert facts["prompts"][0]["messages"] == [{"role": "user", "content": PROMPTS[0]}]
    assert facts["models"][0]["load_options"] == {"ctx": 256, "quantize": "q8"}


def test_labels_tell_models_apart():
    found = entries_of(["tiny", "tiny", "tiny"], SMALL, {2: {"quantize": "q4"}})
    assert [entry.label for entry in found] == ["tiny", "tiny (2)", "tiny, quantize q4"]
    assert [entry.options.quantize for entry in found] == [None, None, "q4"]
    assert not Entry("ollama:phi3").runs_here
    assert Entry("phi3:mini-128k").runs_here


@pytest.mark.parametrize(
    ("models", "prompts", "options", "words"),
    [
        ([], ["Hi"], None, "at least one"),
        ("tiny", ["Hi"], None, "put the one name into a list"),
        (["tiny"], [], None, "at least one"),
        (["tiny"], [Case(())], None, "at least one message"),
        (["tiny"], ["Hi"], Options(n=2), "one answer of each model"),
    ],
)
def test_what_no_model_could_be_asked_is_refused(models, prompts, options, words):
    with pytest.raises(RequestError, match=words):
        Comparison(models, prompts, options)


def test_a_system_message_goes_to_every_model():
    case = Case((Message("system", "You are a pirate."), Message("user", "Hi")))
    found = compare(["tiny"], [case], options=FEW, load_options=SMALL)
    with slmkit.load("tiny", ctx=256) as model:
        assert found.columns[0].rows[0].text == model.chat(case.messages, max_tokens=12, temperature=0.0).text
