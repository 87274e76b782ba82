"""A model of any server that speaks OpenAI's API: a service in a cloud, vLLM, LM Studio, llama.cpp's, our own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slmkit.backends import openai_request
from slmkit.backends.address import OWN_KEY, Address, address_of, first_set, key_of, parted, same_place
from slmkit.backends.answering import Answering, Cancel
from slmkit.backends.faults import judge
from slmkit.backends.http import PATIENCE_S, Refusal, Server, is_loopback
from slmkit.backends.openai_events import Reading
from slmkit.backends.openai_request import LLAMACPP, OPENAI, PLAIN, SLMKIT, VLLM, Json, Terms, body_of
from slmkit.backends.registry import take_only
from slmkit.errors import AccessDenied, ModelNotFound, RuntimeFailure, SlmError
from slmkit.events import Event

if TYPE_CHECKING:
    from slmkit.options import LoadOptions
    from slmkit.request import Request
    from slmkit.weights.telling import Notice, Progress

HOME = "https://api.openai.com/v1"
CAPABILITIES = openai_request.CAPABILITIES
LISTING_S = 30.0
SILENCE_S = 600.0  # as OpenAI's own clients wait for a byte
_OWNERS = {"slmkit": SLMKIT, "vllm": VLLM, "llamacpp": LLAMACPP}  # what /v1/models says of whose server it is
_CONTEXTS = ("max_model_len", "context_length", "max_context_length", "context_window")  # vLLM and others


def open_model(
    model: str, options: LoadOptions, progress: Progress | None = None, notice: Notice | None = None
) -> OpenAIBackend:
    """`MODEL` of OPENAI_BASE_URL, or `URL#MODEL`.

    Raises OptionError, RequestError, AccessDenied, ModelNotFound, Unreachable.
    """
    take_only(options, (), "openai")
    url, name = parted(model)
    address = _address(url)
    if address.host == "api.openai.com" and not address.key:
        raise AccessDenied(f"openai:{model} is a model of OpenAI's, which wants a key; set OPENAI_API_KEY, or name "
                           "another server, as openai:http://127.0.0.1:8000/v1#MODEL")  # fmt: skip
    return opened(server_of(address, name), f"openai:{model}", name)


def state() -> str:
    """For `slm backends`: what is set. Nothing is asked."""
    base = address_of(*_base())
    if key_of(("OPENAI_API_KEY",))[0]:
        return f"OPENAI_API_KEY is set, for {base.url}"
    if base.url == HOME:
        return "OPENAI_API_KEY is not set; openai:URL#MODEL names any other server"
    return f"{base.url}, without a key, since OPENAI_API_KEY is not set"


def server_of(address: Address, model: str, headers: Mapping[str, str] | None = None, **how: Any) -> Server:
    """The server at an address.   headers: how its key is sent, unless as a bearer token.   how: more of Server."""
    if headers is None:
        headers = {"Authorization": f"Bearer {address.key}"} if address.key else {}
    return Server(
        address.url,
        how.pop("judge", None) or judge(f"model {model}" if model else "such address", address.hint),
        headers,
        address.key,
        address.query,
        silence_s=None if is_loopback(address.host) else SILENCE_S,
        patience_s=PATIENCE_S,
        **how,
    )


def opened(server: Server, name: str, model: str, terms: Terms | None = None) -> OpenAIBackend:
    """A model of a server: the one that is named, else the only one.

    name: as it was asked for.   terms: what the server takes; by what it says of itself unless given.
    """
    listed = listing(server)
    if not model:
        model = _only(server, listed)
    entry = next((each for each in listed or () if each.get("id") == model), {})
    if terms is None:
        owner = (entry or next(iter(listed or ()), {})).get("owned_by")
        terms = OPENAI if server.url == HOME else _OWNERS.get(str(owner), PLAIN)
    return OpenAIBackend(server, name, model, terms, entry)


def listing(server: Server) -> list[Json] | None:
    """The models that a server lists; None if it keeps no list, or not for this key.

    Raises AccessDenied for a key that it does not know, ModelRetired, Busy, Unreachable.
    """

    def judged(_: Server, refusal: Refusal) -> SlmError:
        is_of_the_list = 400 <= refusal.status < 500 and refusal.status not in (401, 410, 429)
        return _NoList() if is_of_the_list else server.judge(server, refusal)

    try:
        found = replace(server, judge=judged).ask("/models", wait_s=LISTING_S).get("data")
    except _NoList:
        return None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else None


class _NoList(SlmError):
    """A server does not list its models."""


class OpenAIBackend:
    """One model of a server.   context: sys.maxsize where the server does not tell."""

    def __init__(
        self,
        server: Server,
        name: str,
        model: str,
        terms: Terms,
        entry: Json,
        more_facts: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        """entry: what the server's list has of it.   more_facts: for `describe`, asked for each time."""
        self.server, self.name, self.model, self.terms = server, name, model, terms
        self.capabilities = terms.capabilities
        self.context = _context(entry) or sys.maxsize
        self.entry, self._more_facts = entry, more_facts
        self._limits: dict[str, str] = {}
        self._is_closed = False

    def generate(self, request: Request) -> Answering:
        """Start the request now. Closing the iterator, or dropping it, cancels the request."""
        if self._is_closed:
            raise RuntimeFailure("this model was closed; load it again")
        self.capabilities.check(request, self.name)
        path, body = body_of(request, self.model, self.name, self.terms)
        return Answering(lambda cancel: self.answer(request, path, body, cancel))

    def answer(
        self, request: Request, path: str, body: Json, cancel: Cancel, headers: Mapping[str, str] | None = None
    ) -> Iterator[Event]:
        """The events of one answer, in the thread that makes them."""
        reading = Reading(self.server, request)
        with self.server.open(path, body, cancel=cancel, headers=headers) as reply:
            self._limits = {name: value for name, value in reply.headers.items() if name.startswith("x-ratelimit-")}
            yield from reading.events(reply)

    def describe(self) -> dict[str, Any]:
        """What the server says of it, and how much it was allowed after the last answer."""
        return {
            "name": self.name,
            "server": str(self.server),
            "model": self.model,
            "context": None if self.context == sys.maxsize else self.context,
            "owner": self.entry.get("owned_by"),
            "rate_limits": dict(self._limits),
            **self._more_facts(),
        }

    def close(self) -> None:
        """Refuse later requests."""
        self._is_closed = True


