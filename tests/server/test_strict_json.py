"""Every endpoint that reads JSON reads it as strictly as it is defined: nothing in a body is guessed or dropped."""

from __future__ import annotations

import pytest

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
