"""A server of Ollama's API: where it is, and the JSON objects of its answers as they come."""

from __future__ import annotations

import os
import socket
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from slmkit.backends.answering import Cancel
from slmkit.backends.faults import is_text_of_context
from slmkit.backends.http import KNOCK_S, Refusal, Server, check_key
from slmkit.errors import (
    AccessDenied,
    Busy,
    ContextExceeded,
    DeadlineExceeded,
    ModelError,
    ModelNotFound,
    RequestError,
    RuntimeFailure,
    SlmError,
)
from slmkit.untrusted import shown

PORT = 11434
_PORTS = {"http": 80, "https": 443}
_KINDS: Mapping[int, type[SlmError]] = {
    401: AccessDenied, 403: AccessDenied, 404: ModelNotFound, 408: DeadlineExceeded, 422: ModelError,
}  # fmt: skip


@dataclass(frozen=True)
class OllamaServer:
    """Where one is.

    key: sent along as a bearer token, and shown nowhere; "" sends none.   path: before /api, where a proxy has it.
    patience_s: most seconds to wait for one that is busy.
    """

    host: str
    port: int
    key: str = field(default="", repr=False)
    scheme: str = "http"
    path: str = ""
    patience_s: float = 0.0

    def __post_init__(self) -> None:
        check_key(self.key, "SLMKIT_API_KEY")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    def is_there(self) -> bool:
        """Whether anybody listens; where nobody does, that is known without loading what HTTP takes (0.1 s)."""
        try:
            socket.create_connection((self.host, self.port), KNOCK_S).close()
        except OSError:
            return False
        return True

    def running(self) -> list[dict[str, Any]]:
        """The models that it has loaded, each with its `name`.   Raises SlmError where none of Ollama's API answers."""
        return self.models("/api/ps")

    def models(self, path: str) -> list[dict[str, Any]]:
        """Those that are listed there, each with its `name`.   Raises SlmError where none of Ollama's API answers."""
        models = self.ask(path, wait_s=KNOCK_S).get("models")
        if not isinstance(models, list) or not all(
            isinstance(model, dict) and isinstance(model.get("name"), str) for model in models
        ):
            raise RuntimeFailure(f"what answers at {self} is no server of Ollama's API; look at what runs there")
        return models

    def ask(self, path: str, body: Mapping[str, Any] | None = None, wait_s: float | None = None) -> dict[str, Any]:
        """The first object of an answer.   wait_s: most seconds for each part of it.   Raises as `objects` does."""
        with closing(self.objects(path, body, wait_s=wait_s)) as objects:
            for found in objects:
                return found
        raise self.http.broke_off("its answer is empty")

    def objects(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        cancel: Cancel | None = None,
        wait_s: float | None = None,
    ) -> Generator[dict[str, Any]]:
        """The objects of an answer to a request, a GET where it has no body.

        Raises Unreachable, RuntimeFailure where the server breaks off, Cancelled, and what the server says is wrong by
        its status: RequestError, ContextExceeded, ModelNotFound, AccessDenied, Busy, ...
        """
        with self.http.open(path, body, cancel=cancel, wait_s=wait_s) as reply:
            for line in reply.lines():
                found = reply.parsed(line)
                if "error" in found:  # a fault on the way of an answer comes with status 200
                    text = found["error"] if isinstance(found["error"], str) else "the server failed"
                    raise RuntimeFailure(self.http.without_secret(text))
                yield found

    @cached_property
    def http(self) -> Server:
        """It, as any server."""
        return Server(
            str(self),
            _fault,
            {"Authorization": f"Bearer {self.key}"} if self.key else {},
            self.key,
            absent="`slm serve` starts one, and what was asked can be asked again",
            connect_s=KNOCK_S,
            patience_s=self.patience_s,
        )


def server_at(address: str, patience_s: float = 0.0) -> OllamaServer:
    """The server at an address as OLLAMA_HOST has it: scheme, host, port and path, each of which may be left out.

    Raises RequestError.   Source: ollama/ollama, envconfig/config.go, Host
    """
    text = address.strip().strip("\"'").strip()
    scheme, is_there, rest = text.partition("://")
    if not is_there:
        scheme, rest = "http", text
        if text == "ollama.com":
            scheme = "https"
    if "@" in rest:
        raise RequestError("the address of Ollama has a name or a password in it; put the key in SLMKIT_API_KEY")
    if scheme not in _PORTS:
        raise RequestError(f"the address of Ollama is {shown(text)}; it takes one such as http://127.0.0.1:{PORT}")
    default = _PORTS[scheme] if is_there or scheme == "https" else PORT
    place, _, path = rest.rstrip("/").partition("/")
    host, port = _host_and_port(place, default)
    key = os.environ.get("SLMKIT_API_KEY", "").strip()
    return OllamaServer(host, port, key, scheme, f"/{path}" if path else "", patience_s)


def _host_and_port(place: str, default: int) -> tuple[str, int]:
    host, colon, port = place.rpartition(":")
    if not colon or (place.count(":") > 1 and not host.endswith("]")):  # none, or an IPv6 address without one
        host, port = place, str(default)
    if not port.isdecimal() or int(port) > 65535:
        raise RequestError(f"the port of Ollama's address is {shown(port)}; it takes a number up to 65535")
    host = host.strip("[]") or "127.0.0.1"
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), int(port)  # which servers listen on


def _fault(server: Server, refusal: Refusal) -> SlmError:
    """What a server says, by its status."""
    status = refusal.status
    text = refusal.text or f"the server answers with status {status}"
    if status in (429, 503):
        return Busy(text) if refusal.retry_after_s is None else Busy(text, refusal.retry_after_s)
    if status == 400 and is_text_of_context(text):
        return ContextExceeded(text)
    if status in _KINDS:
        return _KINDS[status](text)
    return RequestError(text) if 400 <= status < 500 else RuntimeFailure(text)
