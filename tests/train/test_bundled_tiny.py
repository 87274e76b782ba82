"""The bundled model: small enough, in published names, and able to greet, to tell what was asked, and to stop.

Greedy and from the weights as they are stored, so that an answer depends on nothing but the files.
"""

from __future__ import annotations

import json

import pytest

import slmkit
from slmkit.train import recipe
from slmkit.weights.locate import locate

GREETINGS = ["Hello!", "Hi", "hello, how are you?", "Good morning!", "Who are you?", "What can you do?", "Thank you!",
             "Goodbye!"]  # fmt: skip


@pytest.fixture(scope="module")
def tiny():
    return slmkit.load("tiny", quantize="none")


def test_it_is_small_enough_for_the_wheel():
    assert sum(path.stat().st_size for path in locate("tiny").path.iterdir()) < 20e6


def test_it_has_the_shape_that_its_recipe_says():
    config = json.loads((locate("tiny").path / "config.json").read_text())
    made = recipe.load("tiny").model
    assert all(config[name] == getattr(made, name) for name in vars(made))


def test_its_licence_and_its_attributions_come_with_it():
    notice = (locate("tiny").path / "NOTICE").read_text()
    assert (locate("tiny").path / "LICENSE").read_text().startswith("MIT License")
    for name in ("African Storybook", "StoryWeaver", "WordNet", "Wikipedia", "chatterbot-corpus", "Tatoeba"):
        assert name in notice


@pytest.mark.parametrize("said", GREETINGS)
def test_it_answers_small_talk_in_a_sentence_and_stops(tiny, said):
    choice = tiny.chat(said, temperature=0, max_tokens=60).choices[0]
    assert choice.reason == "stop"
    assert len(choice.text.split()) >= 2
    assert choice.text[0].isupper()
    assert choice.text.rstrip()[-1] in '.!?"'


@pytest.mark.parametrize("kind", ["dog", "cat", "rabbit", "lion", "princess", "robot"])
def test_it_tells_a_story_about_what_was_asked_and_stops(tiny, kind):
    choice = tiny.chat(f"Tell me a story about a {kind}.", temperature=0, max_tokens=400).choices[0]
    assert choice.reason == "stop"
    assert kind in choice.text
    assert 40 <= len(choice.text.split()) <= 250
