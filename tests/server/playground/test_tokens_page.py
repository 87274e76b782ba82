"""Tokens and what else they might have been."""

from __future__ import annotations

import re

import pytest
from browser import expect
from stand_in import STORY

pytestmark = pytest.mark.slow


def test_a_token_shows_its_alternatives_under_the_pointer_and_the_keys(come, scripted, app):
    you = come(scripted)
    you.page.click("#tokens")
    turn = you.ask("A story")
    body = app.state.asked[-1]
    assert (body["logprobs"], body["top_logprobs"]) == (True, 5)
    tokens = turn.locator(".token")
    assert "".join(tokens.all_inner_texts()) == STORY
    tokens.nth(2).hover()
    box = you.see("#alternatives")
    expect(box).to_be_visible()
    expect(box.locator("tr")).to_have_count(5)
    expect(box.locator(".taken th")).to_have_text("·once (taken)")
    share = box.locator(".taken .number").inner_text()
    assert f"·once, {share}" == tokens.nth(2).get_attribute("aria-label")
    you.page.mouse.move(5, 5)
    expect(box).to_be_hidden()
    tokens.first.focus()
    you.page.keyboard.press("ArrowRight")
    expect(tokens.nth(1)).to_be_focused()
    expect(box.locator(".taken th")).to_have_text("·was (taken)")
    expect(tokens.nth(1)).to_have_attribute("aria-describedby", "alternatives")
    turn.get_by_role("button", name="Show the tokens").click()
    expect(turn.locator(".token")).to_have_count(0)
    expect(turn.locator(".answer-body")).to_have_text(STORY)


def test_a_character_of_several_tokens_is_shown_once_and_whole(come, scripted):
    you = come(scripted)
    you.page.click("#tokens")
    turn = you.ask("a café")
    assert "".join(turn.locator(".token").all_inner_texts()) == "Un café, s'il vous plaît. 🦊"
    expect(turn.locator(".partial").first).to_have_attribute("aria-label", re.compile("^<63>|^<C3>"))
