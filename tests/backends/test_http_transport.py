"""The transport of all servers: retries, cancelling, TLS, proxies, and that no key is ever shown."""

from __future__ import annotations

import logging
import shutil
import ssl
import subprocess
import threading
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest

from recorded_server import Answer, recorded
from slmkit.backends.answering import Answering, Cancel
from slmkit.backends.faults import judge
from slmkit.backends.http import Server, said
from slmkit.errors import (
    AccessDenied,
    Busy,
    ContextExceeded,
    ModelNotFound,
    ModelRetired,
    RequestError,
    RuntimeFailure,
    Unreachable,
)

SECRET = "sk-secret-1234"
OK = Answer(body={"answer": 1})


@pytest.fixture
def there():
    with recorded() as server:
        yield server


def server_of(there, patience_s=10.0, **how):
    headers = {"Authorization": f"Bearer {SECRET}"}
    return Server(there.url, judge("model m", "the key is that of KEY"), headers, SECRET, patience_s=patience_s, **how)


@pytest.mark.parametrize(
    "first", [Answer(429, {}, {"Retry-After": "0"}), Answer(500, b"oh"), Answer(503, {}), Answer(529, b"")]
)
def test_what_passes_is_asked_for_again(there, first):
    there.on("POST /x", first, OK)
    assert server_of(there).ask("/x", {"a": 1}) == {"answer": 1}
    assert [each.body for each in there.asked] == [{"a": 1}] * 2


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 405, 408, 410, 413, 422])
def test_nothing_else_is(there, status):
    there.on("POST /x", Answer(status, {}), OK)
    with pytest.raises((RequestError, RuntimeFailure)):
        server_of(there).ask("/x", {})
    assert len(there.asked) == 1


def test_tries_end(there):
    there.on("POST /x", Answer(500, {"error": {"message": "out of order"}}, {"Retry-After": "0"}))
    with pytest.raises(RuntimeFailure, match="out of order"):
        server_of(there).ask("/x", {})
    assert len(there.asked) == 4


def test_an_answer_that_has_begun_is_never_asked_for_again(there):
    there.on("POST /x", Answer(body=b"data: 1\n", drops=True), OK)
    lines = []
    with pytest.raises(RuntimeFailure, match="broke off"), server_of(there).open("/x", {}) as reply:
        lines.extend(reply.lines())
    assert len(there.asked) == 1


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_who_asks_for_more_patience_than_there_is_is_told_at_once(there, form):
    at = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=120), usegmt=True)
    there.on("POST /x", Answer(429, {}, {"Retry-After": "120" if form == "seconds" else at}), OK)
    with pytest.raises(Busy) as busy:
        server_of(there).ask("/x", {})
    assert 100 < busy.value.retry_after_s <= 120
    assert len(there.asked) == 1


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (401, {"error": {"message": "Incorrect API key provided: " + SECRET}}, AccessDenied, "KEY"),
        (403, {"title": "Forbidden", "detail": "Authorization failed"}, AccessDenied, "Forbidden|failed"),
        (404, {"detail": "Not Found"}, ModelNotFound, "has no model m"),
        (410, {"type": "about:blank", "title": "Gone", "detail": "at its end"}, ModelRetired, "at its end"),
        (413, b"<html>too large</html>", RequestError, "not take a request that large"),
        (429, {"error": {"message": "slow down"}}, Busy, "slow down"),
        (400, {"error": {"message": "no", "code": "context_length_exceeded"}}, ContextExceeded, "^no$"),
        (400, {"object": "error", "message": "This model's maximum context length is 9 tokens"}, ContextExceeded, "9"),
        (422, {"detail": [{"loc": ["body", "seed"], "msg": "no"}]}, RequestError, "seed"),
        (302, b"", RuntimeFailure, "answer itself"),
        (500, b"plain words", RuntimeFailure, "plain words"),
    ],
)
def test_what_a_server_refuses_is_one_sentence_of_the_right_kind(there, status, body, kind, words):
    there.on("POST /x", Answer(status, body))
    with pytest.raises(kind, match=words) as failed:
        server_of(there, patience_s=0).ask("/x", {})
    assert type(failed.value) is kind
    assert SECRET not in str(failed.value)


def test_a_redirect_is_told_and_never_followed_with_the_key(there):
    with recorded() as other:
        there.on("POST /x", Answer(307, b"", {"Location": f"{other.url}/x"}))
        with pytest.raises(RuntimeFailure, match=other.url):
            server_of(there).ask("/x", {})
        assert other.asked == []


def test_nobody_there():
    with pytest.raises(Unreachable, match=r"no server answers at http://127\.0\.0\.1:9 .*; check the address"):
        Server("http://127.0.0.1:9", judge("m", "")).ask("/x")


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b"", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_object(there, body):
    there.on("GET /x", Answer(body=body))
    with pytest.raises(RuntimeFailure, match="no JSON object"):
        server_of(there).ask("/x")


def test_lines_end_at_line_feeds_alone(there):
    there.on("GET /x", Answer(body="a\u2028b\x85c\r\nd".encode()))
    with server_of(there).open("/x") as reply:
        assert [line.decode() for line in reply.lines()] == ["a\u2028b\x85c\r", "d"]


def test_a_line_without_an_end_is_bounded(there):
    there.on("GET /x", Answer(body=b"x" * (9 << 20)))
    with pytest.raises(RuntimeFailure, match="8 MiB"), server_of(there).open("/x") as reply:
        list(reply.lines())
    with pytest.raises(RuntimeFailure, match="8 MiB"):
        server_of(there).ask("/x")


