"""The chat's turns and commands, without a terminal; test_cli_chat_terminal.py has one."""

import json

import fake_slm
import pytest

from slmkit.cli.chat import COMMANDS, Chat
from slmkit.cli.chat_input import is_open, unquoted
from slmkit.options import Options
from slmkit.request import Message

USER, DOG = Message("user", "hi"), Message("assistant", "A dog.")


@pytest.fixture
def talk(capsys, tmp_path, monkeypatch):
    """talk(*lines) types the lines into one chat and returns it with what was shown."""
    monkeypatch.chdir(tmp_path)
    models: list[fake_slm.FakeModel] = []

    def open_named(name, options):
        models.append(fake_slm.load(name))
        return models[-1]

    def run(*lines, chat=None):
        chat = chat or Chat(open_named, "tiny", Options(top_k=3))
        chat.models = models
        typed = iter(lines)

        def read():
            line = next(typed, EOFError)
            if isinstance(line, type):
                raise line
            return line

        chat.loop(read)
        chat.out, chat.err = capsys.readouterr()
        return chat

    return run


def test_each_turn_sees_those_before_it(talk):
    chat = talk("hi", "", "more")
    assert chat.out == "A dog.\nA dog.\n"
    first, second = chat.models[0].requests
    assert first.messages == (USER,)
    assert second.messages == (USER, DOG, Message("user", "more"))
    assert first.options == Options(top_k=3)


@pytest.mark.parametrize("leave", ["/quit", "/exit", EOFError])
def test_leaving(talk, leave):
    assert len(talk("hi", leave, "more").models[0].requests) == 1


def test_help_lists_every_command(talk):
    out = talk("/help").out
    assert all(command in out for command in COMMANDS)


def test_a_full_context_is_one_line_and_the_turn_is_not_kept(talk):
    chat = talk("hi", "too long", "hi")
    assert "slm: the prompt has 70 tokens, over the context of 64; shorten the prompt; /clear starts over\n" in chat.err
    assert [m.content for m in chat.messages] == ["hi", "A dog.", "hi", "A dog."]


def test_clear_forgets_all_but_the_system_message(talk):
    assert talk("/system Be brief.", "hi", "/clear").messages == [Message("system", "Be brief.")]


def test_system_sets_replaces_and_removes_the_first_message(talk):
    assert talk("hi", "/system a", "/system b").messages == [Message("system", "b"), USER, DOG]
    assert talk("hi", "/system a", "/system").messages == [USER, DOG]


def test_ctrl_c_at_the_prompt_is_a_hint(talk):
    assert "slm: Ctrl-D or /quit leaves\n" in talk(KeyboardInterrupt, "hi").err


def test_ctrl_c_stops_the_answer_and_keeps_what_was_said(talk, monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr("threading.Event.wait", interrupt)
    chat = talk("endless", "hi")
    assert chat.messages[:2] == [Message("user", "endless"), Message("assistant", "It was ")]
    assert chat.messages[3] == DOG
    assert "slm: stopped\n" in chat.err
    assert chat.models[0].n_cancelled == 1


def test_an_empty_answer_is_not_kept(talk):
    chat = talk("nothing")
    assert chat.messages == []
    assert "this turn is not kept" in chat.err


def test_an_answer_cut_off_says_so(talk):
    assert "cut off after 3 tokens" in talk("on").err
    assert "cut off" not in talk("hi").err


def test_what_is_saved_can_be_loaded(talk, tmp_path):
    talk("/system Be brief.", "hi", "/save talk.json")
    saved = json.loads((tmp_path / "talk.json").read_text())
    assert saved["model"] == "tiny"
    assert saved["messages"][2] == {"role": "assistant", "content": "A dog."}
    chat = talk("/load talk.json", "more", "/save talk.json")
    assert [m.role for m in chat.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert json.loads((tmp_path / "talk.json").read_text())["messages"][3]["content"] == "more"
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["talk.json"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/sav x", "/sav is no command (did you mean /save?)"),
        ("/save", "/save needs the name of a file"),
        ("/save nowhere/talk.json", "there is no folder nowhere"),
        ("/save notes.txt/talk.json", "there is no folder notes.txt"),
        ("/save .", ". is a folder"),
        ("/save " + "x" * 300, "cannot be opened (File name too long)"),
        ("/save " + "x/" * 3000 + "y", "cannot be opened (File name too long)"),
        ("/save notes.txt", "notes.txt exists and is no saved conversation"),
        ("/save ~nobody-of-that-name/x", "home"),
        ("/load", "/load needs the name of a file"),
        ("/load none.json", "there is no file none.json"),
        ("/load notes.txt", "notes.txt is not JSON"),
        ("/load .", ". is not an ordinary file"),
        ("/load /dev/zero", "/dev/zero is not an ordinary file"),
        ("/load empty.json", "empty.json holds no conversation"),
        ("/load role.json", "role.json holds a broken conversation: message role 'robot'"),
        ("/load extra.json", "extra.json holds a broken conversation"),
        ("/model", "/model needs a name"),
        ("/model nobody", "nobody"),
        ("/model a/../b", "'..'"),
    ],
)
def test_a_failing_command_is_one_line_and_changes_nothing(talk, tmp_path, line, words):
    (tmp_path / "notes.txt").write_text("my notes")
    (tmp_path / "empty.json").write_text('{"messages": []}')
    (tmp_path / "role.json").write_text('[{"role": "robot", "content": "x"}]')
    (tmp_path / "extra.json").write_text('[{"role": "user", "content": "x", "name": "y"}]')
    chat = talk("hi", line, "hi")
    complaint = chat.err.splitlines()[1]
    assert complaint.startswith("slm: ")
    assert words in complaint
    assert [m.content for m in chat.messages] == ["hi", "A dog.", "hi", "A dog."]
    assert len(chat.models) == 1
    assert (tmp_path / "notes.txt").read_text() == "my notes"


def test_there_is_nothing_to_save_before_the_first_turn(talk, tmp_path):
    assert "nothing to save yet" in talk("/system Be brief.", "/save talk.json").err
    assert not (tmp_path / "talk.json").exists()


def test_another_model_goes_on_with_the_conversation(talk, tmp_path):
    (tmp_path / "other").mkdir()
    chat = talk("hi", "/model ./other", "more")
    old, new = chat.models
    assert old.closed
    assert not new.closed
    assert new.requests[0].messages == (USER, DOG, Message("user", "more"))


def test_a_model_that_does_not_load_brings_the_old_one_back(talk, tmp_path):
    (tmp_path / "broken").mkdir()
    chat = talk("hi", "/model ./broken", "more")
    assert "cut short" in chat.err
    assert chat.model.name == "tiny"
    assert not chat.model.closed
    assert chat.model.requests[0].messages == (USER, DOG, Message("user", "more"))


@pytest.mark.parametrize(
    ("typed", "open_", "text"),
    [
        ("a", False, "a"),
        ('"""', True, None),
        ('"""a\nb', True, None),
        ('"""a\nb"""', False, "a\nb"),
        (' """\na\n""" ', False, "a"),
        ('""""', True, None),
        ('""""""', False, ""),
        ('say """x"""', False, 'say """x"""'),
    ],
)
def test_three_quotes_hold_several_lines(typed, open_, text):
    assert is_open(typed) is open_
    if not open_:
        assert unquoted(typed) == text
