"""Models that people name: made from a Modelfile, run, listed, shown, removed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tiny

PEFT = str(Path(__file__).parents[1] / "data" / "lora")


@pytest.fixture
def modelfile(tmp_path, monkeypatch):
    """Writes the Modelfile of the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLMKIT_DATA_DIR", str(tmp_path / "data"))
    return lambda text: (tmp_path / "Modelfile").write_text(text)


def test_a_named_model_is_made_run_listed_shown_and_removed(real_slm, modelfile, places):
    modelfile('from tiny\nparameter temperature 0\nparameter num_predict 5\nSYSTEM """You are\na dog."""\n'
              'MESSAGE user "Hi"\nMESSAGE assistant Wuff\nLICENSE mine\n')  # fmt: skip
    made = real_slm("create", "rex")
    assert (made.code, made.out) == (0, "made rex from tiny\n  run it with: slm run rex\n")
    answer = json.loads(real_slm("run", "rex", "Who are you?", "--json", "-q").out)
    assert answer["usage"]["completion_tokens"] == 5
    rendered = real_slm("render", "rex", "Who are you?").out
    assert "You are\na dog." in rendered
    assert rendered.index("Hi") < rendered.index("Wuff") < rendered.index("Who are you?")
    assert "a dog" not in real_slm("run", "rex", "Hi", "--system", "Be a cat.", "--json", "-q").err
    assert "rex" in [line.split()[0] for line in real_slm("list").out.splitlines() if line.strip()]
    shown = json.loads(real_slm("show", "rex", "--json").out)
    assert (shown["name"], shown["parent"], shown["system"], shown["examples"]) == ("rex", "tiny", "You are\na dog.", 2)
    assert shown["licence"]["text"] == "mine"
    assert shown["defaults"]["max_tokens"] == 5
    modelfile("FROM rex\nPARAMETER num_predict 3\n")
    assert real_slm("create", "rex2").code == 0
    assert real_slm("rm", "rex", "--yes").out == "removed rex\n"
    real_slm("run", "rex", "Hi").fails(3, "rex")
    answer = json.loads(real_slm("run", "rex2:latest", "Who are you?", "--json", "-q").out)
    assert answer["usage"]["completion_tokens"] == 3
    assert "You are\na dog." in real_slm("render", "REX2", "Hi").out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["no FROM"]),
        ("# FROM tiny\n", ["no FROM"]),
        ("FROM tiny\n\nCOPY x", ["line 3", "'COPY'", "PARAMETER"]),
        ("FROM tiny\nFROM tiny", ["line 2", "second FROM"]),
        ("FROM", ["line 1", "nothing behind"]),
        ('FROM ""', ["line 1", "nothing behind"]),
        ('FROM tiny\nSYSTEM """x\ny\n', ["line 2", "closes"]),
        ("FROM tiny\nPARAMETER top_kk 1", ["line 2", "top_kk"]),
        ("FROM tiny\nPARAMETER temperature hot", ["line 2", "temperature", "hot"]),
        ("FROM tiny\nPARAMETER temperature", ["line 2", "name and a value"]),
        ("FROM tiny\nMESSAGE boss hi", ["line 2", "'boss hi'", "assistant"]),
        ("FROM tiny\nMESSAGE user", ["line 2", "text"]),
        ("FROM tiny\nRENDERER qwen", ["line 2", "RENDERER"]),
        ("FROM tiny\nTEMPLATE {{ .Foo }}", ["TEMPLATE in line 2", "{{ .Foo }}"]),
        ("FROM ./nosuch.gguf", ["nosuch.gguf", "Modelfile"]),
        ("FROM tiny\nADAPTER ./nosuch", ["nosuch"]),
        ("FROM tiny\nSYSTEM a\x00b", ["line 2", "control characters"]),
    ],
)
def test_a_modelfile_at_fault_is_told_with_its_line(real_slm, modelfile, text, words):
    modelfile(text)
    real_slm("create", "x").fails(2, *words)
    assert real_slm("rm", "x", "--yes").code == 3


@pytest.mark.parametrize(
    "name", ["../x", "a/b/c", ".x", "", "x y", "tiny", "phi3.5", "ollama:x", "x.gguf", "x/../y", "ü"]
)
def test_a_name_that_leads_elsewhere_or_is_taken_is_refused(real_slm, modelfile, name, tmp_path):
    modelfile("FROM tiny")
    real_slm("create", name).fails(2)
    assert not (tmp_path / "data").exists()


def test_a_modelfile_that_is_missing_or_no_text_is_one_sentence(real_slm, modelfile, tmp_path):
    modelfile("FROM tiny")
    real_slm("create", "x", "-f", "none").fails(2, "none is missing; check the path")
    (tmp_path / "bin").write_bytes(b"FROM tiny\n\xff\xfe\xff")
    real_slm("create", "x", "-f", "bin").fails(2, "no UTF-8")
    (tmp_path / "win").write_bytes('FROM tiny\r\nSYSTEM """a\r\nb"""\r\n'.encode("utf-16"))
    assert real_slm("create", "x", "-f", "win").code == 0


def test_what_a_modelfile_says_can_be_written_down_again():
    from slmkit.weights.ollama.modelfile import parse

    text = 'FROM tiny\nPARAMETER stop "a b"\nPARAMETER stop " c"\nPARAMETER top_k 3\n'
    text += 'SYSTEM """say "x"\nand y"""\nMESSAGE user hi\n'
    text += 'SYSTEM """say "x"\nand y"""\nMESSAGE user hi\n'
    assert parse(parse(text).text()) == parse(text)


def test_a_damaged_file_of_a_name_is_one_sentence(real_slm, modelfile, tmp_path):
    modelfile("FROM tiny")
    assert real_slm("create", "x").code == 0
    (tmp_path / "data" / "models" / "x.json").write_text("{}")
    real_slm("run", "x", "hi").fails(4, "x.json", "damaged")
    assert real_slm("list").code == 0


def test_an_adapter_and_a_template_go_with_the_name(real_slm, modelfile, tmp_path):
    folder = tiny.write_model(tmp_path / "base")
    modelfile(f"FROM ./base\nADAPTER {PEFT}\nTEMPLATE {{{{ .Prompt }}}}\n")
    assert real_slm("create", "led").code == 0
    asked = ("hi", "--max-tokens", "8", "--ignore-eos", "--quiet")
    led = real_slm("complete", "led", *asked)
    assert (led.code, led.err) == (0, "")
    assert led.out == real_slm("complete", str(folder), "--adapter", PEFT, *asked).out
    alone = real_slm("complete", "led", "--adapter", "none", *asked).out
    assert alone == real_slm("complete", str(folder), *asked).out != led.out
    assert real_slm("render", "led", "hi").out.strip() == "hi"
    real_slm("export", "gguf", "led", "out.gguf").fails(2, "led", "export")
    modelfile(f"FROM tiny\nADAPTER {PEFT}\n")
    real_slm("create", "misled").fails(4, "another model")