def _base() -> tuple[str, str]:
    """What OPENAI_BASE_URL says, or OpenAI's own address, and what to call it."""
    return first_set(("OPENAI_BASE_URL",))[1] or HOME, "OPENAI_BASE_URL"


def _address(url: str) -> Address:
    """With its key: OPENAI_API_KEY goes to OPENAI_BASE_URL and nowhere else."""
    base = address_of(*_base())
    address = address_of(url, "the address of an openai: model") if url else base
    variables = ("OPENAI_API_KEY",) if same_place(address, base) else (OWN_KEY,)
    key, hint = key_of(variables)
    if variables == (OWN_KEY,) and not key:
        hint = f"{hint}; OPENAI_API_KEY goes to {base.url} alone"
    return replace(address, key=key, hint=hint)


def _only(server: Server, listed: list[Json] | None) -> str:
    names = [str(each.get("id")) for each in listed or ()]
    if len(names) == 1:
        return names[0]
    there = f"it has {', '.join(names[:12])}" if names else "it lists none"
    raise ModelNotFound(f"{server} is named without a model, and {there}; write URL#MODEL")


def _context(entry: Json) -> int | None:
    found = {**(entry.get("meta") or {}), **entry} if isinstance(entry.get("meta"), dict) else entry
    for name in (*_CONTEXTS, "n_ctx"):
        with suppress(KeyError, TypeError, ValueError):
            if (value := int(found[name])) > 0:
                return value
    return None
