"""The same model on this machine, where a server has it no longer: only if asked, and always said."""

from __future__ import annotations

import pytest

import slmkit
from recorded_server import Answer, recorded, sse
from slmkit import Message
from slmkit.backends.local_names import local_name
from slmkit.errors import AccessDenied, Busy, ModelRetired, OptionError, RuntimeFailure, Unreachable
from slmkit.events import Chunk
from slmkit.request import Request

CHAT = "POST /v1/chat/completions"
ASKED = {"max_tokens": 8, "temperature": 0.0}
GONE = Answer(410, {"type": "about:blank", "title": "Gone", "status": 410, "detail": "The model 'tiny' has ended."})
CHUNK = {"choices": [{"index": 0, "delta": {"content": "A dog."}, "finish_reason": "stop"}]}


@pytest.fixture
def there(monkeypatch):
    monkeypatch.delenv("SLMKIT_API_KEY", raising=False)
    with recorded() as server:
        server.on("GET /v1/models", Answer(body={"data": [{"id": "tiny"}, {"id": "other"}]}))
        yield server


@pytest.fixture(scope="module")
def expected():
    with slmkit.load("tiny") as model:
        return model.chat("Hi", **ASKED).text


def test_what_is_gone_at_the_first_request_is_answered_here_and_said_once(there, expected):
    there.on(CHAT, GONE)
    told = []
    with slmkit.load(f"openai:{there.url}/v1#tiny", fallback="local", notice=told.append) as model:
        assert not model.describe()["answers_here"]
        assert model.chat("Hi", **ASKED).text == model.chat("Hi", **ASKED).text == expected
        assert model.chat("Hi", top_k=1, max_tokens=3).text  # which the server's terms did not have
        assert model.describe()["name"] == model.name == f"openai:{there.url}/v1#tiny"
        assert model.describe()["answers_here"]
    assert len(told) == 1
    assert told[0].startswith(f"tiny on this machine answers instead of openai:{there.url}/v1#tiny: ")
    assert "has ended" in told[0]
    assert len(there.asked_at("/v1/chat/completions")) == 1


def test_it_is_off_unless_asked_for(there):
    there.on(CHAT, GONE)
    with slmkit.load(f"openai:{there.url}/v1#tiny") as model, pytest.raises(ModelRetired):
        model.chat("Hi")
    with pytest.raises(OptionError, match="fallback is 'cloud'; it takes one of local"):
        slmkit.load("tiny", fallback="cloud")


def test_nobody_there_and_what_is_known_to_be_retired(expected):
    for name in ("openai:http://127.0.0.1:9/v1#tiny", "github:tiny", "ollama:http://127.0.0.1:9#tiny:latest"):
        with pytest.raises((Unreachable, ModelRetired)):
            slmkit.load(name)
        told = []
        with slmkit.load(name, fallback="local", notice=told.append) as model:
            assert model.chat("Hi", **ASKED).text == expected
        assert told[0].startswith("tiny on this machine answers instead of")


def test_without_a_notice_it_is_a_warning(expected):
    with (
        pytest.warns(UserWarning, match="tiny on this machine answers instead of github:tiny"),
        slmkit.load("github:tiny", fallback="local") as model,
    ):
        assert model.chat("Hi", **ASKED).text == expected


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(401, {"error": {"message": "no"}}), AccessDenied),
        (Answer(429, {}, {"Retry-After": "600"}), Busy),
        (sse({"choices": [{"index": 0, "delta": {"content": "A"}}]}, done=False, drops=True), RuntimeFailure),
    ],
)
def test_a_refused_key_a_busy_service_and_a_broken_answer_are_told_as_they_are(there, answer, kind):
    there.on(CHAT, answer)
    told = []
    with (
        slmkit.load(f"openai:{there.url}/v1#tiny", fallback="local", notice=told.append) as model,
        pytest.raises(kind),
    ):
        model.chat("Hi")
    assert told == []


def test_a_model_that_is_none_of_ours_has_no_place_taken(there):
    there.on(CHAT, GONE)
    told = []
    name = f"openai:{there.url}/v1#other"
    with slmkit.load(name, fallback="local", notice=told.append) as model, pytest.raises(ModelRetired):
        model.chat("Hi")
    assert told == [f"{name} is none of the models that are known here, so none can take its place"]


def test_it_changes_nothing_for_a_model_of_this_machine_or_one_that_answers(there, expected):
    with slmkit.load("tiny", fallback="local") as model:
        assert model.chat("Hi", **ASKED).text == expected
    there.on(CHAT, sse(CHUNK))
    with slmkit.load(f"openai:{there.url}/v1#tiny", fallback="local") as model:
        assert model.chat("Hi").text == "A dog."


def test_closing_cancels_the_one_that_took_over(there):
    there.on(CHAT, GONE)
    with slmkit.load(f"openai:{there.url}/v1#tiny", fallback="local", notice=lambda line: None) as model:
        events = model.events(Request((Message("user", "Tell me a story."),)))
        assert any(isinstance(next(events), Chunk) for _ in range(3))
        events.close()
        assert list(events) == []
        assert model.chat("Hi", max_tokens=2).text


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("microsoft/phi-3.5-vision-instruct", "phi3.5-vision"), ("Phi-3.5-MoE-instruct", "phi3.5-moe"),
        ("phi3:mini-128k", "phi3:mini-128k"), ("phi3.5:latest", "phi3.5"), ("gpt-4o", None), ("", None),
    ],
)  # fmt: skip
def test_names_of_services_are_known(name, ours):
    assert local_name(name) == ours
