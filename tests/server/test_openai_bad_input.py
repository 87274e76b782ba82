"""What nobody should send to OpenAI's endpoints: the right status, an error that says what to do, and more service."""

from __future__ import annotations

import itertools
import json
import time

import pytest
from scripted import ScriptedBackend, ScriptedService

from slmkit.backends.native import NativeBackend

constrained = pytest.mark.skipif(not NativeBackend.capabilities.constraint, reason="the engine has no constraints yet")

CHAT, TEXT, EMBED, RESPOND = "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"
GOOD = {
    CHAT: {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2},
    TEXT: {"model": "tiny", "prompt": "Hi", "max_tokens": 2},
    EMBED: {"model": "tiny", "input": "Hi"},
    RESPOND: {"model": "tiny", "input": "Hi", "max_output_tokens": 2},
}
JSON = {"Content-Type": "application/json"}
EVERYWHERE = pytest.mark.parametrize("path", GOOD)


def check(reply, status=400, param=None, code=None):
    """The error, in OpenAI's shape."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert len(error["message"]) < 1000
    assert (error["param"], error["code"]) == (param, code)
    return error["message"]


@pytest.fixture
def http(http):
    """A client of a server that must still answer afterwards."""
    yield http
    assert http.post(CHAT, json=GOOD[CHAT]).status_code == 200


@EVERYWHERE
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "no JSON"), (b"{'a': 1}", "no JSON"), (b"[1,]", "no JSON"), (b'{"model": NaN}', "NaN"),
        (b'{"model": -Infinity}', "Infinity"), (b'{"x": {"y": [NaN]}}', "NaN"), (b"\xff\xfe{}", "byte 0 is no UTF-8"),
        (b'{"model": "\xc3"}', "UTF-8"), (b'{"model": "\\ud800"}', "surrogate"), (b"\xef\xbb\xbf{}", "BOM"),
        (b'{"n": ' + b"9" * 5000 + b"}", "digits"), (b"[" * 100_000, "deep"), (b'{"n": 1, "n": 2}', "twice"),
        (b'{"model": "tiny"} x', "no JSON"), (b"\0", "no JSON"),
    ],
)  # fmt: skip
def test_what_is_no_json(http, path, body, words):
    assert words in check(http.post(path, content=body, headers=JSON), code="invalid_json")


@EVERYWHERE
@pytest.mark.parametrize("body", [b"[]", b"null", b'"x"', b"5", b"true"])
def test_json_that_is_no_object(http, path, body):
    assert "object" in check(http.post(path, content=body, headers=JSON), code="invalid_value")


@EVERYWHERE
def test_a_body_that_is_missing_or_not_called_json(http, path):
    assert "no body" in check(http.post(path))
    assert "Content-Type" in check(http.post(path, content=json.dumps(GOOD[path])))
    assert "Content-Type" in check(http.post(path, data={"model": "tiny"}))


@EVERYWHERE
def test_a_model_that_is_not_here(http, path):
    for name in ("nosuch", "../tiny", "/etc/passwd", "a" * 10_000, "tiny\0", "ﬁ"):
        reply = http.post(path, json={**GOOD[path], "model": name})
        check(reply, 404, "model", "model_not_found")


@EVERYWHERE
def test_a_model_that_is_missing_or_no_text(http, path):
    without = {name: value for name, value in GOOD[path].items() if name != "model"}
    check(http.post(path, json=without), param="model", code="missing_required_parameter")
    for wrong in (5, ["tiny"], {"id": "tiny"}, True, ""):
        check(http.post(path, json={**without, "model": wrong}), param="model", code="invalid_value")


@EVERYWHERE
@pytest.mark.parametrize("name", ["cache_prompt", "temprature", "__proto__", "a.b", "é", "x" * 300])
def test_a_field_that_is_not_known(http, path, name):
    check(http.post(path, json={**GOOD[path], name: 1}), param=name, code="unsupported_parameter")


@EVERYWHERE
def test_null_is_left_out(http, path):
    reply = http.post(path, json={**GOOD[path], "user": None, "suffix": None, "previous_response_id": None})
    assert reply.status_code == 200 or path == EMBED


@pytest.mark.parametrize("path", [CHAT, TEXT, RESPOND])
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *itertools.product(["temperature", "top_p"], ["hot", True, -1, 10**400, [], {}]),
        *itertools.product(["top_k", "seed"], ["1", 1.5, -(2**64), True]), ("seed", 2**64),
        *itertools.product(["stream"], ["yes", 1]),
        *itertools.product(["stop"], [5, "", {}]),
        *itertools.product(["keep_alive"], ["soon", "5 fortnights"]),
        ("min_p", 2), ("repetition_penalty", 0), ("adapter", "none at all"), ("store", True), ("metadata", 5),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_type_or_out_of_bounds(http, path, name, wrong):
    body = json.dumps({**GOOD[path], name: wrong})
    code = "invalid_value"
    message = check(http.post(path, content=body, headers=JSON), param=name, code=code)
    assert name in message


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_too_long_says_both_numbers(http, stream):
    for path, change in (
        (CHAT, {"messages": [{"role": "user", "content": "a " * 1500}]}),
        (TEXT, {"prompt": "a " * 1500}),
        (TEXT, {"prompt": [5] * 1500}),
        (RESPOND, {"input": "a " * 1500}),
    ):
        message = check(
            http.post(path, json={**GOOD[path], **change, "stream": stream}), code="context_length_exceeded"
        )
        assert "150" in message
        assert "1024" in message
    message = check(
        http.post(CHAT, json={**GOOD[CHAT], "max_tokens": 10**30, "stream": stream}), code="context_length_exceeded"
    )
    assert "1024" in message


@pytest.mark.parametrize(
    ("messages", "param", "code"),
    [
        ("Hi", "messages", "invalid_value"), ({}, "messages", "invalid_value"), ([], "messages", "invalid_value"),
        ([5], "messages.0", "invalid_value"), ([{}], "messages.0.role", "missing_required_parameter"),
        ([{"role": "user", "content": [5]}], "messages.0.content.0", "invalid_value"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages.0.content.0.text", "missing_required_parameter"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": "data:,"}]}],
         "messages.0.content.0.image_url", "invalid_value"),
        ([{"role": "user", "content": "x", "tool_calls": []}], "messages.0.tool_calls", "unsupported_parameter"),
        ([{"role": "tool", "content": "x"}], "messages.0.tool_call_id", "missing_required_parameter"),
        ([{"role": "tool", "content": "x", "tool_call_id": "1"}], None, None),
    ],
)  # fmt: skip
def test_messages_that_are_none(http, messages, param, code):
    check(http.post(CHAT, json={**GOOD[CHAT], "messages": messages}), param=param, code=code)


@pytest.mark.parametrize("url", ["", "x", "/etc/passwd", "file:///etc/passwd", "data:image/png;base64,!", "data:"])
def test_an_image_that_is_none(http, url):
    message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}
    assert http.post(CHAT, json={**GOOD[CHAT], "messages": [message]}).status_code == 400


@constrained
@pytest.mark.parametrize(
    "change",
    [
        {"guided_regex": "("}, {"guided_regex": "(?=a)"}, {"guided_grammar": "start: nothing"}, {"guided_grammar": ""},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "wizard"}}}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "#/$defs/nowhere"}}}},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": 5}}}]},
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_a_constraint_that_is_none(http, change, stream):
    assert http.post(CHAT, json={**GOOD[CHAT], **change, "stream": stream}).status_code == 400


def test_what_a_get_is_not_for(http):
    assert "POST" in check(http.get(CHAT), 405)


def test_a_client_that_goes_away_cancels_its_answer(serve):
    backend = ScriptedBackend(["word "] * 1_000_000)
    http = serve(ScriptedService(backend))
    with http.stream("POST", CHAT, json={**GOOD[CHAT], "model": "scripted", "stream": True}) as reply:
        assert len(list(itertools.islice(reply.iter_lines(), 9))) == 9
    deadline = time.monotonic() + 10
    while not backend.n_closed and time.monotonic() < deadline:
        time.sleep(0.01)
    assert backend.n_closed == 1
