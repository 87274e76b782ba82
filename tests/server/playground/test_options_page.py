"""The options and the schema of an answer: explained, checked while typed, sent, and marked when refused."""

from __future__ import annotations

import json

import pytest
from browser import VALUES, expect
from stand_in import STORY

pytestmark = pytest.mark.slow


def test_every_option_is_explained_and_sent_and_empty_ones_are_not(come, scripted, app):
    you = come(scripted)
    you.ask("plain")
    assert set(app.state.asked[-1]) == {"model", "messages", "stream", "stream_options"}
    you.page.click("#open-options")
    for name, (text, _) in VALUES.items():
        field = you.see(f"#option-{name}")
        assert len(you.see(f"#option-{name}-help").inner_text()) > 40
        assert f"option-{name}-help" in (field.get_attribute("aria-describedby") or "")
        field.fill(text)
    you.page.fill("#instructions", "Answer in verse.")
    you.ask("which system prompt")
    expect(you.see(".answer-body").last).to_have_text("My instructions: Answer in verse..")
    body = app.state.asked[-1]
    assert {name: body[name] for name in VALUES} == {name: value for name, (_, value) in VALUES.items()}
    you.page.click("#reset-options")
    you.ask("plain")
    assert set(app.state.asked[-1]) == {"model", "messages", "stream", "stream_options"}


def test_a_slider_sets_its_field(come, address):
    you = come(address)
    you.page.click("#open-options")
    you.page.get_by_label("Temperature, slider").fill("0.85")
    expect(you.see("#option-temperature")).to_have_value("0.85")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("top_p", "7", "“7” does not fit: it takes a number from 0 to 1."),
        ("top_k", "1.5", "“1.5” does not fit: it takes a whole number of 0 or more."),
        ("max_tokens", "many", "“many” does not fit: it takes a whole number of 1 or more."),
        ("temperature", "NaN", "“NaN” does not fit: it takes a number from 0 to 100."),
    ],
)
def test_a_value_that_does_not_fit_is_told_and_nothing_is_sent(come, scripted, app, name, text, words):
    you = come(scripted)
    you.page.click("#open-options")
    you.page.fill(f"#option-{name}", text)
    expect(you.see(f"#option-{name}-fault")).to_contain_text(words)
    you.page.click("[data-close=options]")
    asked = len(app.state.asked)
    you.type("hello")
    expect(you.see("#composer-fault")).to_contain_text("Not sent")
    expect(you.see(f"#option-{name}")).to_be_focused()
    expect(you.see("#prompt")).to_have_value("hello")
    assert len(app.state.asked) == asked


def test_an_option_that_the_server_refuses_is_marked_where_it_is(come, scripted):
    you = come(scripted)
    you.page.click("#open-options")
    you.page.fill("#option-top_k", "13")
    turn = you.ask("hello")
    expect(turn.get_by_role("alert")).to_contain_text("top_k is 13, which this stand-in refuses")
    expect(you.see("#option-top_k-fault")).to_contain_text("top_k is 13")
    expect(you.see("#option-top_k")).to_have_attribute("aria-invalid", "true")
    you.page.click("[data-close=options]")
    turn.get_by_role("button", name="Show the option").click()
    expect(you.see("#option-top_k")).to_be_focused()
    you.page.fill("#option-top_k", "12")
    turn.get_by_role("button", name="Try again").click()
    you.rest()
    expect(turn.locator(".answer-body")).to_have_text(STORY)


def test_answers_match_a_schema_that_is_checked_while_it_is_typed(come, scripted, app):
    you = come(scripted)
    you.page.click("#json")
    field, verdict = you.see("#schema"), you.see("#schema-verdict")
    expect(field).to_be_focused()
    assert field.evaluate("field => [field.selectionStart, field.scrollTop]") == [0, 0]
    for text, words in [
        ("", "Write a schema"),
        ('{"type": ', "This is not JSON yet: it ends too early"),
        ('{\n "type": }', "“}” is unexpected at line 2, column 10"),
        ("[]", "The schema must be an object"),
        ('{"type": "text"}', 'has the type "text"; use one of object, array'),
        ('{"properties": {"a": 3}}', "“a” must be an object"),
        ('{"required": "a"}', "must be a list of names"),
    ]:
        field.fill(text)
        expect(verdict).to_contain_text(words)
    you.type("hello")
    expect(you.see("#composer-fault")).to_contain_text("Not sent")
    you.page.select_option("#schema-example", "A person")
    expect(verdict).to_have_text("A valid schema.")
    turn = you.ask("Who was Ada?")
    sent = app.state.asked[-1]["response_format"]
    assert sent["type"] == "json_schema"
    assert sent["json_schema"]["schema"] == json.loads(field.input_value())
    assert json.loads(turn.locator(".code code").inner_text()) == {
        "name": "Ada", "age": 36, "languages": ["English", "French"]
    }  # fmt: skip
    expect(turn.locator(".note")).to_be_empty()
    expect(you.ask("cut it").locator(".note")).to_contain_text("not whole JSON")
    expect(you.ask("busy").locator(".code")).to_have_count(0)
