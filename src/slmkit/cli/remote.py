"""A server that runs already: found, and asked whether it has a model loaded, which then answers from there."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from slmkit.backends.ollama_server import OllamaServer
from slmkit.cli import terminal
from slmkit.cli.address import at_address
from slmkit.cli.settings import settings
from slmkit.errors import AccessDenied, Busy, RequestError, SlmError, UnsupportedFeature
from slmkit.options import LoadOptions
from slmkit.server.settings import ServeOptions

if TYPE_CHECKING:
    from slmkit.model import Model
    from slmkit.request import Request

PLACES = (("127.0.0.1", 8000), ("127.0.0.1", 11434))  # where `slm serve` is, and where clients of Ollama look


def find_server(
    places: tuple[tuple[str, int], ...] | None = None,
) -> tuple[OllamaServer, list[dict[str, Any]]] | None:
    """The first server that answers, and the models that it has loaded; None if there is none.

    places: as of _servers.
    """
    for server in _servers(places):
        try:
            if server.is_there():
                return server, server.running()
        except SlmError:
            continue
    return None


def required_server() -> tuple[OllamaServer, list[dict[str, Any]]]:
    """As find_server.   Raises RequestError if there is none, AccessDenied or Busy with what one says that refuses."""
    servers = _servers()
    refusals: list[SlmError] = []
    for server in servers:
        try:
            return server, server.running()
        except AccessDenied as error:
            said = f"the server at {server} refuses: {error}; slm sends the key in SLMKIT_API_KEY"
            refusals.append(AccessDenied(said))
        except Busy as error:
            refusals.append(Busy(f"the server at {server} refuses: {error}", error.retry_after_s))
        except SlmError:
            continue
    if refusals:
        raise refusals[0]
    raise RequestError(
        f"no server answers at {' or '.join(map(str, servers))}; `slm serve` starts one, and SLMKIT_HOST says where "
        "one is, such as 127.0.0.1:9000"
    )


def _servers(places: tuple[tuple[str, int], ...] | None = None) -> list[OllamaServer]:
    """Where a server may be.   Raises OptionError.

    places: where to look unless an address is set (SLMKIT_HOST, SLMKIT_PORT, config file); all usual ones by default.
    """
    nothing = argparse.Namespace()
    if any(s.source for s in settings(ServeOptions, nothing) if s.name in ("host", "port")):
        options = at_address(nothing)
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(options.host, options.host)
        places = ((host, options.port),)
    key = os.environ.get("SLMKIT_API_KEY", "").strip()
    return [OllamaServer(host, port, key) for host, port in (PLACES if places is None else places)]


def same_name(asked: str, running: str) -> bool:
    """Whether a server's name for a model is the one that was asked for."""
    return asked.removesuffix(":latest") == running.removesuffix(":latest")


def running_model(name: str, request: Request, load_options: LoadOptions, *, quiet: bool) -> Model | None:
    """The model of that name in a server that has it loaded, if the request can be put to it, which is said.

    None for a model of our own, also wherever an option of loading is set, and for logprobs: servers tell no ids.
    """
    from slmkit.backends.ollama import OllamaBackend, require_words
    from slmkit.model import Model

    if load_options != LoadOptions() or request.options.logprobs is not None:
        return None
    try:
        require_words(request, name)
    except UnsupportedFeature:
        return None
    server, models = find_server(PLACES[:1]) or (None, [])  # at the other place is Ollama, whose models are others
    for model in models:
        if server and same_name(name, model["name"]):
            context = model.get("context_length")
            backend = OllamaBackend(server, name, context if isinstance(context, int) and context else sys.maxsize)
            if not quiet:
                terminal.say(f"{name} is loaded in the server at {server}, which answers")
            return Model(backend)
    return None
