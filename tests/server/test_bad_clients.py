"""Clients that speak no HTTP, say nothing, stop reading or vanish: the server answers the others, and keeps nothing."""

from __future__ import annotations

import gc
import json
import socket
import threading
import time
from contextlib import ExitStack, closing, suppress

import httpx
import psutil
import pytest
from slow import SlowService

from live_server import running

HEAD = b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BODY = {"model": "tiny", "max_tokens": 900, "messages": [{"role": "user", "content": "Tell me a story."}]}
PATIENCE_S = 1.0
GONE = (ConnectionResetError, BrokenPipeError)


@pytest.fixture(scope="module")
def service():
    return SlowService(token_s=0.01, client_timeout=PATIENCE_S, max_connections=64)


@pytest.fixture(scope="module")
def url(service):
    with running(service) as url:
        httpx.post(f"{url}/v1/messages", json=BODY | {"max_tokens": 1}, timeout=60)  # the model is there
        yield url


@pytest.fixture
def connect(url):
    """Opens a connection, which is closed with the test."""
    with ExitStack() as open_ones:

        def connect():
            port = int(url.rpartition(":")[2])
            return open_ones.enter_context(closing(socket.create_connection(("127.0.0.1", port), timeout=20)))

        yield connect


@pytest.fixture(autouse=True)
def _it_serves_on(url, service):
    """After each of these tests the server answers, and nothing of it is left."""
    yield
    assert httpx.get(f"{url}/health", timeout=20).status_code == 200
    assert httpx.post(f"{url}/v1/messages", json=BODY | {"max_tokens": 2}, timeout=20).status_code == 200
    assert until(lambda: service.n_under_way == 0)
    assert service.fleet.berths[0].users == 0


def until(is_so, timeout_s=20.0):
    """Whether it becomes so in that time."""
    end = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def rest(client):
    """Everything that the server still sends, until it closes."""
    received = b""
    with suppress(*GONE):
        while data := client.recv(65536):
            received += data
    return received


def is_cut_off(client, sent):
    """Whether the server has closed; asked by sending something, with some time between."""
    time.sleep(0.05)
    try:
        client.sendall(sent)
    except GONE:
        return True
    return False


def request(body=BODY):
    text = json.dumps(body).encode()
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(text) + text


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # a TLS client
        (b"GET\r\n\r\n", 400),
        (b"GET / HTTP/99\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /\x00\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nBroken header\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nA: b\nC: d\x00\r\n\r\n", 400),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
        (HEAD + b"Content-Length: 9" + b"9" * 100 + b"\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked, gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 200_000 + b"\r\n", 431),
    ],
)
def test_what_is_no_http_is_answered_and_ended(connect, sent, status):
    client = connect()
    with suppress(*GONE):
        client.sendall(sent)
    answer = rest(client)
    assert answer == b"" or int(answer.split()[1]) in (status, 400, 413)
    if len(sent) < 10_000:
        assert answer
        assert "error" in json.loads(answer.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize(
    "chunk", [b"zz\r\nhello\r\n", b"5\r\nhelloX", b"-5\r\nhello\r\n", b"fffffffffffffffffffffff\r\n"]
)
def test_broken_chunks_end_the_connection(connect, chunk):
    client = connect()
    client.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk)
    rest(client)


def test_both_lengths_at_once_are_no_way_to_hide_a_second_request(connect):
    """Request smuggling: what a proxy in front takes for a body must not be answered here as a request."""
    client = connect()
    hidden = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    client.sendall(HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden)
    answer = rest(client)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b'"object":"list"' not in answer


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe{}",
        b'{"model": "\xc3\x28"}',
        b'{"model": "tiny", "max_tokens": 1, "messages": [{"role": "user", "content": "\xed\xa0\x80"}]}',
        b"{",
        b"",
        b"[" * 100_000,
        b'{"max_tokens": ' + b"9" * 5000 + b"}",
        b"null",
        b'{"temperature": NaN, "model": "tiny", "max_tokens": 1, "messages": [{"role": "user", "content": "a"}]}',
        b'{"model": "tiny", "max_tokens": 1, "messages": [{"role": "user", "content": "\\ud800"}]}',
    ],
)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions", "/api/chat"])
def test_a_body_that_is_no_json_is_400_in_the_shape_of_the_api(url, path, body):
    reply = httpx.post(url + path, content=body, headers={"content-type": "application/json"}, timeout=20)
    assert reply.status_code in (400, 422), reply.text
    assert "error" in reply.json()


def test_a_connection_that_says_nothing_is_closed(connect):
    began = time.monotonic()
    assert rest(connect()) == b""
    assert time.monotonic() - began < 10 * PATIENCE_S


