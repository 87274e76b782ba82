"""Our options by Ollama's names, and back."""

from __future__ import annotations

import json

import pytest

from slmkit.options import Options
from slmkit.weights.ollama.parameters import ollama_options, parameters, unnamed


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_tokens": 1, "temperature": 0.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 0, "stop": ()},
        {"max_tokens": 7, "temperature": 1.5, "top_k": 9, "top_p": 0.5, "min_p": 0.1, "seed": 2**64 - 1},
        {"stop": ("a", "b"), "presence_penalty": -100.0, "frequency_penalty": 100.0},
        {"repetition_penalty": 1.5, "repetition_window": 0},
        {"repetition_penalty": 1.0, "repetition_window": 9},
        {"repetition_window": 0},
        {"repetition_window": 64},
    ],
)
def test_what_has_a_name_comes_back_as_it_was(options):
    theirs = json.dumps(ollama_options(Options(**options)))
    assert parameters(json.loads(theirs)) == (Options(**options), None)
    assert unnamed(Options(**options)) == []


@pytest.mark.parametrize(("window", "expected"), [(0, -1), (5, 5)])
def test_a_penalty_without_a_window_has_the_one_that_is_told(window, expected):
    found = ollama_options(Options(repetition_penalty=2.0), window)
    assert found == {"repeat_penalty": 2.0, "repeat_last_n": expected}


def test_every_other_option_is_told_apart():
    assert unnamed(Options(n=1, beams=2, seed=3, ignore_eos=False)) == ["ignore_eos", "n", "beams"]
