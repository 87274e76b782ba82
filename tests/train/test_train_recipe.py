"""Recipes are read strictly: what a run would not do is refused, in one sentence with a way out."""

from __future__ import annotations

import json

import pytest

from slmkit.errors import RequestError
from slmkit.train import recipe


def test_the_kept_recipe_loads():
    assert recipe.load("tiny").model.vocab_size == 4096


def _change(raw, path, value):
    *way, last = path
    for key in way:
        raw = raw[key]
    raw[last] = value


BAD = [
    (["model", "hidden_size"], 30, "multiple of num_attention_heads"),
    (["model", "num_key_value_heads"], 3, "must divide num_attention_heads"),
    (["model", "hidden_size"], 32.5, "without a fraction"),
    (["model", "num_hidden_layers"], 0, "1 or more"),
    (["hold_out"], 0.5, "below 0.5"),
    (["hold_out"], 0, "above 0"),
    (["stages"], [], "at least one"),
    (["stages", 0, "steps"], 0, "1 or more"),
    (["stages", 0, "sequence_length"], 65, "max_position_embeddings"),
    (["stages", 0, "decay_steps"], 3, "lower one"),  # 2 warm-up + 3 decay in 4 steps
    (["stages", 0, "mixture"], [], "at least one source"),
    (["stages", 0, "mixture", 0, "share"], 0, "above 0"),
    (["stages", 0, "mixture", 0, "tasks"], "qa", "list"),
    (["stages", 0, "learning_rate"], 1, "unknown setting 'learning_rate'"),
    (["seed"], "one", "number"),
    (["model"], 7, "JSON object"),
]


@pytest.mark.parametrize(("path", "value", "says"), BAD, ids=lambda v: str(v)[:40])
def test_a_bad_value_is_refused_in_one_sentence(raw, path, value, says):
    _change(raw, path, value)
    with pytest.raises(recipe.RecipeError, match=says) as caught:
        recipe.build(raw)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, RequestError)


def test_a_missing_setting_is_named(raw):
    del raw["seed"]
    with pytest.raises(recipe.RecipeError, match="lacks 'seed'"):
        recipe.build(raw)


def test_two_stages_of_one_name_are_refused(raw):
    raw["stages"][1]["name"] = "read"
    with pytest.raises(recipe.RecipeError, match="two stages"):
        recipe.build(raw)


def test_an_unknown_recipe_names_the_known_ones():
    with pytest.raises(recipe.RecipeError, match="tiny"):
        recipe.load("huge")


def test_a_file_that_is_not_json_is_named(tmp_path):
    path = tmp_path / "bad.json"
    path.write_text("{")
    with pytest.raises(recipe.RecipeError, match=r"bad\.json"):
        recipe.load(str(path))


def test_a_recipe_from_a_file_equals_the_same_from_memory(raw, tmp_path):
    path = tmp_path / "small.json"
    path.write_text(json.dumps(raw))
    assert recipe.load(str(path)) == recipe.build(raw)
