import json
import os
from dataclasses import fields

import pytest

from slmkit.cli.config_file import config_path
from slmkit.options import LoadOptions, Options
from slmkit.server.settings import ServeOptions


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Writes a config file."""

    def write(text: str):
        path = tmp_path / "my.toml"
        path.write_text(text)
        monkeypatch.setenv("SLMKIT_CONFIG", str(path))
        return path

    return write


@pytest.fixture
def options(slm):
    """The Options a request gets."""
    return lambda *argv: slm("run", "tiny", "hi", *argv).model.requests[0].options


def test_every_option_is_a_flag_a_variable_and_a_key(slm, config, monkeypatch):
    texts = {"logit_bias": "5=-1", "ignore_eos": "true", "stop": "a", "stop_ids": "7", "quantize": "q8", "cache": "f16",
             "kernels": "scalar", "max_connections": "9", "fallback": "local"}  # fmt: skip
    config("")
    for f in (*fields(Options), *fields(LoadOptions), *fields(ServeOptions)):
        text = texts.get(f.name, "1")
        flag = "--" + f.name.replace("_", "-")
        by_flag = [flag] if f.metadata["kind"] is bool else [flag, text]
        monkeypatch.setenv("SLMKIT_" + f.name.upper(), text)
        from_variable = json.loads(slm("config", "--json").out)["options"][f.name]
        monkeypatch.delenv("SLMKIT_" + f.name.upper())
        from_flag = json.loads(slm("config", "--json", *by_flag).out)["options"][f.name]
        path = config(f"{f.name} = {toml(from_flag['value'])}")
        from_file = json.loads(slm("config", "--json").out)["options"][f.name]
        assert from_flag["value"] == from_variable["value"] == from_file["value"] is not None
        sources = [from_flag["source"], from_variable["source"], from_file["source"]]
        assert sources == [flag, "SLMKIT_" + f.name.upper(), str(path)]
        config("")


def toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {json.dumps(number)}" for key, number in value.items()) + "}"
    return json.dumps(value)


def test_a_flag_goes_before_a_variable_before_the_file_before_the_checkpoint(options, config, monkeypatch):
    assert options() == Options()
    config("top_k = 3")
    assert options() == Options(top_k=3)
    monkeypatch.setenv("SLMKIT_TOP_K", "4")
    assert options() == Options(top_k=4)
    assert options("--top-k", "5") == Options(top_k=5)
    monkeypatch.setenv("SLMKIT_TOP_K", "")
    assert options() == Options(top_k=3)


def test_a_flag_can_take_back_what_the_file_turns_on(options, config):
    config("ignore_eos = true")
    assert options("--no-ignore-eos").ignore_eos is False


def test_repeated_flags_are_collected(options):
    given = options(
        "--stop", "a,b", "--stop", "\n", "--stop-ids=1", "--stop-ids=2", "--logit-bias=5=-1", "--logit-bias=6=.5"
    )
    assert given == Options(stop=("a,b", "\n"), stop_ids=(1, 2), logit_bias={5: -1.0, 6: 0.5})


def test_variables_hold_lists_where_commas_are_no_text(options, monkeypatch):
    monkeypatch.setenv("SLMKIT_STOP", "a,b")
    monkeypatch.setenv("SLMKIT_STOP_IDS", "1,2")
    monkeypatch.setenv("SLMKIT_LOGIT_BIAS", "5=-1,6=2")
    assert options() == Options(stop=("a,b",), stop_ids=(1, 2), logit_bias={5: -1.0, 6: 2.0})


def test_load_options_reach_the_model(slm):
    given = slm("run", "tiny", "hi", "--threads", "2", "--ctx=99", "--quantize", "q8", "--kernels", "scalar").model
    assert LoadOptions(**given.load_options) == LoadOptions(threads=2, ctx=99, quantize="q8", kernels="scalar")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--temperature", "-1"], ["--temperature is -1.0", "from 0 to 100"]),
        (["--temperature", "nan"], ["--temperature is nan", "finite"]),
        (["--temperature", "hot"], ["--temperature is 'hot'", "a number"]),
        (["--top-p", "2"], ["--top-p is 2.0", "from 0 to 1"]),
        (["--top-k", "1.5"], ["--top-k is '1.5'", "a whole number"]),
        (["--max-tokens", "0"], ["--max-tokens is 0", "1 or more"]),
        (["--stop", ""], ["--stop holds an empty text"]),
        (["--logit-bias", "12"], ["--logit-bias is", "pairs of a token id and a number"]),
        (["--quantize", "q5"], ["--quantize is 'q5'", "q4, q8, none"]),
        (["--seed", "18446744073709551616"], ["--seed is 18446744073709551616"]),
    ],
)
def test_a_bad_flag_is_refused_before_the_model_is_opened(slm, flags, words):
    done = slm("run", "tiny", "hi", *flags)
    done.fails(2, *words)
    assert not done.models


def test_a_bad_value_names_where_it_came_from(slm, config, monkeypatch):
    path = config("top_p = 2")
    slm("run", "tiny", "hi").fails(2, f"top_p in {path} is 2")
    assert slm("run", "tiny", "hi", "--top-p", "0.5").code == 0
    monkeypatch.setenv("SLMKIT_TOP_P", "3")
    slm("run", "tiny", "hi").fails(2, "SLMKIT_TOP_P is 3.0")
    monkeypatch.setenv("SLMKIT_TOP_P", "1")
    monkeypatch.setenv("SLMKIT_IGNORE_EOS", "maybe")
    slm("run", "tiny", "hi").fails(2, "SLMKIT_IGNORE_EOS is 'maybe'; it takes true or false")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("temprature = 1", ["'temprature'", "did you mean temperature?"]),
        ("[run]\ntop_p = 1", ["'run'"]),
        ("top_p = ", ["not valid TOML", "end of document"]),
        ("a = " + "[" * 5000, ["not valid TOML"]),
        ("stop = 1.5", ["stop in", "1.5", "text"]),
        ("stop = [1]", ["stop in", "text"]),
        ("ignore_eos = 1", ["ignore_eos in", "true or false"]),
        ("logit_bias = 5", ["logit_bias in", "pairs"]),
        ("max_tokens = " + "9" * 5000, ["not valid TOML"]),
        ("a." * 40000 + "a = 1", ["larger than"]),
    ],
)
def test_a_broken_config_file_is_one_sentence(slm, config, text, words):
    path = config(text)
    slm("run", "tiny", "hi").fails(2, str(path), *words)


def test_a_config_file_that_is_missing_unreadable_or_no_file_is_refused(slm, monkeypatch, tmp_path):
    assert slm("run", "tiny", "hi").code == 0  # the default place is empty
    for path in (tmp_path / "none.toml", tmp_path):
        monkeypatch.setenv("SLMKIT_CONFIG", str(path))
        slm("run", "tiny", "hi").fails(2, str(path), "missing or not an ordinary file")
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'stop = "\xe4"')
    monkeypatch.setenv("SLMKIT_CONFIG", str(latin))
    slm("run", "tiny", "hi").fails(2, "not UTF-8")


def test_config_shows_each_option_with_its_source(slm, config):
    path = config("seed = 3")
    lines = slm("config", "--top-k", "4").out.splitlines()
    assert lines[0] == f"config file: {path}"
    assert ["seed", "3", str(path)] in [line.split() for line in lines]
    assert ["top_k", "4", "--top-k"] in [line.split() for line in lines]
    assert ["top_p", "-"] in [line.split() for line in lines]


def test_a_config_file_may_begin_with_a_byte_order_mark(options, monkeypatch, tmp_path):
    """As Windows editors write it."""
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xef\xbb\xbfseed = 5")
    monkeypatch.setenv("SLMKIT_CONFIG", str(path))
    assert options().seed == 5


def test_a_config_file_in_a_folder_that_is_closed_to_us_is_one_sentence(slm, monkeypatch):
    path, lstat = str(config_path()), os.lstat

    def closed(name, **settings):
        if str(name) == path:
            raise PermissionError(13, "Permission denied")
        return lstat(name, **settings)

    monkeypatch.setattr(os, "lstat", closed)
    slm("config").fails(2, path, "Permission denied", "check the path")


@pytest.mark.parametrize("value", ["9" * 5000, "x" * 5000, "-" + "1" * 4000])
def test_a_value_of_thousands_of_letters_is_not_repeated_whole(slm, value):
    outcome = slm("run", "tiny", "hi", f"--max-tokens={value}")
    outcome.fails(2, "--max-tokens is", "whole number")
    assert len(outcome.err) < 300


def test_the_bounds_of_the_seed_are_written_as_people_write_them(slm):
    slm("run", "tiny", "hi", "--seed", "-1").fails(2, "from 0 to 2^64-1")


def test_a_variable_that_is_no_option_is_refused_and_not_passed_over(slm, monkeypatch):
    monkeypatch.setenv("SLMKIT_MAX_TOKEN", "5")
    slm("run", "tiny", "hi").fails(2, "SLMKIT_MAX_TOKEN", "did you mean SLMKIT_MAX_TOKENS?")
