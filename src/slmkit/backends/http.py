"""Servers as HTTP: what is asked, the lines of an answer as they come, and what a server refuses.

A connection carries one request. So any thread can end a request by its socket, whatever it waits for, and no request
is lost on a connection that a server closed while it was idle.
"""

from __future__ import annotations

import ipaddress
import json
import random
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import slmkit
from slmkit.backends.answering import Cancel
from slmkit.errors import RequestError, RuntimeFailure, SlmError, Unreachable
from slmkit.untrusted import brief, shown

if TYPE_CHECKING:
    from httpx import Client, Response

KNOCK_S = 2.0  # for a server on this machine to be reached, and to say what it has
CONNECT_S = 10.0
PATIENCE_S = 30.0  # that a request may wait in all, where a service asks it to come again
_MOST_TRIES = 4
_MOST_BYTES = 8 << 20  # of a line, or of an answer that comes whole
_MOST_REFUSAL = 64 << 10  # bytes that are read of one
_MOST_SAID = 2000  # characters of what a server says of an error
_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}  # a host that went away shows after two minutes


@dataclass(frozen=True)
class Refusal:
    """What a server says instead of an answer.

    text: its own words, "" where it has none.   code: its name for the fault.   headers: with names in lower case.
    """

    status: int
    text: str
    code: str
    headers: Mapping[str, str]

    @property
    def is_passing(self) -> bool:
        """Whether the same request may be answered a little later."""
        return self.status == 429 or self.status >= 500

    @property
    def retry_after_s(self) -> float | None:
        """When to come again, if it says."""
        given = self.headers.get("retry-after", "")
        if given.isdecimal():
            return float(given)
        with suppress(ValueError, TypeError):
            return max(0.0, parsedate_to_datetime(given).timestamp() - time.time())
        return None


@dataclass(frozen=True)
class Ask:
    """One request.   path: follows upon the server's URL."""

    method: str
    path: str
    data: bytes
    headers: dict[str, str]


Judge = Callable[["Server", Refusal], SlmError]


