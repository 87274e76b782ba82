"""slm doctor: what is found, what to do, and nothing that should stay secret."""

from __future__ import annotations

import json

import pytest

from slmkit.catalog import check_software
from slmkit.catalog.checks import Check

NAMES = ["processor", "cores", "kernels", "self-test", "memory", "slmkit's cache", "hub's cache", "compiler", "python",
         "extras", "ollama store", "variables", "settings"]  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The self-test is tested where it lives."""
    monkeypatch.setattr(check_software, "check_bundled_model", lambda load: Check("self-test", "ok", "it speaks"))


def test_every_matter_has_a_line_and_a_sound_machine_exits_with_0(real_slm):
    outcome = real_slm("doctor")
    assert outcome.code == 0, outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 120
    for name in NAMES:
        assert f" {name} " in outcome.out
    assert outcome.out.endswith("no problem found\n")


def test_the_same_for_programs(real_slm):
    facts = json.loads(real_slm("doctor", "--json").out)
    assert facts["ok"] is True
    assert [check["name"] for check in facts["checks"]] == NAMES
    assert all({"name", "state", "found", "advice"} <= set(check) for check in facts["checks"])


def test_a_problem_exits_with_1_and_says_what_to_do(real_slm, monkeypatch):
    broken = Check("self-test", "problem", "it stammers", "install slmkit again")
    monkeypatch.setattr(check_software, "check_bundled_model", lambda load: broken)
    outcome = real_slm("doctor")
    assert outcome.code == 1
    assert "-> install slmkit again" in outcome.out
    assert outcome.out.endswith("1 problem found\n")


def test_a_config_file_that_makes_no_sense_is_a_problem_and_no_crash(real_slm, monkeypatch, tmp_path):
    (tmp_path / "my.toml").write_text("max_token = 3")
    monkeypatch.setenv("SLMKIT_CONFIG", str(tmp_path / "my.toml"))
    outcome = real_slm("doctor")
    assert outcome.code == 1
    assert "max_tokens" in outcome.out


def test_options_that_are_set_are_named(real_slm, monkeypatch):
    monkeypatch.setenv("SLMKIT_KERNELS", "scalar")
    assert "set there or by variables: kernels\n" in real_slm("doctor").out


def test_a_misspelt_variable_is_a_problem(real_slm, monkeypatch):
    monkeypatch.setenv("SLMKIT_SEEED", "1")
    outcome = real_slm("doctor")
    assert outcome.code == 1
    assert "SLMKIT_SEEED" in outcome.out


@pytest.mark.parametrize("name", ["HF_TOKEN", "HUGGINGFACE_HUB_TOKEN", "HTTPS_PROXY", "https_proxy", "HF_ENDPOINT"])
def test_a_secret_is_named_and_never_shown(real_slm, monkeypatch, name):
    monkeypatch.setenv(name, "http://ada:hf_secret@127.0.0.1")
    monkeypatch.setenv("HF_HOME", "/somewhere/hf")
    for arguments in ((), ("--json",)):
        out = real_slm("doctor", *arguments).out
        assert name in out
        assert "hf_secret" not in out
        assert "/somewhere/hf" in out


def test_the_network_is_left_alone_unless_asked_for(real_slm, monkeypatch):
    asked = []
    monkeypatch.setattr(
        check_software, "check_network", lambda url: asked.append(url) or Check("network", "ok", "answers")
    )
    assert real_slm("doctor").code == 0
    assert asked == []
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert real_slm("doctor", "--network").code == 0
    assert asked == ["http://127.0.0.1:1"]