def test_a_head_that_trickles_in_does_not_keep_the_connection(connect):
    """The time is for the whole head: a byte now and then does not prolong it."""
    client = connect()
    client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
    began = time.monotonic()
    assert until(lambda: is_cut_off(client, b"x"))
    assert time.monotonic() - began < 10 * PATIENCE_S


def test_a_second_request_that_never_comes_does_not_keep_the_connection(connect):
    client = connect()
    client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET ")
    assert rest(client).startswith(b"HTTP/1.1 200")


def test_a_body_that_trickles_in_is_408(connect):
    client = connect()
    client.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n")
    began = time.monotonic()
    received = b""
    client.settimeout(0.05)
    while time.monotonic() - began < 10 * PATIENCE_S:
        try:
            client.sendall(b" ")
            data = client.recv(65536)
        except TimeoutError:
            continue
        except GONE:
            break
        if not data:
            break
        received += data
    assert received.startswith(b"HTTP/1.1 408")


def test_two_requests_sent_at_once_are_answered_in_order(connect):
    client = connect()
    client.sendall(
        b"GET /v1/version HTTP/1.1\r\nHost: localhost\r\n\r\n"
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    answer = rest(client)
    assert answer.index(b"release") < answer.index(b'"ok"')


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("is_reset", [True, False])
def test_who_vanishes_cancels_within_a_step(connect, service, stream, is_reset):
    client = connect()
    before = service.backend.n_steps
    client.sendall(request(BODY | {"stream": stream}))
    assert until(lambda: service.backend.n_steps > before + 3)
    if is_reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    client.close()
    assert until(lambda: service.n_under_way == 0)
    after = service.backend.n_steps
    time.sleep(0.2)
    assert service.backend.n_steps <= after + 1
    assert after < before + 200


def test_who_does_not_read_is_cut_off(connect):
    """Answers wait in the connection's buffers until these are full; then the reader has its time."""
    client = connect()
    asked = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    client.sendall(asked * 1000)  # far more than buffers hold
    assert until(lambda: is_cut_off(client, asked))


def test_a_thousand_connections_leave_it_serving(connect, url):
    silent = [connect() for _ in range(500)]
    halves = [connect() for _ in range(500)]
    for half in halves:
        with suppress(*GONE):  # it may have given way to a newer one
            half.sendall(HEAD)
    began = time.monotonic()
    with httpx.Client(base_url=url, timeout=20) as client:
        for _ in range(5):
            assert client.post("/v1/messages", json=BODY | {"max_tokens": 2}).status_code == 200
    assert time.monotonic() - began < 10
    assert len(silent) == 500


def test_where_every_connection_is_answering_a_new_one_is_503(url, connect):
    with running(SlowService(token_s=0.02, max_connections=4)) as url:
        port = int(url.rpartition(":")[2])
        with ExitStack() as open_ones:
            busy = [open_ones.enter_context(closing(socket.create_connection(("127.0.0.1", port)))) for _ in range(4)]
            for client in busy:
                client.sendall(request(BODY | {"stream": True}))
            for client in busy:
                assert client.recv(100).startswith(b"HTTP/1.1 200")
            reply = httpx.post(f"{url}/v1/messages", json=BODY, timeout=20)
            assert reply.status_code == 503
            assert reply.json()["error"]["type"] == "overloaded_error"
            assert int(reply.headers["retry-after"]) >= 1
        assert until(lambda: httpx.get(f"{url}/health", timeout=20).status_code == 200)


def test_clients_that_come_and_go_leave_nothing_behind(url, service):
    """Threads, file descriptors and memory after 100 of them are those of after 20."""
    process = psutil.Process()
    before = process.num_fds()  # other tests of this process may hold some

    def churn(n):
        def one(k):
            body = BODY | {"stream": k % 2 == 0, "max_tokens": 8}
            try:
                with httpx.stream("POST", f"{url}/v1/messages", json=body, timeout=0.1 if k % 3 == 0 else 20) as reply:
                    for _, _ in zip(range(k % 5), reply.iter_raw(), strict=False):
                        pass
            except httpx.TimeoutException:
                pass

        for start in range(0, n, 10):
            clients = [threading.Thread(target=one, args=(k,)) for k in range(start, start + 10)]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
        assert until(lambda: service.n_under_way == 0)
        assert until(lambda: process.num_fds() <= before + 20)
        gc.collect()
        return process.num_threads(), process.num_fds(), process.memory_info().rss

    first, last = churn(20), churn(100)
    assert last[0] <= first[0] + 20  # the pool keeps as many as ever worked at once: ten clients, with two things each
    assert last[1] <= first[1] + 4
    assert last[2] - first[2] < 20 * 2**20
