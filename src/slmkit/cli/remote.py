"""A server that runs already: found, asked what it has loaded, and asked to answer."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from slmkit.cli.address import at_address
from slmkit.cli.settings import settings
from slmkit.errors import RequestError, RuntimeFailure
from slmkit.events import Chunk, Event, Finished, Started, Timing, Usage
from slmkit.options import LoadOptions
from slmkit.request import Request
from slmkit.server.settings import ServeOptions
from slmkit.untrusted import brief

PLACES = (("127.0.0.1", 8000), ("127.0.0.1", 11434))  # where `slm serve` is, and where clients of Ollama look
KNOCK_S = 2.0  # to say what is loaded
_MOST_BYTES = 4 << 20
# Ours by Ollama's names; a request with any other option is answered in this process.
_NAMES = {"max_tokens": "num_predict", "repetition_penalty": "repeat_penalty", "repetition_window": "repeat_last_n"}
_SAME = ("temperature", "top_k", "top_p", "min_p", "seed", "stop", "presence_penalty", "frequency_penalty")


@dataclass(frozen=True)
class Server:
    """One that answered."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"http://{self.host}:{self.port}"

    def running(self) -> list[dict[str, Any]]:
        """The models that it has loaded.   Raises OSError, ValueError where nobody or somebody else answers."""
        with closing(self._asked("GET", "/api/ps", None, KNOCK_S)) as reply:
            models = json.loads(reply.read(_MOST_BYTES))["models"]
        if reply.status != 200 or not all(isinstance(model["name"], str) for model in models):
            raise ValueError
        return list(models)

    def post(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The objects of its answer, as they come.   Raises RuntimeFailure, or RequestError with what it says."""
        try:
            with closing(self._asked("POST", path, body, None)) as reply:
                for text in reply:
                    part = json.loads(text)
                    if "error" in part:
                        kind = RequestError if reply.status < 500 and reply.status != 200 else RuntimeFailure
                        raise kind(str(part["error"]))
                    yield part
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise RuntimeFailure(f"the server at {self} broke off ({brief(error)}); look at what it says") from None

    def _asked(self, method: str, path: str, body: Any, timeout: float | None) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        headers = {"Content-Type": "application/json", "Connection": "close"}
        if key := os.environ.get("SLMKIT_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            return connection.getresponse()
        except BaseException:
            connection.close()
            raise


def find_server(places: tuple[tuple[str, int], ...] | None = None) -> tuple[Server, list[dict[str, Any]]] | None:
    """The first server that answers, and the models that it has loaded; None if there is none.

    places: where to look unless an address is set (SLMKIT_HOST, SLMKIT_PORT, config file); all usual ones by default.
    """
    nothing = argparse.Namespace()
    is_set = any(s.source for s in settings(ServeOptions, nothing) if s.name in ("host", "port"))
    if is_set:
        options = at_address(nothing)
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(options.host, options.host)
        places = ((host, options.port),)
    for host, port in PLACES if places is None else places:
        server = Server(host, port)
        try:
            return server, server.running()
        except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
            continue
    return None


def required_server() -> tuple[Server, list[dict[str, Any]]]:
    """As find_server.   Raises RequestError if there is none."""
    found = find_server()
    if found is None:
        raise RequestError(
            "no server answers where one is looked for (SLMKIT_HOST, else 127.0.0.1:8000, then 11434); "
            "`slm serve` starts one"
        )
    return found


def same_name(asked: str, running: str) -> bool:
    """Whether a server's name for a model is the one that was asked for."""
    return asked.removesuffix(":latest") == running.removesuffix(":latest")


def running_model(name: str, request: Request, load_options: LoadOptions) -> RemoteModel | None:
    """The model of that name in a server that has it loaded, if the request can be put to it; None for a model of our
    own, also wherever an option of loading is set."""
    if load_options != LoadOptions() or _body(name, request) is None:
        return None
    found = find_server(PLACES[:1])  # at the other place is Ollama, whose models are others
    for model in found[1] if found else ():
        if same_name(name, model["name"]) and found:
            return RemoteModel(found[0], name, int(model.get("context_length") or sys.maxsize))
    return None


class RemoteModel:
    """A model of a server, as a verb uses models: only whole conversations, one choice."""

    def __init__(self, server: Server, name: str, context: int) -> None:
        self.server, self.name, self.context = server, name, context

    def events(self, request: Request) -> Generator[Event, None, None]:
        """Everything that happens while it is answered. Closing the iterator cancels it."""
        body = _body(self.name, request)
        assert body is not None, "running_model has looked"
        yield Started(0)
        for part in self.server.post("/api/chat", body):
            if text := part["message"]["content"]:
                yield Chunk(text)
            if part["done"]:
                yield _finished(part)

    def close(self) -> None:
        """Nothing: the server keeps it."""

    def __enter__(self) -> RemoteModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _finished(part: Mapping[str, Any]) -> Finished:
    first, rest = part.get("prompt_eval_duration", 0) / 1e9, part.get("eval_duration", 0) / 1e9
    usage = Usage(part.get("prompt_eval_count", 0), part.get("eval_count", 0))
    return Finished(0, str(part.get("done_reason") or "stop"), usage, Timing(first, first + rest))


def _body(name: str, request: Request) -> dict[str, Any] | None:
    """The request as /api/chat takes it; None if it has more than that can say."""
    set_ = request.options.set_values()
    if request != replace(Request(request.messages or ()), options=request.options) or not request.messages:
        return None
    if any(message.images for message in request.messages) or not set(set_) <= {*_SAME, *_NAMES}:
        return None
    options = {_NAMES.get(key, key): value for key, value in set_.items()}
    if "repeat_penalty" in options or "repeat_last_n" in options:
        options["repeat_last_n"] = options.get("repeat_last_n") or -1  # all of them, as here
    messages = [{"role": message.role, "content": message.content} for message in request.messages]
    return {"model": name, "messages": messages, "options": options, "stream": True}
