"""A server on this machine that answers with what others were seen to answer, and keeps what it was asked."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """body: an object is sent as JSON.   drops: the connection ends too early.   hold: waits for the client to go."""

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    drops: bool = False
    hold: bool = False


def sse(*parts: Any, done: bool = True, **more: Any) -> Answer:
    """A stream of server-sent events."""
    text = "".join(f"data: {json.dumps(part, ensure_ascii=False)}\n\n" for part in parts)
    body = text + ("data: [DONE]\n\n" if done else "")
    return Answer(body=body.encode(), headers={"Content-Type": "text/event-stream"}, **more)


def ndjson(*parts: Any) -> Answer:
    """A stream of Ollama's."""
    return Answer(body="".join(json.dumps(part) + "\n" for part in parts).encode())


@dataclass
class Asked:
    """A request.   body: parsed, if it is JSON."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


class Recorded:
    """answers: by method and path, each a list whose last one stays.   gone: how many clients left one that holds."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[Asked] = []
        self.gone = threading.Semaphore(0)

    def on(self, what: str, *answers: Answer) -> None:
        """`what` is a method and a path, such as "POST /v1/chat/completions"."""
        self.answers[what] = list(answers)

    def asked_at(self, path: str) -> list[Asked]:
        """The requests for a path."""
        return [each for each in self.asked if each.path == path]


@contextmanager
def recorded(context: ssl.SSLContext | None = None) -> Iterator[Recorded]:
    """One that runs, over TLS where there is a context."""
    found = Recorded()
    handler = type("Handler", (_Handler,), {"recorded": found})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        found.url = f"http{'s' if context else ''}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    recorded: Recorded

    def _answer(self) -> None:
        self.close_connection = True
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            body = json.loads(data)
        except ValueError:
            body = data
        self.recorded.asked.append(Asked(self.command, self.path, dict(self.headers.items()), body))
        left = self.recorded.answers.get(f"{self.command} {self.path.partition('?')[0]}")
        answer = Answer(404, {"error": "nothing recorded"}) if left is None else left[0]
        if left is not None and len(left) > 1:
            left.pop(0)
        if answer.hold:
            assert self.rfile.read(1) == b""
            self.recorded.gone.release()
            return
        data = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        kind = {} if isinstance(answer.body, bytes) else {"Content-Type": "application/json"}
        self.send_response(answer.status)
        for name, value in {**kind, **answer.headers, "Content-Length": str(len(data) + answer.drops)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass
