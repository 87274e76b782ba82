"""slm models: the family on this machine."""

from __future__ import annotations

import json

import pytest

from slmkit.bench.limits import Limits


@pytest.fixture(autouse=True)
def told_limits(monkeypatch):
    """No test waits for a measurement."""
    monkeypatch.setattr("slmkit.bench.limits.measure_limits", lambda: Limits(34e9, 280e9))


def test_the_table_has_every_model_in_120_columns(real_slm):
    outcome = real_slm("models")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert max(map(len, lines)) <= 120
    assert "…" not in outcome.out
    (moe,) = [line for line in lines if line.startswith(" phi3.5-moe ")]
    assert moe.split()[1:5] == ["41.9", "(6.6)", "128k", "23"]
    assert sum(line.startswith(" phi3") for line in lines) == 10
    assert "PREDICTED" in outcome.out
    assert "34.0 GB/s, measured now" in outcome.out
    assert "licence: MIT" in outcome.out


def test_the_same_facts_for_programs(real_slm):
    facts = json.loads(real_slm("models", "--json", "--bandwidth", "34").out)
    assert facts["machine"]["read_bytes_per_s"] == 34e9
    mini = next(model for model in facts["models"] if model["name"] == "phi3.5")
    assert mini["id"] == "microsoft/Phi-3.5-mini-instruct"
    assert mini["parameters"] == mini["active_parameters"] == 3_821_079_552
    assert mini["quantizations"]["q4"]["bytes"] == 2_163_609_600 + 4096 * 200 * 1024
    assert mini["quantizations"]["q4"]["predicted_decode"] == pytest.approx(11.80, abs=0.01)
    assert mini["quantizations"]["q4"]["predicted_prefill"] is None  # a bandwidth alone does not say
    assert {"context", "languages", "inputs", "licence", "release", "runs_here", "pulled", "names"} <= set(mini)
    assert set(mini["quantizations"]) == {"q4", "q8", "none"}


def test_without_kernels_the_facts_are_there_and_no_prediction(real_slm, monkeypatch):
    monkeypatch.setattr("slmkit.bench.limits.measure_limits", lambda: None)
    outcome = real_slm("models")
    assert outcome.code == 0
    assert "no fast kernels" in outcome.out
    (line,) = [line for line in outcome.out.splitlines() if line.startswith(" phi3.5 ")]
    assert "3.8" in line
    assert "?" in line


def test_another_context_changes_memory_and_speed(real_slm):
    def facts(context: str):
        found = json.loads(real_slm("models", "--json", "--ctx", context, "--bandwidth", "34").out)["models"]
        return {model["name"]: model["quantizations"]["q4"] for model in found}

    short, long = facts("32"), facts("8192")
    assert long["phi3.5"]["cache_bytes"] == 256 * short["phi3.5"]["cache_bytes"]
    assert long["phi3.5"]["predicted_decode"] < short["phi3.5"]["predicted_decode"]
    assert long["phi3"]["cache_bytes"] == 128 * short["phi3"]["cache_bytes"]  # 4,096 are all it has


@pytest.mark.parametrize(
    "argument", [("--ctx", "0"), ("--ctx", "x"), ("--bandwidth", "0"), ("--bandwidth", "nan"), ("--bandwidth", "-3")]
)
def test_numbers_that_are_none_are_refused(real_slm, argument):
    real_slm("models", f"{argument[0]}={argument[1]}").fails(2, argument[0], "above 0")


def test_bytes_given_for_gigabytes_are_refused(real_slm):
    real_slm("models", "--bandwidth=34000000000").fails(2, "--bandwidth", "is it in GB?")


def test_a_table_has_no_colours_of_its_own_on_a_terminal(monkeypatch):
    from rich.table import Table

    from slmkit.cli.models import render

    monkeypatch.setenv("FORCE_COLOR", "1")
    table = Table("a", title="b")
    table.add_row("c")
    assert "\x1b" not in render(table)