@dataclass(frozen=True)
class Server:
    """Where one is, and how it is spoken to.

    url: without a slash at its end.   judge: what to raise for a refusal.
    headers: of each request, the key among them.   secret: the key alone; neither is ever shown.
    query: of each request.   absent: what to do where nobody answers.
    connect_s, silence_s: most seconds to be reached, and without a byte of an answer.
    patience_s: most seconds, in all, to wait for a server that is busy or has a fault of its own (429 and 5xx).
    """

    url: str
    judge: Judge = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secret: str = field(default="", repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    absent: str = "check the address, and whether the server runs"
    connect_s: float = CONNECT_S
    silence_s: float | None = None
    patience_s: float = 0.0

    def __str__(self) -> str:
        return self.url.partition("?")[0]  # that of an upload has a signature behind it

    @contextmanager
    def open(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        cancel: Cancel | None = None,
        wait_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[Reply]:
        """The answer to a request, a GET where it has no body. `path` follows upon the URL.

        cancel: ends it, also while it waits.   wait_s: instead of silence_s.
        Raises Unreachable, RuntimeFailure where the server breaks off, Cancelled, and what `judge` gives.
        """
        data = None if body is None else json.dumps(body).encode()
        json_type = {} if data is None else {"Content-Type": "application/json"}
        asked = Ask("GET" if data is None else "POST", path, data or b"", {**json_type, **(headers or {})})
        response = self._answered(asked, cancel or Cancel(), wait_s)
        try:
            yield Reply(self, response, cancel or Cancel())
        finally:
            response.close()

    def ask(self, path: str, body: Mapping[str, Any] | None = None, **how: Any) -> dict[str, Any]:
        """The JSON object that is the answer.   how: as `open` has it."""
        with self.open(path, body, **how) as reply:
            return reply.object()

    def send(
        self,
        path: str,
        method: str,
        data: bytes = b"",
        headers: Mapping[str, str] | None = None,
        cancel: Cancel | None = None,
    ) -> None:
        """A request whose answer says nothing but that it went well.   Raises as `open` does."""
        self._answered(Ask(method, path, data, dict(headers or {})), cancel or Cancel(), None).close()

    def broke_off(self, why: str) -> RuntimeFailure:
        """What to raise for an answer without its end."""
        return RuntimeFailure(f"the server at {self} broke off ({why}); look at what it says, then ask again")

    def without_secret(self, text: str) -> str:
        """Some servers repeat the key that they refuse."""
        return text.replace(self.secret, "***") if self.secret else text

    def _answered(self, asked: Ask, cancel: Cancel, wait_s: float | None) -> Response:
        """The response, once it is a good one; nothing of its body has been read."""
        left = self.patience_s
        for n in range(1, _MOST_TRIES + 1):
            response = self._sent(asked, cancel, wait_s)
            if response.is_success:
                return response
            refusal = self._refusal(response)
            pause = refusal.retry_after_s
            if pause is None:
                pause = 2.0 ** (n - 2) * random.uniform(0.75, 1.25)
            if not refusal.is_passing or pause > left or n == _MOST_TRIES:
                break
            left -= pause
            cancel.sleep(pause)
        raise self.judge(self, refusal)

    def _sent(self, asked: Ask, cancel: Cancel, wait_s: float | None) -> Response:
        httpx = _httpx()
        cancel.check()
        timeout = httpx.Timeout(self.silence_s if wait_s is None else wait_s, connect=self.connect_s)
        try:
            request = self._client.build_request(
                asked.method, self.url + asked.path, content=asked.data, headers=asked.headers,
                params=self.query or None, timeout=timeout, extensions={"trace": _watch(cancel)},
            )  # fmt: skip
            return self._client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            cancel.check()
            raise self._unreachable(brief(error) or type(error).__name__) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            cancel.check()
            raise self.broke_off(_why(error)) from None

    def _unreachable(self, why: str) -> Unreachable:
        absent = self.absent
        if "CERTIFICATE_VERIFY_FAILED" in why:
            absent = "if you trust it, name the certificates of its authority in SSL_CERT_FILE"
        return Unreachable(f"no server answers at {self} ({self.without_secret(why)}); {absent}")

    def _refusal(self, response: Response) -> Refusal:
        httpx = _httpx()
        data = b""
        with suppress(httpx.HTTPError, httpx.StreamError, OSError):  # what came so far has to do
            for part in response.iter_bytes():
                data += part
                if len(data) >= _MOST_REFUSAL:
                    break
        response.close()
        text, code = said(data)
        if response.is_redirect:
            text = f"it moved to {shown(response.headers.get('Location', ''))}"
        return Refusal(response.status_code, self.without_secret(text), code, dict(response.headers.items()))

    @cached_property
    def _client(self) -> Client:
        httpx = _httpx()
        parts = urlsplit(self.url)
        # as for Go's clients, what is on this machine is not looked for behind a proxy
        is_here = is_loopback(parts.hostname or "")
        # an empty context where none is used: to read all authorities takes longer than to ask a server on this machine
        context = httpx.create_ssl_context() if parts.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client: Client = httpx.Client(
            verify=context,
            trust_env=not is_here,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            headers={
                "User-Agent": f"slmkit/{slmkit.__version__}",
                "Accept-Encoding": "identity",  # a stream that is packed is held back
                "Connection": "close",
                **self.headers,
            },
        )
        return client


class Reply:
    """An answer as it comes."""

    def __init__(self, server: Server, response: Response, cancel: Cancel) -> None:
        self._server, self._response, self._cancel = server, response, cancel
        self.headers: Mapping[str, str] = dict(response.headers.items())

    def lines(self) -> Iterator[bytes]:
        """Each without its end.   Raises RuntimeFailure where the server breaks off, Cancelled."""
        held = b""
        for data in self._data():
            *whole, held = (held + data).split(b"\n")
            yield from whole
            if len(held) > _MOST_BYTES:
                raise self._server.broke_off(f"a line has more than {_MOST_BYTES >> 20} MiB")
        if held:
            yield held

    def object(self) -> dict[str, Any]:
        """The JSON object that it is.   Raises RuntimeFailure."""
        data = bytearray()
        for part in self._data():
            data += part
            if len(data) > _MOST_BYTES:
                raise self._server.broke_off(f"its answer has more than {_MOST_BYTES >> 20} MiB")
        return self.parsed(bytes(data))

    def parsed(self, data: bytes) -> dict[str, Any]:
        """The JSON object that these bytes of the answer spell.   Raises RuntimeFailure."""
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            begin = self._server.without_secret(data[:60].decode("utf-8", "replace"))
            raise self._server.broke_off(f"its answer is no JSON object: {shown(begin)}")
        return found

    def _data(self) -> Iterator[bytes]:
        httpx = _httpx()
        try:
            for data in self._response.iter_bytes():
                self._cancel.check()
                yield data
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            self._cancel.check()
            raise self._server.broke_off(_why(error)) from None
        self._cancel.check()  # a socket that was shut looks like the end of some answers


def _httpx() -> Any:
    """The package, without its command line, which would import others for 0.1 s: more than all else `slm ps` takes."""
    if "httpx" in sys.modules:
        return import_module("httpx")  # waits for another thread that is at it
    sys.modules["httpx._main"] = None  # type: ignore[assignment]
    try:
        return import_module("httpx")
    finally:
        sys.modules.pop("httpx._main", None)


def is_loopback(host: str) -> bool:
    """Whether a host's name means this machine."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def check_key(key: str, variable: str) -> str:
    """The key, without white space around it.   Raises RequestError for one that no header can hold."""
    key = key.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise RequestError(
            f"the API key in {variable} has a space or a character that is not ASCII; set it as the server has it"
        )
    return key


def said(data: bytes) -> tuple[str, str]:
    """The words in the body of a refusal, and its name for the fault."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        text = data.decode("utf-8", "replace").strip()
        return ("" if text.startswith("<") else brief(Exception(text))), ""
    return _words(found)


def _words(found: Any) -> tuple[str, str]:
    """OpenAI, Azure, vLLM and this server, NIM (RFC 9457), FastAPI, Ollama: each has a shape of its own."""
    if isinstance(found, str):
        return _unpacked(found[:_MOST_SAID])
    if not isinstance(found, dict):
        return "", ""
    error = found.get("error")
    if isinstance(error, (dict, str)):
        text, code = _words(error)
        return text, code or _name(found)
    for key in ("message", "detail", "title"):
        if isinstance(found.get(key), str):
            return _unpacked(found[key][:_MOST_SAID])[0], _name(found)
    detail = found.get("detail")
    return (json.dumps(detail)[:_MOST_SAID] if detail else ""), _name(found)


def _name(found: Mapping[str, Any]) -> str:
    return next((found[key] for key in ("code", "type") if isinstance(found.get(key), str)), "")


def _unpacked(text: str) -> tuple[str, str]:
    """Ollama hands on what llama.cpp's server says as JSON inside a text."""
    if text.startswith("{"):
        with suppress(ValueError, RecursionError):
            inner = json.loads(text)
            if isinstance(inner, dict) and isinstance(inner.get("error"), dict):
                return _words(inner)
    return text, ""


def _watch(cancel: Cancel) -> Callable[[str, Any], None]:
    """Has the socket of a connection shut when nobody wants the answer any more, as soon as there is one."""

    def seen(name: str, info: Any) -> None:
        if not name.endswith((".connect_tcp.complete", ".start_tls.complete")):
            return
        found = info["return_value"].get_extra_info("socket")
        _keep_alive(found)
        # not found.shutdown: that of TLS forgets its keys first, and a write meanwhile would go out as it is
        cancel.on(lambda: socket.socket.shutdown(found, socket.SHUT_RDWR))

    return seen


def _keep_alive(found: socket.socket) -> None:
    """Have the system notice a host that went away without a word: an answer may begin after many minutes."""
    with suppress(OSError, AttributeError):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _ALIVE.items():
            if hasattr(socket, name):
                found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _why(error: Exception) -> str:
    text = brief(error)
    return "its answer has no end" if "without sending complete message" in text else text or type(error).__name__
