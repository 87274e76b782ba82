"""A server of Ollama's API, as HTTP: what is asked, and the JSON objects of its answer as they come."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

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
from slmkit.untrusted import brief

KNOCK_S = 2.0  # to be reached, and to say what is loaded
_MOST_BYTES = 8 << 20  # of one object
_MOST_SAID = 2000  # characters of what a server says of an error
_KINDS: Mapping[int, type[SlmError]] = {
    401: AccessDenied, 403: AccessDenied, 404: ModelNotFound, 408: DeadlineExceeded, 422: ModelError,
}  # fmt: skip


@dataclass(frozen=True)
class OllamaServer:
    """Where one is.   key: sent along as a bearer token, and shown nowhere; "" sends none."""

    host: str
    port: int
    key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not self.key.isascii() or not self.key.isprintable() or " " in self.key:
            raise RequestError("the API key has a space or a character that is not ASCII; set it as the server has it")

    def __str__(self) -> str:
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    def running(self) -> list[dict[str, Any]]:
        """The models that it has loaded, each with its `name`.   Raises SlmError where none of Ollama's API answers."""
        models = self.ask("/api/ps", wait_s=KNOCK_S).get("models")
        if not isinstance(models, list) or not all(
            isinstance(model, dict) and isinstance(model.get("name"), str) for model in models
        ):
            raise RuntimeFailure(f"what answers at {self} is no server of Ollama's API; look at what runs there")
        return models

    def ask(self, path: str, body: Mapping[str, Any] | None = None, wait_s: float | None = None) -> dict[str, Any]:
        """The first object of an answer.   wait_s: most seconds for each part of it.   Raises as Objects do."""
        with closing(self.stream(path, body, wait_s)) as objects:
            for found in objects:
                return found
        raise self.broke_off("its answer is empty")

    def stream(self, path: str, body: Mapping[str, Any] | None = None, wait_s: float | None = None) -> Objects:
        """Send a request, a GET where it has no body; its answer is waited for by who reads it.

        Raises RuntimeFailure where nobody answers.
        """
        headers = {"Content-Type": "application/json", "Connection": "close"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        sent = None if body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection(self.host, self.port, timeout=KNOCK_S)
        try:
            connection.connect()
            connection.sock.settimeout(wait_s)
            with suppress(BrokenPipeError, ConnectionResetError):  # of a body that is refused; the answer says why
                connection.request("GET" if sent is None else "POST", path, sent, headers)
        except OSError as error:
            connection.close()
            raise RuntimeFailure(
                f"no server answers at {self} ({brief(error)}); `slm serve` starts one, and what was asked can be "
                "asked again"
            ) from None
        except BaseException:
            connection.close()
            raise
        return Objects(self, connection)

    def broke_off(self, why: str) -> RuntimeFailure:
        """What to raise for an answer without its end."""
        return RuntimeFailure(f"the server at {self} broke off ({why}); look at what it says, then ask again")


class Objects(Iterator[dict[str, Any]]):
    """The objects of one answer. Any thread may close it, which ends the request, and the wait of who reads.

    `next` raises RuntimeFailure where the server breaks off, and what it says is wrong by its status: RequestError,
    ContextExceeded, ModelNotFound, AccessDenied, Busy, ...
    """

    def __init__(self, server: OllamaServer, connection: http.client.HTTPConnection) -> None:
        self._server, self._connection = server, connection
        self._socket: socket.socket = connection.sock  # which the connection forgets once it has the answer's head
        self._reply: http.client.HTTPResponse | None = None
        self._reading = threading.Lock()
        self.is_closed = False

    def __next__(self) -> dict[str, Any]:
        with self._reading:
            found = self._read()
        if found is None or self.is_closed:
            raise StopIteration
        return found

    def close(self) -> None:
        """End the request: the server sees that nobody reads any more."""
        self.is_closed = True
        with suppress(OSError):  # it is closed already
            self._socket.shutdown(socket.SHUT_RDWR)  # which wakes who waits for it
        with self._reading:
            self._connection.close()
            if self._reply is not None:
                self._reply.close()

    def _read(self) -> dict[str, Any] | None:
        """The next object; None at the end."""
        if self.is_closed:
            return None
        try:
            if self._reply is None:
                self._reply = self._connection.getresponse()
            line = self._reply.readline(_MOST_BYTES)
            found = json.loads(line) if line else None
        except (OSError, ValueError, RecursionError, http.client.HTTPException) as error:
            if self.is_closed:
                return None
            raise self._server.broke_off(brief(error) or type(error).__name__) from None
        if found is None:
            return None
        if not isinstance(found, dict):
            raise self._server.broke_off("its answer is no JSON object")
        if self._reply.status != 200 or "error" in found:
            raise _fault(self._reply, found.get("error"))
        return found

    def __del__(self) -> None:
        self.close()


def _fault(reply: http.client.HTTPResponse, error: Any) -> SlmError:
    """What a server says, by its status; a fault on the way of an answer comes with status 200."""
    said = error.get("message") if isinstance(error, dict) else error
    text = said[:_MOST_SAID] if isinstance(said, str) else f"the server answers with status {reply.status}"
    status = reply.status
    if status in (429, 503):
        given = reply.headers.get("Retry-After", "")
        return Busy(text, float(given)) if given.isdecimal() else Busy(text)
    if status == 400 and _is_of_context(text):
        return ContextExceeded(text)
    if status in _KINDS:
        return _KINDS[status](text)
    return RequestError(text) if 400 <= status < 500 else RuntimeFailure(text)


def _is_of_context(text: str) -> bool:
    """Whether a prompt was too long: this API has no code for it. The second is Ollama's own wording."""
    return text.startswith("the prompt has ") or ("exceed" in text and "context" in text)
