"""A model of a server that speaks Ollama's API, by that API's words: what it has none for is refused by name.

Source: https://docs.ollama.com/api
"""

from __future__ import annotations

import base64
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slmkit.backends.address import parted
from slmkit.backends.answering import Answering, Cancel
from slmkit.backends.base import Capabilities
from slmkit.backends.http import KNOCK_S, PATIENCE_S
from slmkit.backends.ollama_server import OllamaServer, server_at
from slmkit.backends.registry import take_only
from slmkit.errors import ContextExceeded, ModelNotFound, RuntimeFailure, SlmError, Unreachable, UnsupportedFeature
from slmkit.events import Chunk, Event, Finished, Logprob, Started, Timing, TokenInfo, Usage
from slmkit.weights.ollama.parameters import ollama_options, unnamed

if TYPE_CHECKING:
    from slmkit.options import LoadOptions
    from slmkit.request import Message, Request
    from slmkit.weights.telling import Notice, Progress

MOST_LOGPROBS = 20  # alternatives of a token
HOST = "127.0.0.1:11434"
_NO_CHANCE = -9999.0  # how servers write a log probability of minus infinity
# The first that refuses a prompt that is too long, if told to (truncate, shift); those before cut it without a word.
# Sources: ollama/ollama #12519, #12545; v0.33.2, api/types.go, lines 111 to 117
_REFUSES = (0, 12, 6)
CAPABILITIES = Capabilities(
    logprobs=True, top_k=True, min_p=True, repetition_penalty=True, repetition_window=True, parse_special=True,
    images=True, constraint=True,
)  # fmt: skip


def open_model(
    model: str, options: LoadOptions, progress: Progress | None = None, notice: Notice | None = None
) -> OllamaBackend:
    """`NAME` on the server that OLLAMA_HOST names, or `ADDRESS#NAME`.

    ctx: the context to have the server load it with.
    Raises OptionError, RequestError, ModelNotFound, Unreachable, RuntimeFailure for an Ollama that cuts long prompts.
    """
    take_only(options, ("ctx",), "ollama")
    address, name = parted(model)
    server = server_at(address or os.environ.get("OLLAMA_HOST") or HOST, PATIENCE_S)
    _require_refusing(server)
    name = name or _only(server)
    context = _context(server, name, options.ctx)
    return OllamaBackend(server, name, context or sys.maxsize, f"ollama:{model}", context)


def state() -> str:
    """For `slm backends`: who answers."""
    try:
        server = server_at(os.environ.get("OLLAMA_HOST") or HOST)
        n = len(server.models("/api/tags"))
    except Unreachable:
        return f"no server answers at {server}; OLLAMA_HOST names another"
    except SlmError as error:
        return str(error)
    return f"a server with {n} {'model' if n == 1 else 'models'} answers at {server}"


class OllamaBackend:
    """One model of a server, which keeps it loaded or not as it likes.

    context: as the server has it loaded.   Raises ModelNotFound where the server has no such model.
    """

    def __init__(self, server: OllamaServer, model: str, context: int, name: str = "", ctx: int | None = None) -> None:
        """model: as the server has it.   name: as it was asked for.   ctx: the context to ask for with each request."""
        self.server, self.model, self.name, self.context = server, model, name or model, context
        self._ctx = ctx
        self._facts = server.ask("/api/show", {"model": model})
        known = self._facts.get("capabilities")
        self.capabilities = replace(CAPABILITIES, images=isinstance(known, list) and "vision" in known)
        self._is_closed = False

    def generate(self, request: Request) -> Answering:
        """Start the request now. Closing the iterator, or dropping it, cancels the request."""
        if self._is_closed:
            raise RuntimeFailure("this model was closed; load it again")
        self.capabilities.check(request, self.name)
        require_words(request, self.name)
        path, body = "/api/generate" if request.messages is None else "/api/chat", self._body(request)
        wants_logprobs = request.options.logprobs is not None
        return Answering(lambda cancel: _answer(self.server, path, body, wants_logprobs, cancel))

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
        if self._ctx is not None:
            options["num_ctx"] = self._ctx  # else it would be loaded anew with a context of the server's choice
        return {
            "model": self.model, **asked, "options": options, "stream": True, "truncate": False, "shift": False,
        }  # fmt: skip

    def _window(self) -> int:
        """What the model's own repetition penalty looks back at: a penalty alone would have the API's own window."""
        return _parameter(self._facts, "repeat_last_n") or 0


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


