"""Who gets in: names, pages, keys, rates and sizes, against a running server."""

from __future__ import annotations

import socket
import time

import httpx
import pytest

from live_server import running
from slmkit.errors import OptionError
from slmkit.options import LoadOptions
from slmkit.server.hosts import checked_origin
from slmkit.server.keys import VARIABLE, Keys, keys_of, require_guarded
from slmkit.server.limits import MOST_CALLERS, Rate
from slmkit.server.service import Service
from slmkit.server.settings import ServeOptions

PAGE = "https://page.example"
KEY, OTHER = "first-key-0123456789", "second-key-0123456789"


def serving(**options):
    return running(Service(("tiny",), ServeOptions(**options), LoadOptions(ctx=256)))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A server with everything on: two keys, a page, a name, small bodies."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(f"# two of them\n{KEY}\n\n  {OTHER}\n")
    options = {
        "api_keys": str(file),
        "allow_origins": (PAGE,),
        "allow_hosts": ("slm.example", "*.lan"),
        "max_body_mb": 1,
    }
    with serving(**options) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def key(value=KEY):
    return {"authorization": f"Bearer {value}"}


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "8.8.8.8", "",
                                  "[::1].evil.example", "[localhost]evil"])  # fmt: skip
def test_a_name_that_is_not_the_servers_is_403(http, host):
    """What a page of another site reaches by making its own name point here."""
    reply = http.get("/v1/models", headers={"host": host})
    assert reply.status_code == 403
    assert "--allow-hosts" in reply.json()["error"]["message"]


@pytest.mark.parametrize("host", ["localhost", "LocalHost:1234", "127.0.0.1", "[::1]:8000", "127.9.9.9", "localhost."])
def test_the_servers_own_names_are_answered(http, host):
    assert http.get("/v1/models", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"), [("slm.example:80", 200), ("a.lan", 200), ("lan", 403), ("xslm.example", 403)]
)
def test_names_that_were_allowed_are_answered(guarded, host, status):
    assert guarded.get("/v1/models", headers={"host": host, **key()}).status_code == status


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:1", "http://127.0.0.1", "file://", "%"]
)
def test_a_page_of_another_origin_is_403_for_a_simple_post_too(http, origin):
    """A POST of text/plain needs no preflight: the browser sends it, and only hides the answer."""
    headers = {"origin": origin, "content-type": "text/plain"}
    for method, path in (("POST", "/v1/models"), ("GET", "/v1/models"), ("OPTIONS", "/v1/models")):
        reply = http.request(method, path, headers=headers | {"access-control-request-method": "POST"})
        assert reply.status_code == 403
        assert "access-control-allow-origin" not in reply.headers


def test_the_servers_own_page_is_answered(http):
    own = str(http.base_url).rstrip("/")
    assert http.get("/v1/models", headers={"origin": own}).status_code == 200
    # behind a proxy that speaks TLS
    headers = {"origin": "https://localhost", "host": "localhost:443"}
    assert http.get("/v1/models", headers=headers).status_code == 200


def test_a_page_that_was_allowed_is_told_so_and_no_other(guarded):
    asked = {"origin": PAGE, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    preflight = guarded.options("/v1/models", headers=asked)  # browsers send it without a key
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == PAGE
    assert preflight.headers["access-control-allow-headers"] == "authorization"
    assert "access-control-allow-credentials" not in preflight.headers

    reply = guarded.get("/v1/models", headers={"origin": PAGE, **key()})
    assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (200, PAGE)
    assert "origin" in reply.headers["vary"].lower()
    refused = guarded.get("/v1/models", headers={"origin": PAGE})  # a page may read what is wrong
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, PAGE)
    assert guarded.get("/v1/models", headers={"origin": "https://other.example", **key()}).status_code == 403


@pytest.mark.parametrize("text", ["page.example", "https://page.example/path", "https://", ""])
def test_what_is_no_origin_is_refused_at_the_start(text):
    with pytest.raises(OptionError, match=r"https://example\.org"):
        checked_origin(text)


@pytest.mark.parametrize(
    "headers", [key(), key(OTHER), {"x-api-key": KEY}, {"api-key": OTHER}, {"authorization": f"bearer  {KEY}"}]
)
def test_each_key_opens_in_each_header(guarded, headers):
    assert guarded.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{}, key(KEY[:-1]), key(KEY + "x"), {"authorization": "Bearer"}, {"authorization": KEY}, {"x-api-key": "ÿ"}],
)
def test_without_a_right_key_it_is_401(guarded, headers):
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    reply = guarded.get("/v1/models", headers=encoded)
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert reply.json()["error"]["type"] == "authentication_error"


