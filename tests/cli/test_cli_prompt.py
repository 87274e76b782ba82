import os
import subprocess
import sys

import pytest


def said(done) -> str:
    return done.model.requests[0].messages[-1].content


def test_the_prompt_is_the_argument_or_what_is_piped_in(slm):
    assert said(slm("run", "tiny", "hi")) == "hi"
    assert said(slm("run", "tiny", stdin=b"hi\n")) == "hi"
    assert said(slm("run", "tiny", "-", stdin=b"hi\n")) == "hi"
    assert said(slm("run", stdin=b"hi")) == "hi"


def test_piped_text_follows_the_argument_after_an_empty_line(slm):
    assert said(slm("run", "tiny", "Summarise:", stdin=b"a\nb\n")) == "Summarise:\n\na\nb"


@pytest.mark.parametrize("nothing", [b"", b"\n"])
def test_an_argument_with_nothing_piped_stays_as_it_is(slm, nothing):
    assert said(slm("run", "tiny", "hi", stdin=nothing)) == "hi"


def test_one_final_newline_is_dropped_and_no_more(slm):
    assert said(slm("run", "tiny", stdin=b" a\n\n")) == " a\n"
    assert said(slm("run", "tiny", stdin=b"a\r\n")) == "a"


def test_a_byte_order_mark_is_no_text(slm):
    assert said(slm("run", "tiny", stdin=b"\xef\xbb\xbfhi")) == "hi"


@pytest.mark.parametrize("argv", [["run", "tiny"], ["complete", "tiny"], ["render", "tiny"], ["tokenize", "tiny"]])
@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_prompt_is_refused(slm, argv, text):
    slm(*argv, text).fails(2, "empty")
    slm(*argv, stdin=text.encode()).fails(2, "empty")


def test_text_that_is_not_utf8_is_refused(slm):
    slm("run", "tiny", stdin=b"caf\xe9").fails(2, "not UTF-8", "byte 3 is 0xe9")
    slm("run", "tiny", "caf\udce9").fails(2, "not valid UTF-8 from character 3")


@pytest.mark.parametrize("verb", ["complete", "render", "tokenize"])
def test_verbs_that_cannot_chat_ask_for_a_text(slm, verb):
    slm(verb, "tiny").fails(2, "there is no", "standard input")


def test_a_chat_without_a_terminal_is_refused(slm):
    slm("run", "tiny").fails(2, "a chat needs a terminal")  # stdout is none here
    slm("run", "tiny", "--json").fails(2, "--json answers one prompt")


def test_a_prompt_in_place_of_the_model_is_recognised(slm):
    slm("run", "Tell me a story").fails(2, "the model comes first", "slm run tiny 'Tell me a story'")
    slm("run", "Tell me a story", stdin=b"hi").fails(2, "the model comes first", "slm run tiny 'Tell me a story'")


def test_an_endless_input_is_refused(slm_process):
    with open("/dev/zero", "rb") as endless:
        done = slm_process("run", "tiny", stdin=endless)
    assert done.returncode == 2
    assert b"more than 8 MiB" in done.stderr


def test_a_closed_input_is_no_piped_text(slm_process):
    done = slm_process("run", "tiny", "hi", preexec_fn=lambda: os.close(0))
    assert (done.returncode, done.stdout) == (0, b"A dog.\n")
    done = slm_process("run", "tiny", "-", preexec_fn=lambda: os.close(0))
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"standard input is closed" in done.stderr


def test_waiting_for_a_silent_pipe_is_said():
    import fake_slm

    with subprocess.Popen(
        [sys.executable, fake_slm.__file__, "run", "tiny", "hi"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as running:  # fmt: skip
        assert b"waiting for text on standard input" in running.stderr.readline()
        out, _ = running.communicate(b"there", timeout=60)
    assert out == b"A dog.\n"
