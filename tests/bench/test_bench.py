"""The bench measures what a user sees, and says how far the machine itself could go."""

from __future__ import annotations

import json

import pytest

import slmkit
from slmkit.bench.limits import measure_limits
from slmkit.bench.measure import Guessing, Rate, Run, bench
from slmkit.cli.main import main
from slmkit.errors import RequestError
from tiny import write_model

pytest.importorskip("slmkit.ops._native")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("bench") / "gqa")


def run(folder, **settings):
    asked = {"prompt_tokens": 40, "tokens": 6, "runs": 3, "report": lambda line: None} | settings
    return bench(lambda: slmkit.load(str(folder), quantize="none"), **asked)


def test_every_figure_of_a_run_is_there_and_positive(folder):
    result = run(folder)
    assert result.runs == 3
    assert 0 < result.prefill.median <= result.prefill.best
    assert 0 < result.decode.median <= result.decode.best
    assert result.first_token_s == pytest.approx(40 / result.prefill.median)
    # no program moves more than the machine can; the factor leaves room for a limit measured at a bad moment
    assert 0 < result.decode.of_limit < 2
    assert 0 < result.prefill.of_limit < 2
    assert result.guessing.decode > 0
    assert 0 <= result.guessing.accepted <= result.guessing.drafted
    assert result.peak_bytes > result.model["weight_bytes"]


def test_the_work_of_a_token_is_counted_from_the_matrices(folder):
    facts = run(folder, runs=1).model
    c = json.loads((folder / "config.json").read_text())
    hidden, ff, layers = c["hidden_size"], c["intermediate_size"], c["num_hidden_layers"]
    qkv = (1 + 2 * c["num_key_value_heads"] / c["num_attention_heads"]) * hidden
    assert facts["layer_macs"] == layers * (qkv * hidden + hidden * hidden + 3 * hidden * ff)
    assert facts["head_macs"] == c["vocab_size"] * hidden
    assert facts["token_bytes"] == 4 * (facts["layer_macs"] + facts["head_macs"])  # float32


def test_the_limits_are_those_of_a_real_machine():
    limits = measure_limits()
    assert 1e8 < limits.read_bytes_per_s < 1e13
    assert 1e8 < limits.int8_macs_per_s < 1e15


def test_a_rate_is_the_median_and_has_a_share_only_where_the_limit_is_known():
    assert Rate.of([1.0, 9.0, 2.0], [0.1, 0.9, 0.2]) == Rate(2.0, 9.0, 0.2)
    assert Rate.of([3.0], []) == Rate(3.0, 3.0, None)


def test_guesses_are_compared_with_the_run_beside_them():
    without = [Run(1.0, 20.0), Run(1.0, 30.0), Run(1.0, 8.0)]
    with_ = [Run(1.0, 10.0, 6, 4), Run(1.0, 20.0, 5, 5), Run(1.0, 8.0)]
    assert Guessing.of(41, without, with_) == Guessing(decode=4.0, speedup=1.5, drafted=11, accepted=9)


@pytest.mark.parametrize("settings", [{"prompt_tokens": 0}, {"tokens": 1}, {"runs": 0}])
def test_what_cannot_be_measured_is_refused(folder, settings):
    with pytest.raises(RequestError, match="at least 1, 2 and 1"):
        run(folder, **settings)


def test_the_verb_prints_a_table_for_people_and_json_for_programs(folder, capsys):
    arguments = [
        "bench",
        str(folder),
        "--prompt-tokens",
        "8",
        "--tokens",
        "4",
        "--runs",
        "1",
        "-q",
        "--quantize",
        "none",
    ]
    assert main(arguments) == 0
    table = capsys.readouterr().out
    assert "prefill, 8 tokens" in table
    assert "GB/s read" in table
    assert "guessing ahead" in table
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["decode"]["median"] > 0
