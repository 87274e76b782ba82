"""slm pull, and verbs that pull when they need to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from hub_server import Fault, hub_of_the_test

TINY = Path(str(files("slmkit") / "data" / "tiny"))
PHI = "microsoft/Phi-3.5-mini-instruct"


@pytest.fixture
def server(own_settings, monkeypatch, tmp_path):
    """A hub that hands out the bundled model as Phi-3.5-mini, and a repository of GGUF files."""
    with hub_of_the_test(monkeypatch, tmp_path) as server:
        server.add(PHI, {path.name: path.read_bytes() for path in TINY.iterdir()})
        server.add("owner/gguf", {f"m-{q}.gguf": q.encode() * 250_000 for q in ("Q8_0", "Q4_K_M", "IQ2_S")})
        yield server


def test_a_pull_says_what_and_where_and_how_to_run_it_and_then_that_it_is_complete(real_slm, server, tmp_path):
    first = real_slm("pull", "phi3.5")
    assert first.code == 0
    assert first.err == (
        f"slm: {PHI} is not here yet: fetching 6.7 MB into {tmp_path / 'hub'}; "
        "Ctrl-C stops, and the same command goes on where it stopped\n"
    )
    folder = tmp_path / "hub" / "models--microsoft--Phi-3.5-mini-instruct" / "snapshots"
    commit = server.repositories[PHI].commit
    assert first.out == (
        f"{PHI}: complete, 6.7 MB, every checksum right\n  in {folder / commit}\n  run it with: slm run phi3.5\n"
    )
    second = real_slm("pull", "phi3.5")
    assert (second.code, second.err) == (0, "")
    assert "complete; nothing had to be fetched" in second.out
    offline = real_slm("pull", "phi3.5", "--offline")
    assert offline.out == f"{PHI}: complete\n  in {folder / commit}\n"


def test_the_same_facts_for_programs(real_slm, server):
    done = real_slm("pull", "phi3.5", "--revision", "main", "--json", "-q")
    assert (done.code, done.err) == (0, "")
    facts = json.loads(done.out)
    commit = server.repositories[PHI].commit
    assert facts.pop("path").endswith(commit)
    n = sum(path.stat().st_size for path in TINY.iterdir())
    assert facts == {"name": PHI, "commit": commit, "bytes": n, "fetched_bytes": n}
    assert json.loads(real_slm("pull", "phi3.5", "--offline", "--json").out)["name"] == PHI


def test_the_list_of_gguf_files_has_sizes_and_marks_the_default(real_slm, server):
    shown = real_slm("pull", "owner/gguf", "--list")
    assert shown.out.splitlines() == [
        "owner/gguf:IQ2_S      1.2 MB",
        "owner/gguf:Q4_K_M     1.5 MB  (taken when none is named)",
        "owner/gguf:Q8_0       1.0 MB",
    ]
    assert shown.err.startswith("slm: without a quantization it is the first of Q4_K_M, ")
    listed = json.loads(real_slm("pull", "owner/gguf", "--list", "--json").out)["choices"]
    assert [(row["name"], row["default"]) for row in listed] == [
        ("owner/gguf:IQ2_S", False), ("owner/gguf:Q4_K_M", True), ("owner/gguf:Q8_0", False),
    ]  # fmt: skip
    assert not server.gets("/resolve/")
    whole = json.loads(real_slm("pull", "phi3.5", "--list", "--json").out)["choices"]
    assert [(row["name"], "model.safetensors" in row["files"]) for row in whole] == [(PHI, True)]


def test_one_of_them_is_pulled_by_its_quantization(real_slm, server):
    assert "run it with: slm run owner/gguf:q8_0" in real_slm("pull", "owner/gguf:q8_0").out
    assert server.sent("m-Q8_0.gguf") == 1_000_000
    assert not server.gets("Q4_K_M")


def test_what_cannot_be_run_is_fetched_only_by_force(real_slm, server):
    server.add("a/moe", {"config.json": b'{"model_type": "nosuch"}', "model.safetensors": b"x"})
    real_slm("pull", "-q", "a/moe").fails(4, "'nosuch'", "cannot run")
    forced = real_slm("pull", "-q", "a/moe", "--force")
    assert forced.code == 0
    assert "run it with" not in forced.out


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["tiny"], 2, ["comes with slmkit", "slm run tiny"]),
        (["phi35"], 3, ["did you mean phi3.5?"]),
        (["./folder"], 3, ["there is no file or folder './folder'"]),
        (["ollama-store:"], 2, ["has no name behind it"]),
        (["ollama-store:phi3.5"], 2, ["ollama pull phi3.5"]),
        (["ollama:phi3"], 2, ["another runtime", "ollama:"]),
        (["phi3.5@v1", "--revision", "v2"], 2, ["leave out --revision"]),
        (["owner/gguf:Q5_0"], 3, ["has no 'Q5_0'", "Q8_0 (1.0 MB)"]),
        (["owner/nothing"], 3, ["no repository owner/nothing"]),
        (["phi3.5", "--revision", "v9"], 3, ["no revision 'v9'", "it has 'main'"]),
        (["phi3.5", "--offline"], 3, [f"{PHI} is not in the cache", "leave out --offline"]),
        (["phi3.5", "--revision", "../x"], 2, ["is no revision"]),
    ],
)
def test_what_cannot_be_pulled_is_one_sentence(real_slm, server, argv, code, words):
    real_slm("pull", *argv).fails(code, *words)


def test_faults_have_their_exit_codes(real_slm, server):
    server.faults["config.json"] = [Fault(status=403, code="GatedRepo")]
    real_slm("pull", "-q", "phi3.5").fails(2, "set HF_TOKEN", f"{server.url}/{PHI}")
    server.faults["model.safetensors"] = [Fault(wrong=True)]
    real_slm("pull", "-q", "phi3.5").fails(5, "checksum is wrong")


def test_offline_is_also_a_variable_and_a_switch_of_the_hub_s_client(real_slm, server, monkeypatch):
    for name in ("SLMKIT_OFFLINE", "HF_HUB_OFFLINE"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "1")
            real_slm("tokenize", "phi3.5", "hi").fails(3, "nothing is fetched offline", "`slm pull phi3.5`")
            real_slm("run", "phi3.5", "hi").fails(3, "nothing is fetched offline")
    for verb in ("run", "render", "tokenize"):
        real_slm(verb, "phi3.5", "hi", "--offline").fails(3, "nothing is fetched offline")
    assert not server.requests


def test_a_model_is_pulled_when_it_is_run_and_runs_offline_afterwards(server):
    def slm(*argv: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "slmkit", "run", "phi3.5", "Hello", "--max-tokens", "5", *argv]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=dict(os.environ))

    first = slm()
    assert (first.returncode, "fetching 6.7 MB" in first.stderr) == (0, True)
    asked = len(server.requests)
    second = slm("--offline")
    assert (second.returncode, second.stdout) == (0, first.stdout)
    assert "fetching" not in second.stderr
    assert len(server.requests) == asked


def test_a_path_needs_no_fetching(real_slm, server, tmp_path):
    (tmp_path / "my x.gguf").touch()
    path = str(tmp_path / "my x.gguf")
    real_slm("pull", path).fails(2, "is a path on this machine and needs no fetching", f"slm run '{path}'")
    assert not server.requests
