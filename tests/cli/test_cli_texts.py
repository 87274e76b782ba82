"""Verbs that need a model's texts alone: no weights are fetched for them, and everything else tells what is here."""

from __future__ import annotations

import json
import os
from importlib.resources import files
from pathlib import Path

import pytest

from hub_server import hub_of_the_test
from slmkit.weights.hub.layout import Repository

TINY = Path(str(files("slmkit") / "data" / "tiny"))
PHI = "microsoft/Phi-3.5-mini-instruct"


@pytest.fixture
def server(own_settings, monkeypatch, tmp_path):
    """A hub that hands out the bundled model as Phi-3.5-mini."""
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "no store"))
    with hub_of_the_test(monkeypatch, tmp_path) as server:
        server.add(PHI, {path.name: path.read_bytes() for path in TINY.iterdir()})
        yield server


def test_a_prompt_is_shown_without_fetching_weights(real_slm, server):
    shown = real_slm("render", "phi3.5", "Hi")
    assert shown.out == real_slm("render", "tiny", "Hi").out
    assert shown.err.startswith(
        f"slm: configuration and tokenizer of {PHI} are not here yet, and are enough for this: fetching 0."
    )
    assert not server.gets("model.safetensors")
    n_asked = len(server.gets(""))
    again = real_slm("tokenize", "phi3.5", "Hi", "--offline")
    assert (again.code, again.err, len(server.gets(""))) == (0, "", n_asked)


def test_a_later_run_fetches_the_weights(real_slm, server):
    real_slm("tokenize", "phi3.5", "Hi")
    real_slm("run", "phi3.5", "Hi", "--offline").fails(3, f"of {PHI} only configuration and tokenizer are in the cache")
    real_slm("pull", "phi3.5", "--offline").fails(3, "only configuration and tokenizer")
    done = real_slm("run", "phi3.5", "Hi", "--max-tokens", "1")
    assert done.code == 0
    assert "is here in part: fetching 6." in done.err
    listed = {model["name"]: model for model in json.loads(real_slm("list", "--json").out)["models"]}
    assert listed["phi3.5"]["runs"]


def test_the_list_says_that_the_weights_are_not_here_and_rm_removes_the_rest(real_slm, server, tmp_path):
    real_slm("render", "phi3.5", "Hi")
    listed = {model["name"]: model for model in json.loads(real_slm("list", "--json").out)["models"]}
    assert not listed["phi3.5"]["runs"]
    assert listed["phi3.5"]["problem"].endswith("tokenizer are here; `slm pull phi3.5` fetches the weights")
    assert real_slm("rm", "phi3.5", "--yes").code == 0
    assert not Repository.of(PHI).folder.exists()
    real_slm("render", "phi3.5", "Hi", "--offline").fails(3, "is not in the cache")


def test_what_another_program_put_beside_the_texts_stays(real_slm, server):
    real_slm("render", "phi3.5", "Hi")
    snapshot = Repository.of(PHI).snapshot(server.repositories[PHI].commit)
    (snapshot / "pytorch_model.bin").write_bytes(b"theirs")
    assert real_slm("rm", "phi3.5", "--yes").code == 0
    assert [path.name for path in snapshot.iterdir()] == ["pytorch_model.bin"]


def test_a_whole_model_needs_no_second_fetch_for_its_prompt(real_slm, server):
    real_slm("pull", "-q", "phi3.5")
    n_asked = len(server.gets(""))
    assert real_slm("render", "phi3.5", "Hi").code == 0
    assert len(server.gets("")) == n_asked


def test_a_gguf_file_comes_whole_and_that_is_said(real_slm, server):
    server.add("owner/gguf", {"m-Q4_0.gguf": (Path(__file__).parents[1] / "data/gguf/tiny-Q4_0.gguf").read_bytes()})
    shown = real_slm("tokenize", "owner/gguf", "Hi")
    assert shown.code == 0
    assert "owner/gguf is not here yet, and a GGUF file comes whole: fetching" in shown.err
    assert real_slm("tokenize", "owner/gguf", "Hi", "--offline").code == 0


def test_what_a_killed_pull_left_of_a_commit_is_cleaned_and_that_of_a_running_one_is_not(server):
    repository = Repository.of(PHI)
    repository.folder.mkdir(parents=True)
    stale, fresh = repository.folder / ".ref-1", repository.folder / ".ref-2"
    for path in (stale, fresh):
        path.write_bytes(b"0")
    os.utime(stale, (0, 0))
    repository.remember("main", "0" * 40)
    assert (stale.exists(), fresh.exists()) == (False, True)
    assert repository.commit("main") == "0" * 40