def test_errors_have_the_shape_of_the_api_that_was_asked(guarded):
    assert set(guarded.post("/v1/chat/completions").json()["error"]) == {"message", "type", "param", "code"}
    assert guarded.post("/v1/messages").json()["type"] == "error"
    assert isinstance(guarded.post("/api/chat").json()["error"], str)


def test_probes_and_the_page_need_no_key(guarded):
    for path in ("/health", "/v1/health/live", "/", "/static/main.js"):
        assert guarded.get(path).status_code != 401
    for path in ("/metrics", "/v1/metadata", "/openapi.json", "/v1/health/../models"):
        assert guarded.get(path).status_code == 401
    assert guarded.post("/health").status_code == 401


def test_keys_come_from_the_file_and_the_variable_and_are_never_shown(tmp_path):
    file = tmp_path / "keys"
    file.write_text(KEY)
    keys = keys_of(ServeOptions(api_keys=str(file)), {VARIABLE: OTHER})
    assert len(keys) == 2
    assert KEY not in repr(keys)
    assert KEY not in repr(vars(keys))
    assert len(keys_of(ServeOptions(), {})) == 0


def test_a_file_of_keys_may_be_a_link_as_secrets_are(tmp_path):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "a").write_text(KEY)
    (tmp_path / "keys").symlink_to(tmp_path / "secrets" / "a")
    assert len(keys_of(ServeOptions(api_keys=str(tmp_path / "keys")), {})) == 1


@pytest.mark.parametrize("text", ["", "# none\n\n", "two words", "schlüssel"])
def test_a_file_that_holds_no_usable_key_is_refused(tmp_path, text):
    file = tmp_path / "keys"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(OptionError) as refused:
        keys_of(ServeOptions(api_keys=str(file)), {})
    assert not text.split() or text not in str(refused.value)


def test_a_file_of_keys_that_is_missing_is_refused(tmp_path):
    with pytest.raises(OptionError, match="missing; check the path"):
        keys_of(ServeOptions(api_keys=str(tmp_path / "nosuch")), {})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_no_server_listens_to_others_without_keys_unless_told_so(host):
    with pytest.raises(OptionError, match=r"--api-keys FILE or SLMKIT_API_KEY, or say --open-to-all"):
        require_guarded(ServeOptions(host=host), Keys(()))
    require_guarded(ServeOptions(host=host, open_to_all=True), Keys(()))
    require_guarded(ServeOptions(host=host), Keys([KEY]))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]", "localhost"])
def test_on_this_machine_alone_no_key_is_needed(host):
    require_guarded(ServeOptions(host=host), Keys(()))


def test_beyond_the_rate_it_is_429_with_the_time_to_wait():
    with serving(rate_limit=3) as url, httpx.Client(base_url=url) as client:
        statuses = [client.get("/v1/models").status_code for _ in range(4)]
        late = client.post("/v1/messages")
        assert statuses == [200, 200, 200, 429]
        assert late.json()["error"]["type"] == "rate_limit_error"
        assert 1 <= int(late.headers["retry-after"]) <= 20
        assert client.get("/health").status_code == 200


def test_a_bucket_fills_up_again_and_callers_do_not_share_it():
    now = 0.0
    rate = Rate(60, lambda: now)
    assert [rate.take("a") is None for _ in range(61)] == [True] * 60 + [False]
    assert rate.take("b") is None
    now = 2.0
    assert [rate.take("a") is None for _ in range(3)] == [True, True, False]
    now = 1e6
    assert [rate.take("a") is None for _ in range(61)] == [True] * 60 + [False]


def test_callers_beyond_a_number_are_forgotten_the_longest_unseen_first():
    rate = Rate(1)
    for number in range(MOST_CALLERS + 10):
        rate.take(str(number))
    assert len(rate._buckets) == MOST_CALLERS
    assert rate.take("0") is None
    assert rate.take(str(MOST_CALLERS + 9)) is not None


def test_a_body_beyond_the_size_is_413_whether_its_length_is_told_or_not(guarded):
    large = b'{"model": "' + b"x" * 1_100_000 + b'"}'
    for body in (large, iter([large[:500_000], large[500_000:]])):
        reply = guarded.post("/v1/messages", content=body, headers=key())
        assert reply.status_code == 413
        assert reply.json()["error"]["type"] == "request_too_large"
        assert "1 MB" in reply.json()["error"]["message"]
    assert guarded.get("/v1/models", headers=key()).status_code == 200


def test_a_body_that_does_not_arrive_is_408():
    with serving(client_timeout=0.5) as url:
        port = int(url.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
            began = time.monotonic()
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 408")
        assert b'"type":"error"' in answer
        assert time.monotonic() - began < 10


def test_a_name_given_to_every_host_is_a_choice():
    with serving(allow_hosts=("*",)) as url:
        assert httpx.get(url + "/v1/models", headers={"host": "anything"}).status_code == 200
