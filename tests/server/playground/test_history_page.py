"""Conversations kept in the browser, exported and imported."""

from __future__ import annotations

import json
from typing import Any

import pytest
from browser import expect
from stand_in import STORY

pytestmark = pytest.mark.slow


def test_conversations_are_kept_listed_renamed_and_deleted(come, scripted):
    you = come(scripted)
    you.ask("The first one")
    you.page.click("#new-conversation")
    expect(you.see(".turn")).to_have_count(0)
    you.ask("The second one")
    titles = you.see("#conversations .title")
    expect(titles).to_have_text(["The second one", "The first one"])

    you.visit()  # and all is there again
    titles.filter(has_text="The first one").click()
    expect(you.see(".prompt")).to_have_text("The first one")
    expect(you.see(".answer-body")).to_have_text(STORY)
    expect(you.see(".figures")).to_be_visible()

    you.page.get_by_role("button", name="Rename “The first one”").click()
    you.page.keyboard.type("Foxes")
    you.page.keyboard.press("Enter")
    expect(titles).to_have_text(["The second one", "Foxes"])
    you.page.get_by_role("button", name="Delete “Foxes”").click()
    expect(titles).to_have_text(["The second one"])
    expect(you.see(".turn")).to_have_count(0)
    you.see("#toast").get_by_role("button", name="Undo").click()
    expect(titles).to_have_text(["The second one", "Foxes"])
    expect(you.see(".prompt")).to_have_text("The first one")


def test_conversations_go_out_as_a_file_and_come_in_again(come, scripted, tmp_path):
    you = come(scripted)
    you.page.click("#tokens")
    you.ask("Export me")
    with you.page.expect_download() as going:
        you.page.click("#export")
    path = tmp_path / going.value.suggested_filename
    going.value.save_as(path)
    file = json.loads(path.read_text(encoding="utf-8"))
    assert (file["format"], file["version"]) == ("slmkit-conversations", 1)
    assert file["conversations"][0]["turns"][0]["answers"][0]["text"] == STORY

    other = come(scripted)
    other.page.set_input_files("#import-picker", path)
    expect(other.see("#toast")).to_contain_text("1 conversation imported.")
    other.see("#conversations .title").click()
    expect(other.see(".prompt")).to_have_text("Export me")
    other.page.get_by_role("button", name="Show the tokens").click()
    other.see(".token").nth(2).hover()
    expect(other.see("#alternatives tr")).to_have_count(5)


GOOD: dict[str, Any] = {"title": "", "created": 1, "updated": 1, "turns": [{"text": "a", "images": [], "answers": []}]}


DAMAGED: list[tuple[Any, str]] = [
    ("{", "This file is not JSON"),
    ("[]", "not an export of this page"),
    ('{"format": "slmkit-conversations", "version": 2}', "of version 2; this page reads version 1"),
    ([{**GOOD, "turns": 3}], "the turns of conversation 1 should be a list"),
    ([GOOD, {**GOOD, "updated": "x"}], "the date of conversation 2 should be a number"),
    (
        [{**GOOD, "turns": [{"text": "a", "images": ["https://example.org/a.png"], "answers": []}]}],
        "the images of turn 1",
    ),
    ([{**GOOD, "turns": [{"text": "a", "answers": [{"model": 1}]}]}], "the model of turn 1 of conversation 1"),
]


def test_a_damaged_file_is_refused_whole_and_in_words(come, address, tmp_path):
    you = come(address)
    path = tmp_path / "import.json"
    for file, words in DAMAGED:
        whole = {"format": "slmkit-conversations", "version": 1, "conversations": file}
        path.write_text(file if isinstance(file, str) else json.dumps(whole))
        you.page.set_input_files("#import-picker", path)
        expect(you.see("#history-note")).to_contain_text(words)
    expect(you.see("#conversations li")).to_have_count(0)
