"""The playground in a real browser, each flow as a person goes through it.

`address` is a server that answers anything; `scripted` one that answers by words in the prompt (stand_in.py).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Visitor, needs_chromium, visitor
from in_page import FAINT, FITS, GIVE_FILE, NO_SPEECH, UNNAMED, VOICES

pytest.importorskip("fastapi", reason="the server needs fastapi: pip install 'slmkit[server]'")
pytest.importorskip("uvicorn", reason="the server needs uvicorn: pip install 'slmkit[server]'")
Image = pytest.importorskip("PIL.Image", reason="images need Pillow: pip install 'slmkit[vision]'")
needs_chromium()

from playwright.sync_api import Browser, expect, sync_playwright  # noqa: E402
from stand_in import STORY, served, stand_in  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def app() -> Any:
    return stand_in()


@pytest.fixture(scope="module")
def scripted(app) -> Iterator[str]:
    with served(app) as address:
        yield address


@pytest.fixture(scope="module")
def address(scripted) -> str:
    return scripted


@pytest.fixture
def come(browser) -> Iterator[Any]:
    """come(address, **context) opens the page; at the end nobody may have complained or gone elsewhere."""
    people: list[Visitor] = []

    def open_page(address: str, **context: Any) -> Visitor:
        somebody = visitor(browser, address, **context)
        people.append(somebody)
        somebody.visit()
        return somebody

    yield open_page
    for somebody in people:
        somebody.page.context.close()
        assert somebody.complaints == []
        assert somebody.elsewhere == []


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / "red.png"
    Image.new("RGB", (40, 30), "red").save(path)
    return path


# Chat


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


# Images


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


# Options

VALUES = {
    "temperature": ("0.7", 0.7), "top_p": ("0,9", 0.9), "top_k": ("40", 40), "min_p": ("0.05", 0.05),
    "max_tokens": ("64", 64), "seed": ("7", 7), "stop": ("###\n\\n\\n", ["###", "\n\n"]),
    "presence_penalty": ("0.5", 0.5), "frequency_penalty": ("-0.5", -0.5), "repetition_penalty": ("1.1", 1.1),
}  # fmt: skip


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


# JSON


def test_answers_match_a_schema_that_is_checked_while_it_is_typed(come, scripted, app):
    you = come(scripted)
    you.page.click("#json")
    field, verdict = you.see("#schema"), you.see("#schema-verdict")
    expect(field).to_be_focused()
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


# Two models


@pytest.mark.parametrize("in_turn", [True, False])
def test_two_models_answer_the_same_prompt_side_by_side(come, scripted, app, in_turn):
    you = come(scripted)
    you.page.click("#open-options")
    you.see("#in-turn").set_checked(in_turn)
    you.page.click("[data-close=options]")
    you.page.click("#compare")
    you.page.select_option("#model-1", "phi-3.5-mini")
    turn = you.ask("A story")
    first, second = app.state.asked[-2:]
    assert {first["model"], second["model"]} == {"tiny", "phi-3.5-mini"}
    assert first["messages"] == second["messages"]
    answers = turn.locator(".answer")
    expect(answers.locator(".model-name")).to_have_text(["tiny", "phi-3.5-mini"])
    expect(answers.locator(".answer-body")).to_have_text([STORY, STORY])
    expect(answers.locator("[data-figure=rate]")).to_have_text(["75.5 tokens/s", "37.8 tokens/s"])
    expect(answers.locator("[data-figure=first]")).to_have_text(["first token 42 ms", "first token 84 ms"])
    expect(answers.locator("[data-figure=total]")).to_have_text(["total 1.15 s", "total 2.31 s"])
    expect(answers.first.locator(".best")).to_have_count(3)
    expect(answers.last.locator(".best")).to_have_count(0)
    boxes = [a.bounding_box() for a in answers.all()]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] + boxes[0]["width"] < boxes[1]["x"]


def test_in_turn_the_second_model_starts_when_the_first_is_done(come, scripted):
    you = come(scripted)
    you.page.click("#compare")
    you.type("a slow story")
    expect(you.see(".answer").last.locator(".note")).to_have_text(
        "Waits for the other model, so that neither slows the other."
    )
    you.page.keyboard.press("Escape")
    you.rest()
    expect(you.see(".answer .note")).to_have_text(["Stopped.", "Stopped."])


# Tokens


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


# Reading aloud


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


# History


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


# Keys, ears and eyes


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


# When something goes wrong


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
        expect(you.see("#server-fault")).to_contain_text("this server asks for an API key")
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


def test_an_answer_cut_off_at_the_most_tokens_says_so(come, scripted):
    you = come(scripted)
    you.page.click("#open-options")
    you.page.fill("#option-max_tokens", "5")
    expect(you.ask("A story").locator(".note")).to_contain_text("cut off at the most tokens allowed")
