import json
import os
import subprocess
import sys

import fake_slm
import pytest

from slmkit.cli.answer import is_cut_by_context
from slmkit.cli.terminal import neutral
from slmkit.events import Choice, Usage
from slmkit.request import Message


def test_only_the_answer_is_on_stdout(slm):
    done = slm("run", "tiny", "hi")
    assert (done.code, done.out, done.err) == (0, "A dog.\n", "")
    assert done.model.closed


def test_a_line_that_is_ended_is_not_ended_again(slm):
    assert slm("run", "tiny", "escape").out.endswith("d\x9b0m\r\n")
    assert slm("run", "tiny", "nothing").out == ""


def test_the_system_message_goes_first(slm):
    asked = slm("run", "tiny", "hi", "--system", "Be brief.", "--parse-special").model.requests[0]
    assert asked.messages == (Message("system", "Be brief."), Message("user", "hi"))
    assert asked.parse_special


def test_complete_has_no_template_and_echoes_if_asked(slm):
    done = slm("complete", "tiny", "Once. ")
    assert (done.model.requests[0].prompt, done.model.requests[0].messages) == ("Once. ", None)
    assert done.out == "A dog.\n"
    assert slm("complete", "tiny", "Once. ", "--echo").out == "Once. A dog.\n"


def test_statistics_are_on_stderr(slm):
    done = slm("run", "tiny", "hi", "--stats")
    assert done.out == "A dog.\n"
    assert done.err == ("slm: prompt 5 tokens (2 of them cached), answer 3; first token after 0.25 s, "
                        "then 2.0 tokens/s, 1.25 s in all; ended by stop ('<|end|>')\n")  # fmt: skip


def test_json_has_the_same_facts(slm):
    shown = json.loads(slm("run", "tiny", "hi", "--json").out)
    assert shown == {
        "model": "tiny",
        "text": "A dog.",
        "reason": "stop",
        "choices": [{"text": "A dog.", "reason": "stop", "stop": "<|end|>", "score": None}],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 3,
            "cached_tokens": 2,
            "drafted_tokens": 0,
            "accepted_tokens": 0,
        },
        "timing": {"first_token_s": 0.25, "total_s": 1.25},
    }


def test_json_has_tokens_where_log_probabilities_are_asked_for(slm):
    tokens = json.loads(slm("run", "tiny", "hi", "--json", "--logprobs", "2").out)["choices"][0]["tokens"]
    assert tokens[0] == {
        "id": 0, "text": "A d", "logprob": -0.5,
        "top": [{"id": 9, "text": "B", "logprob": -1.5}, {"id": 8, "text": "C", "logprob": None}],
    }  # fmt: skip


def test_log_probabilities_are_shown_beside_a_plain_answer_too(slm):
    done = slm("run", "tiny", "hi", "--logprobs", "2")
    assert done.out == "A dog.\n"
    lines = [line.split() for line in done.err.splitlines()]
    assert lines[0] == ["slm:", "0", "'A", "d'", "-0.5000", "'B'", "-1.5000", "'C'", "-inf"]
    assert len(lines) == 3


def test_several_answers_are_numbered(slm):
    assert slm("run", "tiny", "hi", "-n", "2").out == "[1]\nA dog.\n\n[2]\nA dog.\n"
    assert len(json.loads(slm("run", "tiny", "hi", "--n", "2", "--json").out)["choices"]) == 2
    assert json.loads(slm("run", "tiny", "hi", "--n", "2", "--json").out)["usage"]["completion_tokens"] == 6


def test_a_prompt_over_the_context_is_one_line(slm):
    slm("run", "tiny", "too long").fails(2, "70 tokens", "context of 64")


def test_notices_and_progress_are_lines_on_stderr_unless_quiet(slm):
    done = slm("run", "./packs", "hi")
    assert done.out == "A dog.\n"
    assert done.err == "slm: packing ./packs, 200 MB\nslm: context 64 of 128: what fits in 1 GB of memory\n"
    assert slm("run", "./packs", "hi", "--quiet").err == ""


def test_a_pipe_gets_the_text_while_it_is_made():
    with subprocess.Popen(
        [sys.executable, fake_slm.__file__, "run", "tiny", "endless"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    ) as running:  # fmt: skip
        assert os.read(running.stdout.fileno(), 100) == b"It was "
        running.kill()


def test_a_pipe_gets_the_text_as_it_is_in_utf8_whatever_the_locale(slm_process):
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PATH": os.environ["PATH"]}
    plain |= {name: os.environ[name] for name in ("PYTHONPATH", "SLMKIT_HOST") if name in os.environ}
    assert slm_process("run", "tiny", "umlaut", env=plain).stdout.decode() == "grün 🐶\n"
    assert slm_process("run", "tiny", "escape").stdout == "\x1b[31mred\x9b0m\r\n".encode()


@pytest.mark.parametrize("raw", [*map(chr, range(9)), *map(chr, range(11, 32)), "\x7f", *map(chr, range(0x80, 0xA0))])
def test_control_characters_are_made_visible(raw):
    shown = neutral(raw)
    assert len(shown) == 1
    assert shown.isprintable()


def test_text_newlines_and_tabs_are_shown_as_they_are():
    assert neutral("grün 🐶\tα\n") == "grün 🐶\tα\n"


@pytest.mark.parametrize(
    ("written", "asked", "cut"), [(54, None, True), (54, 60, True), (54, 54, False), (53, None, False)]
)
def test_an_answer_as_long_as_it_was_asked_to_be_is_not_cut_even_where_it_fills_the_context(written, asked, cut):
    choice = Choice(reason="length", usage=Usage(prompt_tokens=10, completion_tokens=written))
    assert is_cut_by_context(choice, 64, asked) is cut
