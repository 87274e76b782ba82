"""The page with the real server and the bundled model."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from browser import VALUES, expect, visitor

from live_server import running
from slmkit.options import LoadOptions
from slmkit.server.service import Service
from slmkit.server.settings import ServeOptions

pytestmark = pytest.mark.slow


@pytest.fixture
def guarded(tmp_path) -> Iterator[str]:
    (tmp_path / "keys").write_text("open-sesame-0123456789\n")
    options = ServeOptions(api_keys=str(tmp_path / "keys"))
    with running(Service(("tiny",), options, LoadOptions(ctx=1024))) as address:
        yield address


def test_the_bundled_model_tells_tokens_takes_every_option_and_fits_a_schema(come, base_url):
    you = come(base_url)
    you.page.click("#open-options")
    for name, (text, _) in VALUES.items():
        you.page.fill(f"#option-{name}", text)
    you.page.click("#tokens")
    turn = you.ask("Tell me a story about a dog.")
    expect(turn.get_by_role("alert")).to_be_empty()
    turn.locator(".token").nth(3).hover()
    expect(you.see("#alternatives tr")).to_have_count(5)
    shown = "".join(turn.locator(".token").all_inner_texts())
    turn.get_by_role("button", name="Show the tokens").click()
    assert turn.locator(".answer-body").inner_text().split() == shown.split()
    you.page.click("#reset-options")
    you.page.click("#json")
    you.page.select_option("#schema-example", "A verdict")
    verdict = json.loads(you.ask("How was it?").locator(".code code").inner_text())
    assert verdict["mood"] in ("good", "bad", "mixed")


def test_the_real_errors_are_told_in_words(come, base_url, picture):
    you = come(base_url)
    you.page.click("#open-options")
    you.page.fill("#option-max_tokens", "5000")
    expect(you.ask("Hello").get_by_role("alert")).to_contain_text("over the context of 1024")
    you.page.click("#reset-options")
    you.page.set_input_files("#image-picker", picture)
    expect(you.see("#images img")).to_have_count(1)
    expect(you.ask("What is it?").get_by_role("alert")).to_contain_text("tiny reads text alone")


def test_the_real_server_gives_the_page_to_all_and_answers_to_those_with_a_key(browser, guarded):
    you = visitor(browser, guarded)
    you.page.goto(guarded + "/")
    you.page.fill("#key", "open-sesame-0123456789")
    you.page.keyboard.press("Enter")
    expect(you.ask("Hello").locator(".answer-body")).not_to_be_empty()
    assert you.complaints == []
    you.page.context.close()
