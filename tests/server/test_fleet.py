"""Several models in one amount of memory, over HTTP: those that fit stay, idle ones go, none is loaded beyond it."""

from __future__ import annotations

import httpx
import pytest
from slow import SlowBackend

from live_server import running
from slmkit.model import Model
from slmkit.options import LoadOptions
from slmkit.server.service import Service
from slmkit.server.settings import ServeOptions

ASK = [{"role": "user", "content": "Hi"}]


@pytest.fixture(autouse=True)
def own_data(tmp_path, monkeypatch):
    monkeypatch.setenv("SLMKIT_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def needed():
    """Bytes that one `tiny` takes with a context of 256."""
    with running(service := Service(("tiny",), ServeOptions(), LoadOptions(ctx=256, memory="100MB"))) as url:
        ask(url, "tiny")
        return held(service)


class SlowService(Service):
    def _open(self, name):
        return Model(SlowBackend(super()._open(name).backend, 0.02))


def serving(factory, names, memory):
    """A server, with the twins of `tiny` that it knows by name."""
    service = factory(names, ServeOptions(), LoadOptions(ctx=256, memory=str(memory)))
    return service, running(service)


def ask(url, model, **fields):
    body = {"model": model, "messages": ASK, "max_tokens": 2} | fields
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)


def twin(url, name):
    assert httpx.post(f"{url}/api/create", json={"model": name, "from": "tiny"}, timeout=60).status_code == 200


def loaded(service):
    return {berth.name for berth in service.fleet.berths}


def held(service):
    facts = [berth.model.describe() for berth in service.fleet.berths]
    return sum(each["weight_bytes"] + each["cache_bytes"] for each in facts)


def test_models_that_were_named_share_the_memory(needed):
    memory = needed * 2
    service, server = serving(Service, ("tiny", "twin"), memory)
    with server as url:
        twin(url, "twin")
        for _ in range(2):
            for name in ("tiny", "twin"):
                assert ask(url, name).status_code == 200
                assert held(service) <= memory
        assert loaded(service) == {"tiny", "twin"}


def test_the_model_that_was_idle_longest_makes_room(needed):
    """The first one may use all of the memory; the cache is what it has beyond its weights."""
    service, server = serving(Service, ("tiny",), needed)
    with server as url:
        twin(url, "twin")
        for name in ("tiny", "twin", "tiny"):
            assert ask(url, name).status_code == 200
            assert loaded(service) == {name}
            assert held(service) <= needed


def test_no_model_is_loaded_beside_one_in_use_that_leaves_no_room(needed):
    service, server = serving(SlowService, ("tiny",), needed)
    with server as url:
        twin(url, "twin")
        body = {"model": "tiny", "messages": ASK, "max_tokens": 200, "stream": True}
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as reply:
            lines = reply.iter_lines()
            next(lines)
            refused = ask(url, "twin")
            assert refused.status_code == 503
            assert "memory" in refused.json()["error"]["message"]
            assert loaded(service) == {"tiny"}
            assert "data: [DONE]" in list(lines)
        assert ask(url, "twin").status_code == 200
        assert loaded(service) == {"twin"}
