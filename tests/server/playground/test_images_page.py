"""Images that go with a prompt."""

from __future__ import annotations

import base64

import pytest
from browser import expect
from in_page import GIVE_FILE

pytestmark = pytest.mark.slow


def test_images_are_picked_pasted_and_dropped_then_sent(come, scripted, app, picture):
    you = come(scripted)
    you.page.select_option("#model-0", "phi3.5-vision")
    you.page.set_input_files("#image-picker", picture)
    expect(you.see("#images img")).to_have_count(1)
    data = "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
    for kind in ("paste", "drop"):
        you.page.evaluate(GIVE_FILE, [kind, data])
    expect(you.see("#images img")).to_have_count(3)
    you.see("#images").get_by_role("button", name="Remove image 2").click()
    turn = you.ask("What is it?")
    expect(turn.locator(".pictures img")).to_have_count(2)
    part = {"type": "image_url", "image_url": {"url": data}}
    assert app.state.asked[-1]["messages"][-1]["content"] == [part, part, {"type": "text", "text": "What is it?"}]
    expect(you.see("#images")).to_be_hidden()


def test_a_model_without_images_says_so_where_the_answer_would_be(come, scripted, picture):
    you = come(scripted)
    you.page.set_input_files("#image-picker", picture)
    expect(you.see("#images img")).to_have_count(1)
    turn = you.ask("What is it?")
    expect(turn.get_by_role("alert")).to_contain_text("tiny takes no images")
    expect(turn.get_by_role("alert")).to_contain_text("take its images away, or choose a model that sees")
    turn.hover()
    turn.get_by_role("button", name="Edit this prompt").click()
    you.see(".editor").get_by_role("button", name="Remove image 1").click()
    you.see(".editor textarea").press("Enter")
    you.rest()
    expect(you.see(".answer-body")).to_contain_text("There was once a fox")


def test_files_that_are_no_images_are_refused_in_words(come, address, tmp_path):
    you = come(address)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    you.page.set_input_files("#image-picker", tmp_path / "notes.txt")
    expect(you.see("#composer-fault")).to_contain_text("“notes.txt” is text/plain; images are PNG, JPEG, WebP or GIF")
    you.page.set_input_files("#image-picker", tmp_path / "broken.png")
    expect(you.see("#composer-fault")).to_contain_text("“broken.png” does not open as an image")
    expect(you.see("#images li")).to_have_count(0)
