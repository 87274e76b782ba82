"""Every endpoint that reads JSON reads it as strictly as it is defined: nothing in a body is guessed or dropped."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from slmkit.server.anthropic import schema as anthropic
from slmkit.server.bodies import parse
from slmkit.server.ollama.schema import ChatBody
from slmkit.server.openai.responses_schema import Respond
from slmkit.server.openai.schema import Chat, Completion, Embedding

BODIES = {
    "a number that JSON has not": (b'{"model": "tiny", "temperature": NaN}', "NaN"),
    "a key twice": (b'{"model": "tiny", "model": "other"}', "twice"),
    "half a character": (b'{"model": "tiny", "x": "\\ud800"}', "surrogate"),
    "no UTF-8": (b'{"model": "\xff"}', "UTF-8"),
    "too deep": (b'{"model": ' + b"[" * 100_000, "deep"),
    "a number beyond all floats": (b'{"model": "tiny", "x": {"y": [-1e999]}}', "-1e999"),
    "too many digits": (b'{"model": ' + b"9" * 5000 + b"}", "digits"),
    "no JSON": (b"{'model': 'tiny'}", "no JSON"),
}


def message_of(reply):
    """In the shape of each API."""
    error = reply.json()["error"]
    return error if isinstance(error, str) else error["message"]


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_that_is_no_strict_json_is_400_at_every_endpoint(http, kind):
    body, word = BODIES[kind]
    paths = http.get("/openapi.json").json()["paths"]
    reading = [path for path, methods in paths.items() if "requestBody" in methods.get("post", {})]
    assert {"/api/chat", "/api/create", "/v1/messages", "/v1/responses"} <= set(reading)
    for path in reading:
        reply = http.post(path, content=body, headers={"Content-Type": "application/json"})
        assert reply.status_code == 400, path
        assert word in message_of(reply), (path, reply.text)


ONE_FAULT_EACH = [
    ("/v1/chat/completions", Chat, "messages", "{}"),
    ("/v1/completions", Completion, "prompt", "{}"),
    ("/v1/embeddings", Embedding, "input", "[{}]"),
    ("/v1/responses", Respond, "input", "1"),
    ("/v1/messages", anthropic.Body, "messages", '{"role": "user", "content": [{}]}'),
    ("/api/chat", ChatBody, "messages", "{}"),
]


@pytest.mark.parametrize(("path", "schema", "field", "value"), ONE_FAULT_EACH)
def test_a_list_of_faults_is_read_up_to_the_first(http, path, schema, field, value):
    """Each was looked for and described: 300 KB of them kept the server from everything else for ten seconds."""
    body = f'{{"model": "tiny", "{field}": [{",".join([value] * 60_000)}]}}'
    reply = http.post(path, content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == 400
    assert f"{field}.0" in message_of(reply)
    with pytest.raises(ValidationError) as refused:
        schema.model_validate(parse(body.encode()))
    assert refused.value.error_count() <= 10  # one of each form that the field can have, not one of each value


def test_a_body_of_more_values_than_are_read_is_400_and_a_text_with_as_many_commas_is_not(http):
    body = {"model": "tiny", "prompt": [5] * 400_000}
    assert "300000 values" in message_of(http.post("/v1/completions", json=body))
    assert "at least" in message_of(http.post("/v1/completions", json=body | {"prompt": '", \\' * 400_000}))
