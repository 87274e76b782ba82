from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from html import unescape

import pytest

STORY = "Tell me a story about a dog."
FEW = ("--max-tokens", "8", "--ctx", "256")


def widths(text):
    from rich.cells import cell_len

    return [cell_len(line) for line in text.splitlines()]


def test_answers_stand_beside_each_other_with_figures_and_agreement(real_slm):
    shown = real_slm("compare", "tiny", "tiny", "--of", "2:quantize=q4", "--prompt", STORY, "--prompt", "你好", *FEW)
    assert shown.code == 0
    assert "│ tiny " in shown.out
    assert "│ tiny, quantize q4 " in shown.out
    assert shown.out.index("prompt 1: Tell me") < shown.out.index("prompt 2: 你好") < shown.out.index("tokens/s  ")
    assert "Once upon a time" in shown.out
    assert "tiny and tiny, quantize q4" in shown.out
    assert max(widths(shown.out)) <= 120
    assert "slm: tiny, quantize q4, prompt 1 of 2: 8 tokens in" in shown.err


@pytest.mark.parametrize("width", [60, 100, 200])
def test_lines_are_as_wide_as_the_terminal(real_slm, monkeypatch, width):
    monkeypatch.setattr("slmkit.cli.terminal.columns", lambda: width)
    models = ("tiny",) * 3
    shown = real_slm("compare", *models, "--prompt", "用三句话介绍一下北京。" * 8, *FEW, "-q")
    assert max(widths(shown.out)) <= width
    across = [line for line in shown.out.splitlines() if line.startswith("│ tiny")]
    assert len(across) == (3 if width < 94 else 1)  # one below the other where three are too narrow to read
    assert shown.err == ""


def test_json_has_the_same_facts(real_slm):
    shown = real_slm("compare", "tiny", "--prompt", STORY, *FEW, "--json", "-q", "--price", "tiny=1/2", "--seed", "3")
    facts = json.loads(shown.out)
    (model,) = facts["models"]
    (answer,) = model["answers"]
    assert answer["usage"]["completion_tokens"] == 8
    assert answer["cost"] == pytest.approx((11 + 16) / 1e6)
    assert facts["options"] == {"max_tokens": 8, "temperature": 0.0, "seed": 3}


def test_a_model_that_fails_is_shown_and_is_the_exit_code(real_slm):
    shown = real_slm("compare", "./nowhere", "tiny", "--prompt", STORY, *FEW)
    assert shown.code == 3
    assert "FAILED: there is no file or" in shown.out
    assert "Once upon a time" in shown.out
    assert "slm: ./nowhere: there is no file" in shown.err


def test_a_page_and_lines_of_results_are_written(real_slm, tmp_path):
    (tmp_path / "p.jsonl").write_text('{"name": "<one>", "prompt": "Hi"}\n{"prompt": "Ho"}\n')
    done = real_slm(
        "compare", "tiny", "./nowhere", "--prompts", str(tmp_path / "p.jsonl"), *FEW,
        "--html", str(tmp_path / "a.html"), "--results", str(tmp_path / "a.jsonl"),
    )  # fmt: skip
    page = (tmp_path / "a.html").read_text()
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [(line["model"], line["prompt"]) for line in lines] == [("tiny", "<one>"), ("tiny", "prompt 2")]
    assert all(line["text"].strip() in unescape(page) for line in lines)
    assert "there is no file or folder" in page
    assert done.code == 3


def test_what_is_written_to_is_known_before_a_model_is_opened(real_slm, tmp_path):
    for flag in ("--html", "--results"):
        failed = real_slm("compare", "tiny", "--prompt", "Hi", flag, str(tmp_path / "no" / "a"))
        failed.fails(5, "could not be written")


def test_the_prompt_may_come_from_a_pipe(real_slm):
    shown = real_slm("compare", "tiny", "--json", "-q", *FEW, "--system", "Be brief.", stdin=b"Hi\nthere\n")
    roles = json.loads(shown.out)["prompts"][0]["messages"]
    assert roles == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi\nthere"}]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["compare", "tiny"], ["there is no prompt"]),
        (["compare"], ["MODEL is missing"]),
        (["compare", "tiny", "--prompt", "Hi", "--of", "2:quantize=q4"], ["a model's place from 1 to 1"]),
        (
            ["compare", "tiny", "--prompt", "Hi", "--of", "1:quantise=q4"],
            ["NAME=VALUE", "did you mean quantize?"],
        ),
        (
            ["compare", "tiny", "--prompt", "Hi", "--of", "1:quantize=q5"],
            ["quantize of --of 1:", "one of q4"],
        ),
        (["compare", "tiny", "--prompt", "Hi", "--price", "tiny"], ["MODEL=IN/OUT"]),
        (["compare", "tiny", "--prompt", "Hi", "-n", "2"], ["-n is not an option"]),
        (["compare", "tell me a story"], ["looks like a prompt"]),
        (["compare", "tiny", "--image", "a.png"], ["there is no file"]),
        (["compare", "tiny", "--prompts", "nowhere.txt"], ["there is no file nowhere.txt"]),
    ],
)
def test_wrong_usage_is_one_sentence(real_slm, argv, words):
    real_slm(*argv).fails(2, *words)


def test_control_characters_of_a_model_move_no_cursor(monkeypatch):
    from slmkit.cli.side_by_side import beside
    from slmkit.compare.side_by_side import Comparison, Row

    found = Comparison(["tiny"], ["Hi \x1b[2J"])
    found.columns[0].rows = [Row(0, "\x1b[31mred [bold]not bold[/bold]", "stop")]
    shown = beside(found, 80)
    assert "\x1b" not in shown
    assert "[bold]not bold[/bold]" in shown


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_keeps_what_is_done(tmp_path):
    results, page = tmp_path / "a.jsonl", tmp_path / "a.html"
    argv = ["compare", "tiny", "--prompt", "Hi", "--prompt", STORY, "--max-tokens", "700", "--ignore-eos", "--json",
            "--results", str(results), "--html", str(page), "--speculate", "0"]  # fmt: skip
    prompts = tmp_path / "p.txt"
    prompts.write_text("Tell me more.\n" * 200)
    process = subprocess.Popen(
        [sys.executable, "-m", "slmkit", *argv, "--prompts", str(prompts)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    end = time.monotonic() + 60
    while time.monotonic() < end and not (results.exists() and results.read_text().count("\n") >= 2):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    facts = json.loads(out)
    answers = facts["models"][0]["answers"]
    assert facts["interrupted"]
    assert 2 <= len(answers) == results.read_text().count("\n") < 202
    assert "Stopped before it was complete" in page.read_text()
