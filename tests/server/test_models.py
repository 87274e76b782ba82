"""The models that a server lists, over HTTP."""

from __future__ import annotations


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
