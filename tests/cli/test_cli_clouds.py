"""Models of servers and clouds on the command line: what is listed of them, and the fallback to this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import slmkit
from recorded_server import Answer, recorded, sse
from slmkit.cli.answer import context_text

KEYS = ("OPENAI", "AZURE", "NVIDIA", "NIM", "OLLAMA")


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith(KEYS):
            monkeypatch.delenv(name)


def slm(*argv):
    """`slm` itself, in a process of its own."""
    command = [sys.executable, "-m", "slmkit", *argv]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)


def test_what_is_set_is_listed_and_no_key_is(monkeypatch):
    with recorded() as there:
        there.on("GET /api/tags", Answer(body={"models": [{"name": "phi3.5:latest"}]}))
        monkeypatch.setenv("OLLAMA_HOST", there.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
        monkeypatch.setenv("AZURE_INFERENCE_ENDPOINT", "https://r.services.ai.azure.com/models")
        out = slm("backends", "--json").stdout
    states = {row["prefix"]: row["state"] for row in json.loads(out)}
    assert states["ollama"] == f"a server with 1 model answers at {there.url}"
    assert states["openai"] == "OPENAI_API_KEY is set, for https://api.openai.com/v1"
    assert states["azure"] == "AZURE_INFERENCE_ENDPOINT is set, and AZURE_INFERENCE_CREDENTIAL is not"
    assert states["nim"].startswith("neither NIM_BASE_URL")
    assert states["github"].startswith("retired by GitHub on 2026-07-30")
    assert "secret" not in out


def test_a_model_of_a_server_answers():
    with recorded() as there:
        chunk = {"choices": [{"index": 0, "delta": {"content": "A dog."}, "finish_reason": "stop"}]}
        there.on("POST /v1/chat/completions", sse(chunk))
        answer = slm("run", f"openai:{there.url}/v1#m", "Hi", "--max-tokens", "5")
    assert (answer.returncode, answer.stdout) == (0, "A dog.\n")
    assert there.asked[-1].body["max_tokens"] == 5


def test_a_context_that_a_server_does_not_tell_is_no_large_number():
    assert context_text(4096) == "context 4096 tokens"
    with recorded() as there, slmkit.load(f"openai:{there.url}/v1#m") as model:
        assert context_text(model.context) == "context not told"


def test_the_fallback_is_said_and_off_unless_asked_for():
    refused = slm("run", "github:tiny", "Hi")
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "GitHub Models was retired on 2026-07-30" in refused.stderr
    answer = slm("run", "github:tiny", "Hi", "--fallback", "local", "--max-tokens", "5")
    assert answer.returncode == 0
    assert answer.stdout.strip()
    assert "slm: tiny on this machine answers instead of github:tiny" in answer.stderr
