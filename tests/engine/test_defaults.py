"""generation_config.json as options and stop ids."""

from __future__ import annotations

import pytest

from slmkit.engine.defaults import generation_defaults, stop_ids
from slmkit.errors import CheckpointError, UnsupportedModel
from slmkit.options import FALLBACKS

PUBLISHED = {"bos_token_id": 1, "eos_token_id": [32000, 32001, 32007], "pad_token_id": 32000,
             "transformers_version": "4"}  # fmt: skip


@pytest.mark.parametrize("config", [{}, PUBLISHED, {"do_sample": False, "temperature": 0.7, "top_p": 0.5, "top_k": 3}])
def test_without_do_sample_answers_are_greedy(config):
    assert generation_defaults(config) == FALLBACKS


def test_what_the_checkpoint_asks_for_is_the_default():
    asked = {"do_sample": True, "temperature": 0.7, "top_k": 40, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.1,
             "length_penalty": 2.0, "max_new_tokens": 50, "num_beams": 3}  # fmt: skip
    options = generation_defaults(asked)
    assert (options.temperature, options.top_k, options.top_p, options.min_p) == (0.7, 40, 0.9, 0.05)
    assert (options.repetition_penalty, options.length_penalty, options.max_tokens, options.beams) == (1.1, 2.0, 50, 3)
    assert generation_defaults({"do_sample": True}).temperature == 1.0


@pytest.mark.parametrize(
    ("key", "value"),
    [("penalty_alpha", 0.6), ("typical_p", 0.9), ("no_repeat_ngram_size", 3), ("renormalize_logits", True),
     ("early_stopping", True), ("suppress_tokens", [5]), ("forced_bos_token_id", 7), ("exponential_decay", [1, 2])],
)  # fmt: skip
def test_a_setting_that_would_change_answers_and_is_not_here_is_refused(key, value):
    with pytest.raises(UnsupportedModel, match=f"asks for '{key}' = .*; remove the key to run without it"):
        generation_defaults({**PUBLISHED, key: value})


@pytest.mark.parametrize(
    ("key", "value"), [("typical_p", 1.0), ("num_beam_groups", 1), ("suppress_tokens", []), ("early_stopping", False)]
)
def test_a_setting_that_is_off_is_passed_over(key, value):
    assert generation_defaults({**PUBLISHED, key: value}) == FALLBACKS


@pytest.mark.parametrize(
    "change", [{"do_sample": True, "top_p": 2.0}, {"repetition_penalty": "high"}, {"num_beams": 0}]
)
def test_a_value_out_of_bounds_is_the_checkpoints_fault(change):
    with pytest.raises(CheckpointError, match=r"generation_config.json cannot be used: .* it takes"):
        generation_defaults(change)


@pytest.mark.parametrize(
    ("generation", "config", "vocab", "expected"),
    [
        (PUBLISHED, {"eos_token_id": 32000}, 32064, {32000, 32001, 32007}),
        ({"eos_token_id": 7}, {"eos_token_id": 5}, 100, {5, 7}),
        ({}, {"eos_token_id": 32000}, 32064, {32000, 32001, 32007}),  # no file: the family's own
        ({}, {"eos_token_id": 5}, 100, {5}),
        ({"eos_token_id": None}, {}, 32064, {32000, 32001, 32007}),
        ({"eos_token_id": [3, 500]}, {}, 100, {3}),
        ({}, {"model_type": "phi3small"}, 100352, {100257, 100266}),
        ({"eos_token_id": 2}, {"model_type": "phi3_v"}, 32064, {2, 32000, 32007}),  # as published: </s> alone
    ],
)
def test_stop_ids_are_those_of_both_files(generation, config, vocab, expected):
    assert stop_ids(generation, config, vocab) == expected


@pytest.mark.parametrize("value", ["x", [1.5], -1, [True], {"a": 1}])
def test_a_stop_id_that_is_none_is_refused(value):
    with pytest.raises(CheckpointError, match="a token id or a list of them is needed"):
        stop_ids({"eos_token_id": value}, {}, 100)


@pytest.mark.parametrize("value", ["false", "no", 0, 1, [], {}])
def test_whether_to_sample_is_true_or_false(value):
    with pytest.raises(CheckpointError, match=r"do_sample = .*; true or false is needed"):
        generation_defaults({"do_sample": value, "temperature": 1.0})
