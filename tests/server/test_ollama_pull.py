"""/api/pull from a hub on this machine, asked by Ollama's own client."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

import ollama
import pytest

from hub_server import Fault, hub_of_the_test
from live_server import running
from slmkit.options import LoadOptions
from slmkit.server.service import Service
from slmkit.server.settings import ServeOptions

TINY = Path(str(files("slmkit") / "data" / "tiny"))
PHI = "microsoft/Phi-3.5-mini-instruct"
GREEDY = {"temperature": 0, "num_predict": 8}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """It hands out the bundled model as Phi-3.5-mini."""
    monkeypatch.setenv("SLMKIT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "none"))
    with hub_of_the_test(monkeypatch, tmp_path) as hub:
        hub.add(PHI, {path.name: path.read_bytes() for path in TINY.iterdir()})
        yield hub


@pytest.fixture
def client(hub):
    with running(Service(("tiny",), ServeOptions(), LoadOptions(ctx=256))) as url, ollama.Client(host=url) as client:
        yield client


@pytest.mark.parametrize("name", ["phi3.5", "phi3.5:latest", f"hf.co/{PHI}"])
def test_what_was_pulled_answers(client, name):
    with pytest.raises(ollama.ResponseError, match="pull"):
        client.generate(PHI, "Hi", options=GREEDY)
    steps = list(client.pull(name, stream=True))
    assert steps[0].status == "pulling manifest"
    assert steps[-1].status == "success"
    sizes = {step.digest or step.status: (step.completed, step.total) for step in steps if step.total}
    assert sizes
    assert all(completed == total for completed, total in sizes.values())
    assert {"tiny:latest", "phi3.5:latest"} == {model.model for model in client.list().models}
    ours = client.generate("tiny", "Hi", options=GREEDY).response
    for each in (name, PHI, "phi3.5", "phi-3.5-mini"):
        assert client.generate(each, "Hi", options=GREEDY).response == ours
    assert len(client.ps().models) == 2  # whatever it is called, it is loaded once


def test_a_model_made_of_another_is_not_taken_for_it(client):
    client.pull("phi3.5")
    client.create("pirate", from_="phi3.5", system="Talk like a pirate.")
    for name in ("pirate", PHI):
        client.generate(name, "Hi", options=GREEDY)
    assert {model.model for model in client.ps().models} == {"pirate:latest", "phi3.5:latest"}


def test_a_pull_that_fails_says_so_and_the_next_one_goes_on(client, hub):
    hub.faults["model.safetensors"] = [Fault(times=None, drop_after=100_000)]
    with pytest.raises(ollama.ResponseError):
        list(client.pull("phi3.5", stream=True))
    with pytest.raises(ollama.ResponseError):
        client.generate(PHI, "Hi", options=GREEDY)
    hub.faults.clear()
    assert client.pull("phi3.5").status == "success"
    size = os.path.getsize(TINY / "model.safetensors")
    assert hub.sent("model.safetensors") < 2 * size  # not from its beginning
    assert client.generate(PHI, "Hi", options=GREEDY).response


def test_a_repository_that_is_not_there_is_404(client):
    with pytest.raises(ollama.ResponseError) as caught:
        client.pull("nobody/nothing")
    assert caught.value.status_code == 404
    assert "nobody/nothing" in caught.value.error


@pytest.mark.parametrize("name", ["/etc/passwd", "hf.co//etc/passwd", "../x", "./x.gguf"])
def test_a_pull_names_no_path(client, name):
    with pytest.raises(ollama.ResponseError) as caught:
        client.pull(name)
    assert (caught.value.status_code, "is a path, and no request names one" in caught.value.error) == (404, True)