def _answer(
    server: OllamaServer, path: str, body: Mapping[str, Any], wants_logprobs: bool, cancel: Cancel
) -> Iterator[Event]:
    """The events of one answer, in the thread that makes them."""
    is_started, has_text, has_tokens = False, False, False
    with closing(server.objects(path, body, cancel)) as objects:
        for part in objects:
            try:
                events = [*_events(part)]
            except (KeyError, TypeError, ValueError, AttributeError):
                raise RuntimeFailure(
                    f"the server at {server} answers in a form that is not Ollama's; look at what runs there"
                ) from None
            if not is_started:
                is_started = True
                yield Started(0)
            has_text |= any(isinstance(event, Chunk) for event in events)
            has_tokens |= any(isinstance(event, Chunk) and event.tokens for event in events)
            if part.get("done") and wants_logprobs and has_text and not has_tokens:
                raise UnsupportedFeature(f"the server at {server} tells no logprobs; leave them out, or update it")
            yield from events
            if part.get("done"):
                return
    raise server.http.broke_off("its answer has no end")


def _require_refusing(server: OllamaServer) -> None:
    """Raise RuntimeFailure for a server that would cut a prompt that is too long, and not say so."""
    version = str(server.ask("/api/version", wait_s=KNOCK_S).get("version", ""))
    numbers = [int(part) if part.isdecimal() else 0 for part in version.partition("-")[0].split(".")]
    if tuple(numbers[:3]) >= _REFUSES or _is_ours(server):
        return
    raise RuntimeFailure(
        f"the Ollama at {server} is version {version}, which cuts prompts that are too long without a word; "
        f"update it to {'.'.join(map(str, _REFUSES))} or later"
    )


def _is_ours(server: OllamaServer) -> bool:
    """Whether it is one of `slm serve`, whose versions are others, and which never cuts a prompt."""
    try:
        return "release" in server.ask("/v1/version", wait_s=KNOCK_S)
    except SlmError:
        return False


def _only(server: OllamaServer) -> str:
    names = [str(model["name"]) for model in server.models("/api/tags")]
    if len(names) == 1:
        return names[0]
    there = f"it has {', '.join(names[:12])}" if names else "it has none"
    raise ModelNotFound(f"the server at {server} is named without a model, and {there}; write ADDRESS#MODEL")


def _context(server: OllamaServer, name: str, asked: int | None) -> int | None:
    """Tokens that the server has, or will have, the model loaded with; None if it does not tell.

    One that is not loaded is, unless a context is asked for: how much a server takes by itself depends on its memory.
    """
    if asked is not None:
        most = _own_context(server.ask("/api/show", {"model": name}))
        if most is not None and asked > most:  # Ollama would take less, and say so in its log alone
            raise ContextExceeded(f"ctx is {asked}, and {name} has a context of {most}; ask for less")
        return asked
    found = _loaded_context(server, name)
    if found is None:
        server.ask("/api/generate", {"model": name})
        found = _loaded_context(server, name)
    return found


def _loaded_context(server: OllamaServer, name: str) -> int | None:
    for model in server.running():
        if str(model["name"]).removesuffix(":latest") == name.removesuffix(":latest"):
            context = model.get("context_length")
            return context if isinstance(context, int) and context > 0 else None
    return None


def _own_context(facts: Mapping[str, Any]) -> int | None:
    info = facts.get("model_info")
    known = info.items() if isinstance(info, dict) else ()
    return next((value for key, value in known if key.endswith(".context_length") and isinstance(value, int)), None)


def _parameter(facts: Mapping[str, Any], name: str) -> int | None:
    """A whole number of the model's Modelfile."""
    for line in str(facts.get("parameters") or "").splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdecimal():
            return int(value)
    return None


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
