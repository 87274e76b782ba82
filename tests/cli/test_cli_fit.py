"""slm fit: a choice, with reasons."""

from __future__ import annotations

import json

import pytest

from slmkit.bench.limits import Limits
from slmkit.catalog.tasks import TASKS
from slmkit.cli import fit


@pytest.fixture(autouse=True)
def told_limits(monkeypatch):
    """No test waits for a measurement, and phi3 alone runs, whatever this version has."""
    monkeypatch.setattr("slmkit.catalog.family.ARCHITECTURES", {"phi3": ""})
    monkeypatch.setattr("slmkit.bench.limits.measure_limits", lambda: Limits(34e9, 280e9))


def test_the_page_has_a_choice_reasons_a_command_and_the_rest(real_slm):
    outcome = real_slm("fit", "--memory", "16")
    assert outcome.code == 0
    assert max(map(len, outcome.out.splitlines())) <= 120
    for words in (
        "phi3 in 4 bits (q4)\n",
        "memory: 2.2 GB of weights and 0.8 GB of cache",
        "disk: 7.6 GB to fetch once, and 2.2 GB for its packed copy",
        "speed: 11.8 tokens/s predicted",
        "quality: 70.3 is the mean",
        "    slm run phi3 --quantize q4 --ctx 4096\n",
        "and these not:",
        "phi3.5-moe in 4 bits (q4): ",
        "70 B dense (Llama 2)",
        "Not known:",
    ):
        assert words in outcome.out


def test_the_same_for_programs(real_slm):
    arguments = ("fit", "--json", "--memory", "16", "--bandwidth", "34", "--task", "multilingual", "--speed", "3")
    facts = json.loads(real_slm(*arguments).out)
    assert facts["wish"] == {
        "task": "multilingual",
        "benchmarks": ["multilingual_mmlu", "mgsm_cot"],
        "context": 4096,
        "speed": 3.0,
        "quantization": None,
    }
    assert facts["choice"] == {
        "name": "phi3.5",
        "quantization": "q8",
        "command": "slm run phi3.5 --quantize q8 --ctx 4096",
    }
    first = facts["ranking"][0]
    assert first["accepted"]
    assert first["scores"][0]["source"]
    assert facts["ranking"][-1]["against"]
    assert {cost["bits"] for cost in facts["larger"]} == {4, 16}
    assert facts["caveats"]


def test_the_command_that_is_printed_is_one_that_slm_takes(slm, real_slm):
    command = json.loads(real_slm("fit", "--json", "--memory", "16", "--bandwidth", "34").out)["choice"]["command"]
    assert slm(*command.split()[1:], "Hello").code == 0


def test_where_nothing_will_do_the_nearest_is_named_with_what_stands_against_it(real_slm):
    outcome = real_slm("fit", "--memory", "1", "--bandwidth", "34")
    assert outcome.code == 0
    assert "no model of the family does all of that here" in outcome.out
    assert "more than this machine can give" in outcome.out
    assert "slm run" not in outcome.out
    assert json.loads(real_slm("fit", "--memory", "1", "--bandwidth", "34", "--json").out)["choice"] is None


def test_long_documents_ask_for_a_long_context(real_slm):
    facts = json.loads(real_slm("fit", "--json", "--task", "long-documents", "--bandwidth", "34").out)
    assert facts["wish"]["context"] == 32768


def test_the_tasks_of_the_command_line_are_those_of_the_catalogue():
    assert list(TASKS) == list(fit.TASKS)


@pytest.mark.parametrize("argument", ["--task=poetry", "--ctx=0", "--speed=0", "--memory=-1", "--quantize=q2"])
def test_what_makes_no_sense_is_refused(real_slm, argument):
    real_slm("fit", argument).fails(2, argument.partition("=")[0])
