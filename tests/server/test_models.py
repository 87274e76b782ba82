"""The models that a server lists, over HTTP."""

from __future__ import annotations

import pytest


def test_the_bundled_model_is_listed(http):
    listed = http.get("/v1/models").json()
    assert listed["object"] == "list"
    assert {"tiny"} <= {model["id"] for model in listed["data"]}


def test_a_model_that_is_not_here_is_404_with_openais_error(http):
    reply = http.get("/v1/models/nosuch")
    assert reply.status_code == 404
    error = reply.json()["error"]
    assert error["code"] == "model_not_found"
    assert error["param"] == "model"
    assert "nosuch" in error["message"]


def test_no_request_reaches_a_path(http):
    for name in ("/etc/passwd", "../../etc", "./x.gguf", "C:/x.gguf"):
        assert http.get(f"/v1/models/{name}").status_code == 404


def test_a_place_that_is_not_there_says_so(http):
    reply = http.get("/v1/nothing")
    assert reply.status_code == 404
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    assert "/openapi.json" in reply.json()["error"]["message"]
    assert "did you mean" not in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/completions", "/v1/completions"),
        ("/v1/v1/messages", "/v1/messages"),
        ("/v1/api/chat", "/api/chat"),
    ],
)
def test_a_base_url_with_too_little_or_too_much_is_told_the_right_place(http, asked, meant):
    reply = http.post(asked, json={})
    assert reply.status_code == 404
    assert f"did you mean {meant}?" in reply.text


def test_there_is_no_page_with_scripts_of_another_address(http):
    """FastAPI's would run them where the playground keeps the key."""
    for path in ("/docs", "/redoc"):
        assert http.get(path, headers={"accept": "text/html"}).status_code == 404
