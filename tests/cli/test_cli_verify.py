from __future__ import annotations

import json

import pytest

FEW = ("--tokens", "8", "--lengths", "32", "--ctx", "256", "-q")
TWO = ("--of", "1:quantize=none", "--of", "2:quantize=q8")


def test_a_model_against_itself_is_identical(real_slm):
    shown = real_slm("verify", "tiny", "tiny", *FEW)
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.endswith("B is IDENTICAL\n")
    assert "32 tokens" in shown.out


def test_another_quantization_is_faithful_and_not_identical(real_slm):
    shown = real_slm("verify", "tiny", "tiny", *TWO, *FEW)
    assert shown.code == 0
    assert "B is FAITHFUL\n  faithful: " in shown.out
    assert real_slm("verify", "tiny", "tiny", *TWO, *FEW, "--expect", "identical").code == 1
    strict = real_slm("verify", "tiny", "tiny", *TWO, *FEW, "--most-kl", "0.0001")
    assert (strict.code, "B is DIFFERENT" in strict.out) == (1, True)


def test_json_has_the_verdict_and_the_numbers(real_slm):
    facts = json.loads(real_slm("verify", "tiny", "tiny", *TWO, *FEW, "--json", "--prompt", "Hi").out)
    assert facts["verdict"] == "faithful"
    assert [question["question"] for question in facts["questions"]] == ["prompt 1", "32 tokens"]
    assert 0 < facts["questions"][0]["kl"] < 0.1
    assert facts["b"] == {"model": "tiny", "label": "tiny, quantize q8"}


def test_what_goes_on_is_said_on_stderr(real_slm):
    shown = real_slm("verify", "tiny", "tiny", "--lengths", "0", "--prompt", "Hi")
    assert shown.err == ("slm: opening tiny\nslm: tiny: prompt 1\nslm: opening tiny (2)\nslm: tiny (2): prompt 1\n")


def test_lengths_beyond_a_context_are_named(real_slm):
    shown = real_slm("verify", "tiny", "tiny", *FEW, "--lengths", "32,4096", "--prompt", "Hi")
    assert "not looked at: 4,096 tokens: over the context of 256 of tiny\n" in shown.out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["verify", "tiny"], ["B is missing"]),
        (["verify", "tiny", "tiny", "--lengths", "1"], ["no list of lengths"]),
        (["verify", "tiny", "tiny", "--lengths", "x"], ["no list of lengths"]),
        (["verify", "tiny", "tiny", "--top", "2000"], ["1 to 1000"]),
        (["verify", "tiny", "tiny", "--expect", "equal"], ["identical", "faithful"]),
        (["verify", "tiny", "tiny", "--of", "3:ctx=5"], ["from 1 to 2"]),
    ],
)
def test_wrong_usage_is_one_sentence(real_slm, argv, words):
    real_slm(*argv, "-q").fails(2, *words)


def test_a_model_that_is_not_there_is_an_error_of_its_own(real_slm):
    real_slm("verify", "./nowhere", "tiny", *FEW).fails(3, "nowhere")
