"""Images from URLs: private addresses, redirects, sizes and times. The server is one of this machine's own."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from slmkit.errors import DownloadError, RequestError
from slmkit.vision import fetch as fetching
from slmkit.vision.fetch import Fetching, fetch

OPEN = Fetching(private=True)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path, _, where = self.path.partition("?")
        if path == "/moved":
            self.send_response(302)
            self.send_header("Location", where)
            self.end_headers()
        elif path == "/loop":
            self.send_response(302)
            self.send_header("Location", "/loop")
            self.end_headers()
        elif path in ("/a.png", "/short", "/slow"):
            self.send_response(200)
            self.send_header("Content-Length", "2000" if path != "/a.png" else "1000")
            self.end_headers()
            self.wfile.write(bytes(1000))
            if path == "/slow":
                self.wfile.flush()
                self.server.over.wait(20)  # type: ignore[attr-defined]
        else:
            self.send_error(404)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as held:
        held.over = threading.Event()  # type: ignore[attr-defined]
        thread = threading.Thread(target=held.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{held.server_port}"
        held.over.set()  # type: ignore[attr-defined]
        held.shutdown()
        thread.join()


def test_an_allowed_url_is_fetched(server):
    assert fetch(f"{server}/a.png", 1000, OPEN) == bytes(1000)
    assert fetch(f"{server}/moved?/a.png", 1000, OPEN) == bytes(1000)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1",
     "[::1]", "[fe80::1]", "[fc00::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "224.0.0.1",
     "2130706433", "0x7f.1", "192.0.0.192", "[::127.0.0.1]", "[64:ff9b:1::1]"],
)  # fmt: skip
def test_private_addresses_are_refused_in_every_spelling(host):
    with pytest.raises(RequestError, match="private_urls"):
        fetch(f"http://{host}:1/a.png", 1000, Fetching())


def test_a_redirect_to_a_private_address_is_refused(server, monkeypatch):
    """The first host counts as public here; where it leads to is judged again."""
    real = socket.getaddrinfo

    def lookup(host: str, *args: Any, **settings: Any) -> Any:
        return real("127.0.0.1" if host == "public.test" else host, *args, **settings)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    judged = []

    def is_public(address: str) -> bool:
        judged.append(address)
        return len(judged) == 1

    monkeypatch.setattr(fetching, "_is_public", is_public)
    port = server.rpartition(":")[2]
    with pytest.raises(RequestError, match="private_urls"):
        fetch(f"http://public.test:{port}/moved?http://127.0.0.1:{port}/a.png", 1000, Fetching())
    assert len(judged) == 2


def test_the_address_that_was_judged_is_the_one_that_is_asked(server, monkeypatch):
    """A name that gives another address the second time is asked once."""
    answers = iter(["127.0.0.1"])
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *a, **k: real(next(answers) if host == "twice.test" else host, *a, **k)
    )
    port = server.rpartition(":")[2]
    assert fetch(f"http://twice.test:{port}/a.png", 1000, OPEN) == bytes(1000)


@pytest.mark.parametrize(
    "where", ["file:///etc/passwd", "ftp://127.0.0.1/a", "//user:pw@127.0.0.1/", "gopher://x/", "http://[::1"]
)
def test_a_redirect_to_something_else_is_refused(server, where):
    with pytest.raises(RequestError, match="URL"):
        fetch(f"{server}/moved?{where}", 1000, OPEN)


def test_more_than_the_limit_is_not_read(server):
    with pytest.raises(RequestError, match="more than the"):
        fetch(f"{server}/a.png", 999, OPEN)


def test_what_does_not_arrive_is_an_error(server):
    with pytest.raises(DownloadError, match="status 404"):
        fetch(f"{server}/none", 1000, OPEN)
    with pytest.raises(DownloadError, match="redirects"):
        fetch(f"{server}/loop", 1000, OPEN)
    with pytest.raises(DownloadError, match=r"broke off|could not be fetched"):
        fetch(f"{server}/short", 5000, OPEN)
    with pytest.raises(DownloadError, match="could not be fetched"):
        fetch(f"{server}/slow", 5000, Fetching(private=True, timeout_s=0.3))
    with pytest.raises(DownloadError, match="could not be fetched"):
        fetch("http://127.0.0.1:1/", 1000, OPEN)
