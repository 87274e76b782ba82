"""`slm ps`, `slm stop`, and `slm run` through a server that has the model loaded already."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

import slmkit
from live_server import running
from slmkit.options import LoadOptions
from slmkit.server.service import Service
from slmkit.server.settings import ServeOptions
from vision_models import write_vision_model

TABLE = Path(__file__).parents[1] / "data" / "images" / "exceltable.png"


@pytest.fixture
def server(monkeypatch):
    with running(Service(("tiny",), ServeOptions(), LoadOptions(ctx=512))) as url:
        monkeypatch.setenv("SLMKIT_HOST", url)
        yield url


def test_without_a_server_it_is_one_sentence(real_slm, monkeypatch):
    monkeypatch.setenv("SLMKIT_HOST", "127.0.0.1:1")
    for argv in (("ps",), ("stop", "tiny")):
        real_slm(*argv).fails(2, "no server answers at http://127.0.0.1:1;", "slm serve", "SLMKIT_HOST")


def test_a_server_that_refuses_is_not_taken_for_none(real_slm, monkeypatch, tmp_path):
    (tmp_path / "keys").write_text("right\n")
    service = Service(("tiny",), ServeOptions(api_keys=str(tmp_path / "keys")), LoadOptions(ctx=512))
    with running(service) as url:
        monkeypatch.setenv("SLMKIT_HOST", url)
        for key in ("", "wrong"):
            monkeypatch.setenv("SLMKIT_API_KEY", key)
            for argv in (("ps",), ("stop", "tiny")):
                real_slm(*argv).fails(2, f"the server at {url} refuses", "API key", "SLMKIT_API_KEY")
        monkeypatch.setenv("SLMKIT_API_KEY", "right")
        assert real_slm("ps").code == 0
        service.is_draining = True
        real_slm("ps").fails(5, f"the server at {url} refuses", "being stopped")


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
    for flags in (("--ctx", "600"), ("--kernels", "auto"), ("-n", "2"), ("--parse-special",), ("--ignore-eos",),
                  ("--logprobs", "1"), ("--num-crops", "2"), ("--adapter", "none"), ("--speculate", "0")):  # fmt: skip
        assert "server" not in real_slm(*asked, *flags).err
    row = real_slm("ps").out.splitlines()[1].split()
    assert (row[0], row[3]) == ("tiny", "512")
    real_slm("stop", "phi3").fails(3, "phi3", "tiny")
    assert real_slm("stop", "tiny").out == f"tiny is unloaded from {server}\n"
    assert len(real_slm("ps").out.splitlines()) == 1


def test_run_puts_images_to_a_server_that_sees(real_slm, monkeypatch, tmp_path):
    pytest.importorskip("PIL")
    folder, place = write_vision_model(tmp_path / "seeing"), LoadOptions(ctx=1024, quantize="none")
    asked = ("run", "seeing", "what", "--image", str(TABLE), "--temperature", "0", "--max-tokens", "6")
    with running(Service((str(folder),), ServeOptions(), place)) as url:
        monkeypatch.setenv("SLMKIT_HOST", url)
        httpx.post(f"{url}/api/generate", json={"model": "seeing"}, timeout=60).raise_for_status()
        there = real_slm(*asked)
        facts = json.loads(real_slm(*asked, "--json", "-q").out)
        assert real_slm(*asked, "--num-crops", "1").code == 3  # which is not the server's, and no name of this machine
    with slmkit.load(folder, **vars(place)) as model:
        expected = model.chat("what", images=[TABLE], temperature=0, max_tokens=6)
    assert there.out == expected.text + "\n"
    assert "which answers" in there.err
    assert facts["usage"]["prompt_tokens"] == expected.choices[0].usage.prompt_tokens > 300


def test_a_full_context_is_said_with_its_exit_code(real_slm, server):
    httpx.post(f"{server}/api/generate", json={"model": "tiny"}).raise_for_status()
    there = real_slm("run", "tiny", "a dog " * 300, "-q")
    there.fails(2, "the prompt has ", "a context of 512")
    assert there.err == real_slm("run", "tiny", "a dog " * 300, "-q", "--ctx", "512").err
