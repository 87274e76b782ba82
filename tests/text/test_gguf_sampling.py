"""What a GGUF file recommends for sampling is done, or refused by name."""

from __future__ import annotations

import numpy as np
import pytest

from slmkit.errors import CheckpointError, UnsupportedModel
from slmkit.options import FALLBACKS, Options
from slmkit.text.gguf.sampling import read_sampling, write_sampling


def read(**settings) -> Options:
    return read_sampling({"general.name": "x"} | {f"general.sampling.{name}": v for name, v in settings.items()})


def test_recommended_sampling_becomes_the_defaults():
    found = read(temp=float(np.float32(0.7)), top_k=20, top_p=float(np.float32(0.8)), min_p=0.0, penalty_last_n=64)
    assert found == Options(temperature=0.7, top_k=20, top_p=0.8).over(FALLBACKS)


def test_a_file_without_recommendations_is_greedy():
    assert read() == FALLBACKS


def test_filters_count_at_temperature_1_unless_told_and_not_at_0():
    assert read(top_k=20) == Options(temperature=1.0, top_k=20).over(FALLBACKS)
    assert read(temp=0.0, top_k=20, top_p=0.5) == FALLBACKS


@pytest.mark.parametrize(
    ("settings", "window"),
    [({}, 0), ({"penalty_last_n": -1}, 0), ({"penalty_last_n": 1}, 1), ({"penalty_last_n": 64}, 64)],
)
def test_a_penalty_is_on_the_last_tokens_that_are_told_or_on_all(settings, window):
    expected = Options(repetition_penalty=1.1, repetition_window=window).over(FALLBACKS)
    assert read(penalty_repeat=float(np.float32(1.1)), **settings) == expected


def test_a_penalty_on_no_token_is_none():
    assert read(penalty_repeat=1.5, penalty_last_n=0) == FALLBACKS


@pytest.mark.parametrize("last", [-2, 1.0, True, "all", [64]])
def test_a_penalty_on_a_part_that_cannot_be_is_refused(last):
    with pytest.raises(CheckpointError, match="penalty_last_n"):
        read(penalty_repeat=1.1, penalty_last_n=last)


@pytest.mark.parametrize(("name", "value"), [("mirostat", 2), ("xtc_probability", 0.5), ("dry", "on"), ("x", [])])
def test_a_recommended_sampler_that_is_not_here_is_refused(name, value):
    with pytest.raises(UnsupportedModel, match=name):
        read(**{name: value})


def test_settings_of_samplers_that_are_off_change_nothing():
    assert read(mirostat=0, mirostat_tau=5.0, mirostat_eta=0.1, xtc_threshold=0.1, sequence="kt") == FALLBACKS


@pytest.mark.parametrize(
    ("name", "value"), [("temp", "hot"), ("temp", True), ("top_k", np.arange(3)), ("top_p", [0.5])]
)
def test_a_recommended_value_that_is_no_number_is_refused(name, value):
    with pytest.raises(CheckpointError, match=rf"general\.sampling\.{name} = .*a number is needed"):
        read(**{name: value})


def test_a_value_out_of_bounds_is_refused_as_the_gguf_files():
    with pytest.raises(CheckpointError, match=r"general\.sampling.* settings of the GGUF file .*temperature is 101"):
        read(temp=101.0)


@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(temperature=0.7, top_k=20, top_p=0.8, min_p=0.1),
        Options(repetition_penalty=1.5, repetition_window=64),
        Options(repetition_penalty=1.5),
    ],
)
def test_what_is_written_is_read_back(options):
    written = {
        key: value.item() if isinstance(value, np.generic) else value for key, value in write_sampling(options).items()
    }
    assert read_sampling(written) == options.over(FALLBACKS)


def test_filters_of_a_greedy_model_are_not_written_as_they_would_make_it_sample():
    assert read_sampling(write_sampling(Options(temperature=0.0, top_k=40, top_p=0.9))) == FALLBACKS


def test_a_penalty_on_all_tokens_says_so_because_llama_cpp_takes_64_otherwise():
    assert write_sampling(Options(repetition_penalty=1.5))["general.sampling.penalty_last_n"] == -1
