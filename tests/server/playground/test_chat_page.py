"""Chat: prompts, Markdown, stopping, answering again, editing."""

from __future__ import annotations

import re

import pytest
from browser import expect
from stand_in import STORY

pytestmark = pytest.mark.slow


def test_a_prompt_is_answered_with_its_speed(come, address):
    you = come(address)
    turn = you.ask("Tell me a story about a dog.")
    expect(turn.locator(".prompt")).to_have_text("Tell me a story about a dog.")
    expect(turn.locator(".answer-body")).not_to_be_empty()
    expect(turn.locator("[data-figure=rate]")).to_have_text(re.compile(r"^[\d.]+ tokens/s$"))
    expect(turn.locator("[data-figure=first]")).to_have_text(re.compile(r"^first token [\d.]+ m?s$"))
    expect(turn.locator("[data-figure=total]")).to_have_text(re.compile(r"^total [\d.]+ m?s$"))
    expect(you.see("#prompt")).to_have_value("")
    expect(you.see("#prompt")).to_be_focused()


def test_shift_enter_is_a_new_line_and_the_conversation_goes_on(come, scripted, app):
    you = come(scripted)
    you.page.fill("#prompt", "one")
    you.page.press("#prompt", "Shift+Enter")
    you.page.type("#prompt", "two")
    expect(you.see(".turn")).to_have_count(0)
    you.page.press("#prompt", "Enter")
    you.rest()
    you.ask("three")
    assert app.state.asked[-1]["messages"] == [
        {"role": "user", "content": "one\ntwo"},
        {"role": "assistant", "content": STORY},
        {"role": "user", "content": "three"},
    ]
    assert app.state.asked[-1]["stream_options"] == {"include_usage": True}


def test_a_starter_fills_the_prompt_and_sends_nothing(come, address):
    you = come(address)
    you.see("#starters button").first.click()
    expect(you.see("#prompt")).to_have_value("Tell me a short story about a fox and a lighthouse.")
    expect(you.see(".turn")).to_have_count(0)


def test_markdown_becomes_elements_and_code_is_copied_as_it_is(come, scripted):
    you = come(scripted, permissions=["clipboard-read", "clipboard-write"])
    body = you.ask("markdown").locator(".answer-body")
    expect(body.locator("h4")).to_have_text("Primes")
    expect(body.locator("strong").first).to_have_text("prime")
    expect(body.locator("p").first).to_contain_text("5 < 7")
    expect(body.locator("td.to-right").first).to_have_text("40 m")
    expect(body.locator("li li")).to_have_count(2)
    link = body.locator("a")
    expect(link).to_have_attribute("href", "https://example.org/prime")
    expect(link).to_have_attribute("rel", "noopener noreferrer nofollow")
    expect(body.locator(".code-keyword").first).to_have_text("def")
    body.get_by_role("button", name="Copy the code").click()
    expect(body.get_by_text("Copied")).to_be_visible()
    copied = you.page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("def is_prime(n: int) -> bool:\n    # 1 is none\n")


def test_html_of_a_model_is_text_and_its_links_and_images_do_nothing(come, scripted):
    you = come(scripted)
    body = you.ask("hostile").locator(".answer-body")
    expect(body).to_contain_text('<img src=x onerror="window.hurt = 1">')
    expect(body).to_contain_text("[click](javascript:window.hurt=4)")
    for element in ("img", "script", "svg:not(.icon)", "b", "iframe"):
        expect(body.locator(element)).to_have_count(0)
    assert [a.get_attribute("href") for a in body.locator("a").all()] == ["https://example.org/p.png"]
    assert you.page.evaluate("window.hurt ?? null") is None


def test_text_of_a_person_is_text(come, scripted):
    you = come(scripted)
    turn = you.ask("<img src=x onerror=window.hurt=1> **not bold**")
    expect(turn.locator(".prompt")).to_have_text("<img src=x onerror=window.hurt=1> **not bold**")
    expect(turn.locator(".prompt img")).to_have_count(0)


@pytest.mark.parametrize("by", ["key", "button"])
def test_stop_keeps_what_came_and_ends_the_request(come, scripted, app, by):
    you = come(scripted)
    stopped = app.state.stopped
    you.type("a slow story")
    expect(you.see(".answer-body")).to_contain_text("There was once")
    if by == "key":
        you.page.keyboard.press("Escape")
    else:
        you.see("#stop").click()
    you.rest()
    expect(you.see(".note")).to_have_text("Stopped.")
    expect(you.see(".answer-body")).to_contain_text("There was once")
    expect(you.see(".answer-body")).not_to_contain_text("very good book")
    you.page.wait_for_timeout(300)
    assert app.state.stopped == stopped + 1


def test_an_answer_is_made_again(come, scripted, app):
    you = come(scripted)
    turn = you.ask("A story")
    asked = len(app.state.asked)
    turn.get_by_role("button", name="Answer again").click()
    you.rest()
    expect(you.see(".turn")).to_have_count(1)
    assert app.state.asked[asked:] == [app.state.asked[asked - 1]]


def test_an_edited_turn_goes_on_from_there_and_can_be_undone(come, scripted, app):
    you = come(scripted)
    you.ask("first")
    you.ask("second")
    you.see(".turn").first.hover()
    you.see(".turn").first.get_by_role("button", name="Edit this prompt").click()
    field = you.see(".editor textarea")
    expect(field).to_be_focused()
    field.fill("other")
    field.press("Enter")
    expect(you.see(".turn")).to_have_count(1)
    you.rest()
    assert app.state.asked[-1]["messages"] == [{"role": "user", "content": "other"}]
    you.see("#toast").get_by_role("button", name="Undo").click()
    expect(you.see(".prompt")).to_have_text(["first", "second"])


def test_the_arrow_up_edits_the_last_prompt_and_escape_leaves_it(come, address):
    you = come(address)
    you.ask("Once")
    you.page.press("#prompt", "ArrowUp")
    field = you.see(".editor textarea")
    expect(field).to_have_value("Once")
    field.press("Escape")
    expect(you.see(".editor")).to_have_count(0)
    expect(you.see(".prompt")).to_have_text("Once")
