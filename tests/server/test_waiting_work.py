"""Work that takes long keeps nobody else waiting, and ends with whoever asked for it."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import httpx
import pytest
from scripted import ScriptedBackend, ScriptedService

from live_server import running
from slmkit.server.service import seconds
from slmkit.server.settings import ServeOptions


class Embedding(ScriptedBackend):
    """Takes a while for each text, and counts them."""

    def __init__(self):
        super().__init__()
        self.n_embedded, self.text_s = 0, 0.05

    def embed(self, texts):
        for _ in texts:
            self.n_embedded += 1
            time.sleep(self.text_s)
        return super().embed(texts)


@pytest.fixture
def backend():
    return Embedding()


def test_many_embeddings_under_way_leave_a_thread_to_everybody_else(backend):
    """As many as Python has threads for by itself, 32 at most, once kept every other request waiting."""
    backend.text_s = 1.0
    with running(ScriptedService(backend)) as url:
        asks = [threading.Thread(target=embed, args=(url, ["a"] * 4)) for _ in range(40)]
        for ask in asks:
            ask.start()
        while backend.n_embedded < 5:
            time.sleep(0.01)
        began = time.monotonic()
        assert httpx.get(f"{url}/v1/models/scripted", timeout=60).status_code == 200
        assert time.monotonic() - began < 2
        for ask in asks:
            ask.join()


@pytest.mark.parametrize("path", ["/v1/embeddings", "/api/embed"])
def test_who_goes_away_ends_the_embedding_of_many_texts(backend, path):
    with running(ScriptedService(backend)) as url:
        with suppress(httpx.ReadTimeout):
            httpx.post(url + path, json={"model": "scripted", "input": ["a"] * 200}, timeout=0.3)
        time.sleep(1)
        n = backend.n_embedded
        time.sleep(0.5)
        assert 0 < n == backend.n_embedded < 40


def test_the_deadline_holds_for_embeddings_too(backend):
    with running(ScriptedService(backend, ServeOptions(deadline=0.2))) as url:
        reply = embed(url, ["a"] * 200)
    assert reply.status_code == 408
    assert "of 200 texts" in reply.json()["error"]["message"]


@pytest.mark.parametrize(("text", "wanted"), [("0" * 39 + "5m", 300.0), ("9" * 400, -1.0)])
def test_a_time_is_read_to_its_end(text, wanted):
    assert seconds(text, "keep_alive") == wanted


def embed(url, texts):
    return httpx.post(f"{url}/v1/embeddings", json={"model": "scripted", "input": texts}, timeout=60)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "a " * 5_000_000}]}),
        ("/v1/embeddings", {"input": "a " * 5_000_000}),
        ("/api/embed", {"input": "a " * 5_000_000}),
    ],
)
def test_a_text_that_cannot_fit_is_refused_before_its_tokens_are_counted(base_url, path, fields):
    """10 MB of it took a minute, which nobody could end, not even by stopping the server."""
    began = time.monotonic()
    reply = httpx.post(base_url + path, json={"model": "tiny"} | fields, timeout=120)
    assert reply.status_code == 400, reply.text
    assert "over the context" in reply.text
    assert time.monotonic() - began < 10