def events_of(server):
    def make(cancel: Cancel):
        with server.open("/x", {}, cancel=cancel) as reply:
            yield from reply.lines()

    return Answering(make)


def read_in_a_thread(events):
    got = []
    thread = threading.Thread(target=lambda: got.append(list(events)))
    thread.start()
    return thread, got


def until(is_so):
    end = time.monotonic() + 20
    while not is_so() and time.monotonic() < end:
        time.sleep(0.005)
    assert is_so()


def test_closing_ends_a_wait_for_the_first_byte_and_the_request(there):
    there.on("POST /x", Answer(hold=True))
    events = events_of(server_of(there))
    thread, got = read_in_a_thread(events)
    until(lambda: there.asked)
    events.close()
    thread.join(20)
    assert got == [[]]
    assert there.gone.acquire(timeout=20)


def test_closing_ends_the_wait_between_two_tries(there):
    there.on("POST /x", Answer(503, {}, {"Retry-After": "8"}), OK)
    server = server_of(there)
    cancel = Cancel()
    ended = threading.Event()

    def ask():
        with pytest.raises(Exception, match=r"^$"):  # Cancelled has no words
            server.ask("/x", {}, cancel=cancel)
        ended.set()

    threading.Thread(target=ask).start()
    until(lambda: there.asked)
    began = time.monotonic()
    cancel.set()
    assert ended.wait(5)
    assert time.monotonic() - began < 5
    assert len(there.asked) == 1


def test_what_is_cancelled_already_is_not_sent(there):
    cancel = Cancel()
    cancel.set()
    with pytest.raises(Exception, match=r"^$"):
        server_of(there).ask("/x", cancel=cancel)
    assert there.asked == []


def test_no_key_in_errors_logs_or_reprs(there, caplog):
    caplog.set_level(logging.DEBUG)
    there.on("POST /x", OK)
    there.on("POST /no", Answer(401, {"error": {"message": f"unknown key {SECRET}"}}))
    there.on("POST /broken", Answer(body=f"{SECRET} is no JSON".encode()))
    server = server_of(there)
    server.ask("/x", {})
    shown = [repr(server), str(server), repr(server._client), caplog.text]
    for path in ("/no", "/broken"):
        with pytest.raises((AccessDenied, RuntimeFailure)) as failed:
            server.ask(path, {})
        shown += [str(failed.value), repr(failed.value)]
    assert there.asked[0].headers["Authorization"] == f"Bearer {SECRET}"
    assert not any(SECRET in text for text in [*shown, caplog.text])


def test_proxies_of_the_environment_are_used_but_not_for_this_machine(there, monkeypatch):
    monkeypatch.setenv("http_proxy", there.url)
    there.on("GET http://models.example/v1/models", OK)
    elsewhere = Server("http://models.example/v1", judge("m", ""))
    assert elsewhere.ask("/models") == {"answer": 1}
    assert [each.path for each in there.asked] == ["http://models.example/v1/models"]
    with recorded() as here:
        here.on("GET /x", OK)
        assert server_of(here).ask("/x") == {"answer": 1}
    monkeypatch.setenv("no_proxy", "models.example")
    with pytest.raises(Unreachable):
        Server("http://models.example/v1", judge("m", ""), connect_s=1.0).ask("/models")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    folder = tmp_path_factory.mktemp("tls")
    made = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=here", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key",
        "-out", folder / "crt",
    ]  # fmt: skip
    subprocess.run(made, check=True, capture_output=True)
    return folder / "crt", folder / "key"


def test_tls_is_checked_and_authorities_can_be_named(certificate, monkeypatch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with recorded(context) as there:
        there.on("GET /x", OK)
        with pytest.raises(Unreachable, match="SSL_CERT_FILE"):
            server_of(there).ask("/x")
        assert there.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        assert server_of(there).ask("/x") == {"answer": 1}
        there.on("POST /x", Answer(hold=True))
        events = events_of(server_of(there))
        until(lambda: len(there.asked) == 2)
        events.close()
        assert there.gone.acquire(timeout=20)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        # Ollama 0.34 and 0.40, on a prompt that is too long: llama.cpp's own words in a text
        (b'{"error":"{\\"error\\":{\\"code\\":400,\\"message\\":\\"request (2622 tokens) exceeds the available '
         b'context size (512 tokens), try increasing it\\",\\"type\\":\\"exceed_context_size_error\\"}}"}',
         ("request (2622 tokens) exceeds the available context size (512 tokens), try increasing it",
          "exceed_context_size_error")),
        (b'{"error": "model \'x\' not found"}', ("model 'x' not found", "")),
        (b'{"error": {"message": "no", "type": "t", "code": "c"}}', ("no", "c")),
        (b'{"error": {"message": "no", "code": 400}, "code": "outer"}', ("no", "outer")),
        (b'{"type": "about:blank", "title": "Gone", "status": 410, "detail": "ended"}', ("ended", "about:blank")),
        (b'{"statusCode": 401, "message": "Unauthorized."}', ("Unauthorized.", "")),
        (b"no JSON", ("no JSON", "")), (b"<html>", ("", "")), (b"[]", ("", "")), (b"", ("", "")), (b"7", ("", "")),
    ],
)  # fmt: skip
def test_words_are_found_in_every_shape_of_a_refusal(body, words):
    assert said(body) == words
