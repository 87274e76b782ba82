"""A model of a server that speaks Ollama's API, by that API's words: what it has none for is refused by name.

Source: https://docs.ollama.com/api
"""

from __future__ import annotations

import base64
import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slmkit.backends.base import Capabilities
from slmkit.errors import RuntimeFailure, UnsupportedFeature
from slmkit.events import Chunk, Event, Finished, Logprob, Started, Timing, TokenInfo, Usage
from slmkit.weights.ollama.parameters import ollama_options, unnamed

if TYPE_CHECKING:
    from slmkit.backends.ollama_server import Objects, OllamaServer
    from slmkit.request import Message, Request

MOST_LOGPROBS = 20  # alternatives of a token
_NO_CHANCE = -9999.0  # how servers write a log probability of minus infinity
CAPABILITIES = Capabilities(
    logprobs=True, top_k=True, min_p=True, repetition_penalty=True, repetition_window=True, parse_special=True,
    images=True, constraint=True,
)  # fmt: skip


def open_model(
    model: str, options: LoadOptions, progress: Progress | None = None, notice: Notice | None = None
) -> OllamaBackend:
    """`NAME` on the server that OLLAMA_HOST names, or `URL#NAME`.   Raises OptionError, ModelNotFound, RuntimeFailure."""
    take_only(options, ("ctx",), "ollama")
    address, name = at(model, os.environ.get("OLLAMA_HOST") or HOST)
    server = OllamaServer(*host_and_port(address), os.environ.get("SLMKIT_API_KEY", "").strip())
    return OllamaBackend(server, name, options.ctx)


class OllamaBackend:
    """One model of a server, which keeps it loaded or not as it likes.

    context: as the server has it loaded.   Raises ModelNotFound where the server has no such model.
    """

    def __init__(self, server: OllamaServer, name: str, context: int) -> None:
        self.server, self.name, self.context = server, name, context
        self._facts = server.ask("/api/show", {"model": name})
        known = self._facts.get("capabilities")
        self.capabilities = replace(CAPABILITIES, images=isinstance(known, list) and "vision" in known)
        self._is_closed = False

    def generate(self, request: Request) -> Answering:
        """Start the request now. Closing the iterator, or dropping it, cancels the request."""
        if self._is_closed:
            raise RuntimeFailure("this model was closed; load it again")
        self.capabilities.check(request, self.name)
        require_words(request, self.name)
        path = "/api/generate" if request.messages is None else "/api/chat"
        return Answering(self.server, self.server.stream(path, self._body(request)))

    def describe(self) -> dict[str, Any]:
        """What the server says of it."""
        details, info = (
            part if isinstance(part := self._facts.get(name), dict) else {} for name in ("details", "model_info")
        )
        return {
            "name": self.name,
            "server": str(self.server),
            "architecture": info.get("general.architecture"),
            "parameters": info.get("general.parameter_count"),
            "quantization": details.get("quantization_level"),
            "context": self.context,
        }

    def close(self) -> None:
        """Refuse later requests; the server keeps the model."""
        self._is_closed = True

    def _body(self, request: Request) -> dict[str, Any]:
        asked: dict[str, Any] = {"prompt": request.prompt, "raw": True}
        if request.messages is not None:
            asked = {"messages": [_turn(message) for message in request.messages]}
        if request.constraint is not None:
            asked["format"] = "json" if request.constraint.kind == "json" else request.constraint.value
        if request.options.logprobs is not None:
            asked |= {"logprobs": True, "top_logprobs": request.options.logprobs}
        options = ollama_options(replace(request.options, logprobs=None), self._window())
        return {"model": self.name, **asked, "options": options, "stream": True}

    def _window(self) -> int:
        """What the model's own repetition penalty looks back at: a penalty alone would have the API's own window."""
        for line in str(self._facts.get("parameters") or "").splitlines():
            name, _, value = line.partition(" ")
            if name == "repeat_last_n" and value.strip().isdecimal():
                return int(value)
        return 0


