"""The page by keyboard, by ear, in light and dark, and on a phone."""

from __future__ import annotations

import pytest
from browser import Visitor, expect
from in_page import FAINT, FITS, UNNAMED

pytestmark = pytest.mark.slow


def test_the_keys_are_listed_and_do_what_the_list_says(come, address):
    you = come(address)
    you.ask("Once")
    you.see("#scroller").focus()
    you.page.keyboard.press("?")
    expect(you.page.get_by_role("dialog")).to_contain_text("send the prompt")
    you.page.keyboard.press("Escape")
    expect(you.page.get_by_role("dialog")).to_have_count(0)
    you.see("#scroller").focus()
    you.page.keyboard.press("/")
    expect(you.see("#prompt")).to_be_focused()
    for key, id in (("c", "compare"), ("t", "tokens"), ("j", "json")):
        you.page.keyboard.press(f"Alt+{key}")
        expect(you.see(f"#{id}")).to_have_attribute("aria-pressed", "true")
    you.page.keyboard.press("Alt+o")
    expect(you.see("#options")).to_be_hidden()  # the JSON switch had opened them
    you.page.keyboard.press("Alt+h")
    expect(you.see("#history")).to_be_hidden()
    you.page.keyboard.press("Alt+n")
    expect(you.see(".turn")).to_have_count(0)


def test_every_control_has_a_name_and_the_page_its_landmarks(come, scripted, picture):
    you = come(scripted)
    you.page.set_input_files("#image-picker", picture)
    you.page.click("#open-options")
    you.page.click("#json")
    you.page.click("#compare")
    you.page.click("#tokens")
    you.ask("markdown")
    assert you.page.evaluate(UNNAMED) == []
    for role in ("main", "navigation", "heading"):
        assert you.page.get_by_role(role).count() > 0
    assert you.page.get_by_role("complementary").count() == 2
    assert you.page.evaluate("document.documentElement.lang") == "en"


def test_a_screen_reader_hears_sentences_and_the_end(come, scripted):
    you = come(scripted)
    you.ask("A story")
    expect(you.see("#spoken p")).to_have_text(
        ["There was once a fox who lived below a lighthouse.",
         "Each night she counted its turns, and each night there were 3.5 more than she could count!",
         "One evening the lamp stayed dark.", "“Somebody,” thought the fox, “has to go and look.”",
         "So she climbed all ninety-nine steps, and found the keeper asleep over a very good book."]
    )  # fmt: skip
    expect(you.see("#spoken")).to_have_attribute("aria-live", "polite")
    expect(you.see("#status")).to_have_text("The answer is complete")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_colours_follow_the_system_and_every_text_has_contrast(come, scripted, scheme):
    you = come(scripted, color_scheme=scheme)
    you.page.click("#open-options")
    you.page.click("#json")
    you.page.fill("#option-top_p", "7")
    assert is_dark(you) == (scheme == "dark")
    you.page.fill("#option-top_p", "")
    you.ask("markdown")
    you.page.click("#tokens")
    you.page.click("#json")
    you.ask("A story")
    you.ask("fail midway")
    assert you.page.evaluate(FAINT) == []


def is_dark(you: Visitor) -> bool:
    red = you.page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
    return int(red) < 128


def test_the_switch_of_colours_is_remembered(come, address):
    you = come(address, color_scheme="light")
    you.page.get_by_role("button", name="Use dark colours").click()
    assert is_dark(you)
    you.visit()
    assert is_dark(you)
    you.page.get_by_role("button", name="Use light colours").click()
    assert not is_dark(you)


@pytest.mark.parametrize("width", [1024, 1100, 1180, 1280])
def test_no_word_of_the_switches_is_broken_where_both_sides_are_open(come, scripted, width):
    you = come(scripted, viewport={"width": width, "height": 700})
    you.page.click("#open-options")
    for name in ("compare", "tokens", "json", "aloud"):
        word = you.see(f"#{name} span")
        assert word.evaluate("it => it.getClientRects().length === 1 && it.offsetHeight < 30"), name
        assert you.see(f"#{name}").bounding_box()["width"] >= 36


def test_the_welcome_is_read_from_its_beginning_where_it_does_not_fit(come, scripted):
    you = come(scripted, viewport={"width": 360, "height": 420})
    scroller = you.see("#scroller")
    assert scroller.evaluate("it => [it.scrollTop, it.scrollHeight > it.clientHeight]") == [0, True]
    expect(you.see("#to-latest")).to_be_hidden()
    you.ask("many words")
    assert scroller.evaluate("it => it.scrollTop") > 0


def test_a_phone_has_everything_and_never_scrolls_sideways(come, scripted):
    you = come(scripted, viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True)

    def fits() -> bool:
        return bool(you.page.evaluate(FITS))

    assert fits()
    you.page.click("#compare")
    you.ask("markdown")
    assert fits()
    you.page.click("#tokens")
    you.ask("W" * 300)
    assert fits()
    tops = [a.bounding_box()["x"] for a in you.see(".turn").last.locator(".answer").all()]
    assert tops[0] == tops[1]  # one under the other
    you.see(".turn").last.locator(".token").nth(3).tap()
    expect(you.see("#alternatives")).to_be_visible()
    for name in ("options", "history"):
        you.page.click(f"#open-{name}")
        expect(you.see(f"#{name}")).to_be_visible()
        assert fits()
        assert you.see("#main").evaluate("it => it.inert")
        you.page.keyboard.press("Escape")
        expect(you.see(f"#{name}")).to_be_hidden()
        expect(you.see(f"#open-{name}")).to_be_focused()


def test_a_reader_who_scrolled_back_is_left_in_peace(come, scripted):
    you = come(scripted, viewport={"width": 700, "height": 420})
    you.type("many words, slow")
    scroller = you.see("#scroller")
    expect(you.see(".answer-body")).to_contain_text("word150", timeout=30_000)
    scroller.hover()
    you.page.mouse.wheel(0, -200)
    expect(you.see("#to-latest")).to_be_visible()
    top = scroller.evaluate("it => it.scrollTop")
    expect(you.see(".answer-body")).to_contain_text("word200", timeout=30_000)
    assert scroller.evaluate("it => it.scrollTop") <= top
    you.see("#to-latest").click()
    expect(you.see("#to-latest")).to_be_hidden()
    you.page.keyboard.press("Escape")
    you.rest()
