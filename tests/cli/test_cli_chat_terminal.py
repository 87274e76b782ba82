"""The chat on a real pseudo-terminal."""

import os
import signal
import stat
import sys

import fake_slm
import pytest

pexpect = pytest.importorskip("pexpect")


@pytest.fixture
def terminal(tmp_path):
    """terminal(*argv): slm with the fake model on a pseudo-terminal."""
    children = []

    def start(*argv, **environment):
        # Without an answer to cursor position requests prompt_toolkit would wait and warn.
        env = os.environ | {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "SLMKIT_HOST": "127.0.0.1:1"} | environment
        child = pexpect.spawn(sys.executable, [fake_slm.__file__, *argv], env=env, encoding="utf-8", timeout=20)
        children.append(child)
        return child

    yield start
    for child in children:
        child.close(force=True)


def ends(child) -> int:
    child.expect(pexpect.EOF)
    child.wait()
    return child.exitstatus if child.exitstatus is not None else -child.signalstatus


@pytest.mark.parametrize("argv", [["run"], ["run", "tiny"]])
def test_a_chat_answers_and_ctrl_d_leaves(terminal, argv):
    child = terminal(*argv)
    child.expect("slm: tiny, context 64 tokens; /help lists commands")
    child.expect(">>>")
    child.sendline("hi")
    child.expect("A dog.\r\n")
    child.expect(">>>")
    child.sendcontrol("d")
    assert ends(child) == 0


def test_ctrl_c_stops_the_answer_and_the_chat_goes_on(terminal, tmp_path):
    child = terminal("run")
    child.expect(">>>")
    child.sendline("endless")
    child.expect("It was ")
    child.sendcontrol("c")
    child.expect("slm: stopped\r\n")
    child.expect(">>>")
    child.sendcontrol("c")
    child.expect("Ctrl-D or /quit leaves")
    child.expect(">>>")
    child.sendline("hi")
    child.expect("A dog.")
    child.expect(">>>")
    child.sendline("/quit")
    assert ends(child) == 0


def test_alt_enter_and_three_quotes_type_several_lines(terminal, tmp_path):
    child = terminal("run")
    child.expect(">>>")
    child.send("one\x1b\rtwo\r")
    child.expect("A dog.")
    child.expect(">>>")
    child.send('"""\rthree\rfour"""\r')
    child.expect("A dog.")
    child.expect(">>>")
    child.sendline(f"/save {tmp_path}/talk.json")
    child.expect("4 messages saved")
    assert '"one\\ntwo"' in (tmp_path / "talk.json").read_text()
    assert '"three\\nfour"' in (tmp_path / "talk.json").read_text()


def test_what_was_typed_comes_back_in_the_next_chat_and_is_private(terminal, tmp_path):
    child = terminal("run")
    child.expect(">>>")
    child.sendline("umlaut")
    child.expect("grün 🐶")
    child.expect(">>>")
    child.sendcontrol("d")
    ends(child)
    history = tmp_path / "home" / "slmkit" / "history"
    if sys.platform == "linux":
        assert stat.S_IMODE(history.stat().st_mode) == 0o600
    child = terminal("run")
    child.expect(">>>")
    child.send("\x1b[A\r")
    child.expect("grün 🐶")


def test_a_history_that_cannot_be_written_is_one_line(terminal, tmp_path):
    (tmp_path / "home").write_text("a file in the way")
    child = terminal("run")
    child.expect("slm: the history .* cannot be written")
    child.expect(">>>")
    child.sendline("hi")
    child.expect("A dog.")


def test_escape_sequences_of_a_model_do_not_reach_the_terminal(terminal):
    child = terminal("run", "tiny", "escape")
    assert child.read() == "␛[31mred\ufffd0m␍\r\n"


def test_a_bar_shows_packing_and_leaves_stdout_alone(terminal):
    child = terminal("run", "./packs", "hi")
    child.expect("packing ./packs")
    child.expect("slm: context 64 of 128: what fits in 1 GB of memory")
    child.expect("A dog.\r\n")
    assert ends(child) == 0


def test_no_color_is_obeyed(terminal):
    coloured = terminal("run", "./packs", "hi").read()
    plain = terminal("run", "./packs", "hi", NO_COLOR="1").read()
    assert "\x1b[3" in coloured
    assert "\x1b[3" not in plain


def test_ctrl_c_during_one_answer_ends_with_130(terminal):
    child = terminal("run", "tiny", "endless")
    child.expect("It was ")
    child.kill(signal.SIGINT)
    assert ends(child) == 130


def test_several_answers_in_a_chat_are_refused(terminal):
    child = terminal("run", "tiny", "-n", "2")
    child.expect("slm: n is 2, and a chat has one answer at a time")
    assert ends(child) == 2
