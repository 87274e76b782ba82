"""Reading aloud, with a system whose voices only take notes."""

from __future__ import annotations

from typing import Any

import pytest
from browser import Visitor, expect
from in_page import NO_SPEECH, VOICES

pytestmark = pytest.mark.slow


def with_voice(come: Any, address: str) -> Visitor:
    you: Visitor = come(address)
    you.page.add_init_script(VOICES)
    you.visit()
    return you


def test_answers_are_read_aloud_sentence_by_sentence_while_they_are_written(come, scripted):
    you = with_voice(come, scripted)
    you.page.click("#aloud")
    you.type("a slow story")
    expect(you.see(".answer-body")).to_contain_text("lighthouse. Each night")
    spoken = you.page.evaluate("spokenAloud")
    assert spoken == [["There was once a fox who lived below a lighthouse.", "Near"]]
    expect(you.see("#stop")).to_be_visible()
    you.page.keyboard.press("Escape")
    you.rest()
    assert you.page.evaluate("spokenAloud").count(["(stopped)"]) == 1


def test_one_answer_is_read_on_demand_without_marks_and_code(come, scripted):
    you = with_voice(come, scripted)
    turn = you.ask("markdown")
    turn.get_by_role("button", name="Read aloud").click()
    expect(turn.get_by_role("button", name="Read aloud")).to_be_visible()  # again, when all was said
    words = [text for text, *_ in you.page.evaluate("spokenAloud")]
    assert words[:3] == ["Primes", "A number is prime if only 1 and itself divide it, see the definition.",
                         "A test up to sqrt(n) is enough: 5 &lt; 7."]  # fmt: skip
    assert words.count("Here is code.") == 1
    assert not any("is_prime" in text or "**" in text or "---" in text for text in words)


def test_without_a_voice_the_switch_says_why(come, address):
    you = come(address)
    you.page.add_init_script(NO_SPEECH)
    you.visit()
    you.page.click("#aloud")
    expect(you.see("#toast")).to_contain_text("has no voices")
    expect(you.see("#aloud")).to_have_attribute("aria-pressed", "false")
