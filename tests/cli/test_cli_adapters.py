"""`--adapter` and `--adapters`, and `/adapter` in a chat."""

import json
from pathlib import Path

import fake_slm
import pytest

import tiny
from slmkit.cli.adapters import with_adapter
from slmkit.cli.chat import Chat
from slmkit.options import LoadOptions, Options

PEFT = str(Path(__file__).parents[1] / "data" / "lora")
ASKED = ("hi", "--max-tokens", "8", "--ignore-eos", "--quiet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tiny.write_model(tmp_path_factory.mktemp("models") / "gqa"))


def test_one_adapter_by_its_folder_or_by_its_name(real_slm, folder):
    plain = real_slm("run", folder, *ASKED)
    assert plain.code == 0
    with_it = real_slm("run", folder, "--adapter", PEFT, *ASKED)
    assert (with_it.code, with_it.err) == (0, "")
    assert with_it.out != plain.out
    for flags in (
        ("--adapters", f"x={PEFT}", "--adapter", "x"),
        ("--adapters", f"y={PEFT}", f"--adapter=x={PEFT}"),
        ("--adapters", PEFT),
    ):
        assert real_slm("run", folder, *flags, *ASKED).out == with_it.out
    for flags in (("--adapters", f"x={PEFT}"), ("--adapters", PEFT, "--adapter", "none")):
        assert real_slm("run", folder, *flags, *ASKED).out == plain.out
    assert real_slm("complete", folder, "--adapter", PEFT, *ASKED).out != real_slm("complete", folder, *ASKED).out


def test_an_adapter_that_does_not_fit_ends_with_one_line(real_slm, folder):
    other = real_slm("run", "tiny", "--adapter", PEFT, *ASKED)
    assert (other.code, other.out, other.err.count("\n")) == (4, "", 1)
    assert "is it an adapter for another model" in other.err
    nothing = real_slm("run", folder, "--adapter", "nosuch", *ASKED)
    assert (nothing.code, nothing.err.count("\n")) == (3, 1)
    assert "'nosuch'" in nothing.err


def test_show_says_what_an_adapter_is_and_whether_it_fits(real_slm, folder):
    shown = real_slm("show", folder, "--adapter", PEFT)
    assert (shown.code, shown.err) == (0, "")
    assert "changes       9 matrices: down_proj, gate_up_proj, lm_head, o_proj, qkv_proj\n" in shown.out
    assert json.loads(real_slm("show", folder, "--adapter", PEFT, "--json").out)["ranks"] == [2, 4]
    assert real_slm("show", "tiny", "--adapter", PEFT).code == 4


def test_what_the_flags_mean():
    options, load = with_adapter(Options(adapter="a/b"), LoadOptions(adapters={"x": "p"}))
    assert (options.adapter, load.adapters) == ("a/b", {"x": "p", "a/b": "a/b"})
    options, load = with_adapter(Options(adapter="y=a/b"), LoadOptions())
    assert (options.adapter, load.adapters) == ("y", {"y": "a/b"})
    for name in (None, "x", "none"):
        options, load = with_adapter(Options(adapter=name), LoadOptions(adapters={"x": "p"}))
        assert (options.adapter, load.adapters) == (name, {"x": "p"})


def test_a_chat_changes_its_adapter(capsys):
    class Model(fake_slm.FakeModel):
        def describe(self):
            return {"adapters": {"x": {}}}

    asked = []
    chat = Chat(lambda name, options: Model(name), "tiny", Options())
    real = chat.model.events
    chat.model.events = lambda request: asked.append(request.options.adapter) or real(request)
    lines = iter(["hi", "/adapter x", "hi", "/adapter none", "hi", "/adapter y", "/adapter"])
    chat.loop(lambda: next(lines, None) or (_ for _ in ()).throw(EOFError))
    assert asked == [None, "x", "none"]
    said = capsys.readouterr().err
    assert "x answers" in said
    assert "there is no adapter 'y'; it takes one of x, none" in said
    assert "/adapter needs a name" in said
