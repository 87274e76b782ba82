"""`slm ps`, `slm stop`, and `slm run` through a server that has the model loaded already."""

from __future__ import annotations

import json

import httpx
import pytest

from live_server import running
from slmkit.options import LoadOptions
from slmkit.server.service import Service
from slmkit.server.settings import ServeOptions


@pytest.fixture
def server(monkeypatch):
    with running(Service(("tiny",), ServeOptions(), LoadOptions(ctx=512))) as url:
        monkeypatch.setenv("SLMKIT_HOST", url)
        yield url


def test_without_a_server_it_is_one_sentence(real_slm, monkeypatch):
    monkeypatch.setenv("SLMKIT_HOST", "127.0.0.1:1")
    for argv in (("ps",), ("stop", "tiny")):
        real_slm(*argv).fails(2, "no server answers", "slm serve")


def test_ps_and_stop_and_run_go_to_the_server(real_slm, server):
    assert real_slm("ps").out.split() == ["NAME", "MEMORY", "CONTEXT", "UNTIL"]
    alone = real_slm("run", "tiny", "Tell me a story.", "--temperature", "0", "--max-tokens", "9")
    assert "server" not in alone.err  # nothing is loaded there
    assert list(json.loads(real_slm("ps", "--json").out)) == ["server", "models"]
    assert real_slm("stop", "tiny").code == 3
    httpx.post(f"{server}/api/generate", json={"model": "tiny"}).raise_for_status()
    asked = ("run", "tiny", "Tell me a story.", "--temperature", "0", "--max-tokens", "9")
    there = real_slm(*asked)
    assert there.out == alone.out
    assert f"loaded in the server at {server}" in there.err
    facts = json.loads(real_slm(*asked, "--json", "-q").out)
    assert (facts["reason"], facts["usage"]["completion_tokens"]) == ("length", 9)
    for flags in (("--ctx", "600"), ("--kernels", "auto"), ("-n", "2"), ("--parse-special",), ("--ignore-eos",)):
        assert "server" not in real_slm(*asked, *flags).err
    row = real_slm("ps").out.splitlines()[1].split()
    assert (row[0], row[3]) == ("tiny", "512")
    real_slm("stop", "phi3").fails(3, "phi3", "tiny")
    assert real_slm("stop", "tiny").out == f"tiny is unloaded from {server}\n"
    assert len(real_slm("ps").out.splitlines()) == 1