def require_words(request: Request, name: str) -> None:
    """Raise UnsupportedFeature naming the first thing asked for that the API cannot say, of whichever model."""
    CAPABILITIES.check(request, name)
    if others := [option for option in unnamed(request.options) if option != "logprobs"]:
        raise _none(name, others[0])
    if (request.options.logprobs or 0) > MOST_LOGPROBS:
        raise _none(name, f"more than {MOST_LOGPROBS} logprobs")
    if request.constraint is not None and request.constraint.kind not in ("json", "schema"):
        raise _none(name, f"constraints of kind {request.constraint.kind}")
    if request.messages is None and not request.prompt:
        raise _none(name, "empty prompts")
    if request.messages is None and not request.parse_special:
        raise UnsupportedFeature(
            f"in a text that {name} continues on its server, text such as <|end|> acts as a control token; say that it "
            "may, with parse_special, or send a conversation"
        )
    if request.messages is not None and request.parse_special:
        raise _none(name, "parse_special in a conversation")
    if any(message.role == "tool" for message in request.messages or ()):
        raise _none(name, "a tool's message without the call that it answers")


class Answering(Iterator[Event]):
    """The events of one answer. Any thread may close it."""

    def __init__(self, server: OllamaServer, objects: Objects) -> None:
        self._server, self._objects = server, objects
        self._ready: deque[Event] = deque()
        self._is_started = self._is_finished = False

    def __next__(self) -> Event:
        while not self._ready:
            if self._is_finished:
                raise StopIteration
            self._read()
        return self._ready.popleft()

    def close(self) -> None:
        """Cancel the request; nothing more comes of it."""
        self._is_finished = True
        self._ready.clear()
        self._objects.close()

    def _read(self) -> None:
        part = next(self._objects, None)
        if part is None:
            if self._objects.is_closed:
                self._is_finished = True
                return
            raise self._server.broke_off("its answer has no end")
        try:
            events = [*_events(part)]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise RuntimeFailure(
                f"the server at {self._server} answers in a form that is not Ollama's; look at what runs there"
            ) from None
        if not self._is_started:
            self._is_started = True
            self._ready.append(Started(0))
        self._ready += events
        if part.get("done"):
            self._is_finished = True
            self._objects.close()


def _turn(message: Message) -> dict[str, Any]:
    from slmkit.vision.picture import open_picture

    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.images:
        turn["images"] = [base64.b64encode(open_picture(image).as_file()).decode() for image in message.images]
    return turn


def _events(part: Mapping[str, Any]) -> Iterator[Event]:
    """An object's text and tokens, and the end."""
    text = part["message"]["content"] if "message" in part else part["response"]
    if not isinstance(text, str):
        raise TypeError
    tokens = tuple(_token(entry) for entry in part.get("logprobs") or ())
    if text or tokens:
        yield Chunk(text, tokens=tokens)
    if part.get("done"):
        first, rest = int(part.get("prompt_eval_duration", 0)) / 1e9, int(part.get("eval_duration", 0)) / 1e9
        usage = Usage(int(part.get("prompt_eval_count", 0)), int(part.get("eval_count", 0)))
        yield Finished(0, str(part.get("done_reason") or "stop"), usage, Timing(first, first + rest))


def _token(entry: Mapping[str, Any]) -> TokenInfo:
    top = tuple(Logprob(-1, other["token"], _chance(other), _data(other)) for other in entry.get("top_logprobs") or ())
    return TokenInfo(-1, entry["token"], _chance(entry), top, _data(entry))


def _chance(entry: Mapping[str, Any]) -> float:
    logprob = float(entry["logprob"])
    return logprob if logprob > _NO_CHANCE else -math.inf


def _data(entry: Mapping[str, Any]) -> bytes:
    return bytes(entry.get("bytes") or entry["token"].encode())


def _none(name: str, what: str) -> UnsupportedFeature:
    return UnsupportedFeature(f"{name} runs on a server, whose API does not have {what}; leave it out or load it here")
