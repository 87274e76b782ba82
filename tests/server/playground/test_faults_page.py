"""What a person is told when something goes wrong."""

from __future__ import annotations

import pytest
from browser import expect, visitor
from stand_in import STORY, served, stand_in

pytestmark = pytest.mark.slow


def test_a_server_with_a_key_asks_for_it_and_the_tab_keeps_it(browser):
    with served(stand_in(key="open-sesame")) as address:
        you = visitor(browser, address)
        you.page.goto(address + "/")
        dialog = you.page.get_by_role("dialog")
        expect(dialog).to_contain_text("This server asks for a key")
        you.page.fill("#key", "wrong")
        you.page.keyboard.press("Enter")
        expect(dialog).to_contain_text("does not take that key")
        you.page.fill("#key", "open-sesame")
        you.page.keyboard.press("Enter")
        expect(dialog).to_have_count(0)
        expect(you.see("#model-0")).to_have_value("tiny")
        expect(you.ask("A story").locator(".answer-body")).to_have_text(STORY)
        you.visit()  # the key is still there
        expect(dialog).to_have_count(0)
        assert "open-sesame" not in you.page.evaluate("JSON.stringify(localStorage)")
        assert you.complaints == []
        you.page.context.close()


def test_who_has_no_key_is_told_and_can_try_again(browser):
    with served(stand_in(key="open-sesame")) as address:
        you = visitor(browser, address)
        you.page.goto(address + "/")
        you.page.get_by_role("dialog").get_by_role("button", name="Not now").click()
        expect(you.see("#server-fault")).to_contain_text(
            "There is no list of models: this server asks for an API key. Enter the key that the server was started"
        )
        you.see("#server-fault").get_by_role("button", name="Try again").click()
        expect(you.page.get_by_role("dialog")).to_be_visible()
        you.page.context.close()


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("busy", ["32 requests are waiting", "try again in 7 s"]),
        ("break off", ["The answer broke off", "Look whether the server still runs"]),
        ("fail midway", ["ran out of memory at 12 tokens"]),
    ],
)
def test_a_failure_is_told_where_the_answer_would_be_and_can_be_tried_again(come, scripted, app, prompt, words):
    you = come(scripted)
    turn = you.ask(prompt)
    for text in words:
        expect(turn.get_by_role("alert")).to_contain_text(text)
    if prompt != "busy":
        expect(turn.locator(".answer-body")).to_contain_text("There was once a fox")  # what came is kept
    asked = len(app.state.asked)
    turn.get_by_role("button", name="Try again").click()
    you.rest()
    assert len(app.state.asked) == asked + 1
    you.ask("A story")
    expect(you.see(".answer-body").last).to_have_text(STORY)


def test_a_server_that_is_gone_is_told_and_found_again(browser):
    with served(stand_in()) as address:
        you = visitor(browser, address)
        you.visit()
        you.page.route("**/v1/**", lambda route: route.abort("connectionrefused"))
        turn = you.ask("Hello")
        expect(turn.get_by_role("alert")).to_contain_text("The server does not answer")
        expect(turn.get_by_role("alert")).to_contain_text("slm serve")
        you.page.reload()
        expect(you.see("#server-fault")).to_contain_text("The server does not answer")
        you.page.unroute("**/v1/**")
        you.see("#server-fault").get_by_role("button", name="Try again").click()
        expect(you.see("#server-fault")).to_be_hidden()
        expect(you.ask("A story").locator(".answer-body")).to_have_text(STORY)
        you.page.context.close()


def test_a_page_under_a_name_that_the_server_does_not_know_is_not_asked_for_a_key(browser):
    with served(stand_in()) as address:
        you = visitor(browser, address)
        refusal = '{"error": {"message": "pages of http://slm.lan may not call this server"}}'
        you.page.route("**/v1/**", lambda route: route.fulfill(status=403, body=refusal))
        you.page.goto(address + "/")
        expect(you.see("#server-fault")).to_contain_text("may not call this server. Start slm serve with that option")
        expect(you.see("#server-fault")).not_to_contain_text("key")
        you.page.context.close()


def test_an_answer_cut_off_at_the_most_tokens_says_so(come, scripted):
    you = come(scripted)
    you.page.click("#open-options")
    you.page.fill("#option-max_tokens", "5")
    expect(you.ask("A story").locator(".note")).to_contain_text("cut off at the most tokens allowed")
