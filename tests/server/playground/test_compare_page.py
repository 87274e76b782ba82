"""Two models on the same prompt."""

from __future__ import annotations

import pytest
from browser import expect
from stand_in import STORY

pytestmark = pytest.mark.slow


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
