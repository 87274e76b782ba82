"""A model of NVIDIA NIM: hosted at build.nvidia.com, or in a container of one's own.

Sources: docs.api.nvidia.com, docs.nvidia.com/nim/large-language-models (2.0.1); the failures as met by others are cited
in tests/backends/test_nim.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slmkit.backends import openai_request
from slmkit.backends.address import Address, address_of, first_set, key_of, parted
from slmkit.backends.answering import Cancel
from slmkit.backends.faults import judge
from slmkit.backends.http import KNOCK_S, Refusal, Server
from slmkit.backends.nim_assets import as_assets, needs_assets
from slmkit.backends.openai import OpenAIBackend, opened, server_of
from slmkit.backends.openai_request import Json, Terms
from slmkit.backends.registry import take_only
from slmkit.errors import AccessDenied, ModelNotFound, RuntimeFailure, SlmError
from slmkit.weights.names import SHORT_NAMES

if TYPE_CHECKING:
    from slmkit.events import Event
    from slmkit.options import LoadOptions
    from slmkit.request import Request
    from slmkit.weights.telling import Notice, Progress

HOSTED = "https://integrate.api.nvidia.com/v1"
KEYS = ("NVIDIA_API_KEY", "NVIDIA_NIM_API_KEY", "NIM_API_KEY")  # NVIDIA's own name, LiteLLM's, ai-sdk's
BASES = ("NIM_BASE_URL", "NVIDIA_NIM_API_BASE")
OWN_KEYS = ("NIM_API_KEY",)  # of a container: the others are NVIDIA's, and nobody else's to see
CAPABILITIES = openai_request.CAPABILITIES
_TERMS = Terms(types=("image/png", "image/jpeg"))


def open_model(
    model: str, options: LoadOptions, progress: Progress | None = None, notice: Notice | None = None
) -> OpenAIBackend:
    """`MODEL` of the container at NIM_BASE_URL, else of NVIDIA's service; or `URL#MODEL`.

    A short name such as phi3.5-vision is written as NVIDIA's ids are: microsoft/phi-3.5-vision-instruct.
    Raises OptionError, RequestError, AccessDenied, ModelNotFound, ModelRetired, Unreachable.
    """
    take_only(options, (), "nim")
    url, name = parted(model)
    name = SHORT_NAMES.get(name, name)
    name = name.lower() if name in SHORT_NAMES.values() else name
    address = _address(url)
    if is_hosted(address) and not address.key:
        raise AccessDenied(f"nim:{model} runs at {address.url}, which wants a key; set {' or '.join(KEYS)}, or "
                           "NIM_BASE_URL for a container of your own")  # fmt: skip
    server = server_of(address, name, judge=judge(f"model {name}", address.hint, refused))
    found = opened(server, f"nim:{model}", name, _TERMS if is_hosted(address) else None)
    if is_hosted(address):
        return HostedBackend(found.server, found.name, found.model, found.terms, found.entry, notice)
    return OpenAIBackend(
        found.server, found.name, found.model, found.terms, found.entry, lambda: container_facts(found.server)
    )


def state() -> str:
    """For `slm backends`: a container of one's own is asked whether it is ready, NVIDIA's service is not."""
    variable, base = first_set(BASES)
    if base:
        try:
            address = address_of(base, variable)
            ready = _health(server_of(address, "")).get("ready", "not ready, or not there")
        except SlmError as error:
            return str(error)
        return f"{variable} is {address.url}: {ready}"
    name, _ = first_set(KEYS)
    return f"{name} is set, for {HOSTED}" if name else f"neither NIM_BASE_URL nor one of {', '.join(KEYS)} is set"


def is_hosted(address: Address) -> bool:
    """Whether it is NVIDIA's service, and no container."""
    return address.host.endswith(".nvidia.com")


class HostedBackend(OpenAIBackend):
    """A model of NVIDIA's service, which takes images over 180 KB apart from the request."""

    def __init__(
        self, server: Server, name: str, model: str, terms: Terms, entry: Json, notice: Notice | None = None
    ) -> None:
        super().__init__(server, name, model, terms, entry)
        self._notice = notice

    def answer(
        self, request: Request, path: str, body: Json, cancel: Cancel, headers: Mapping[str, str] | None = None
    ) -> Iterator[Event]:
        if not needs_assets(body):
            yield from super().answer(request, path, body, cancel, headers)
            return
        with as_assets(self.server, body, cancel, self._notice) as (told, references):
            yield from super().answer(request, path, told, cancel, {**(headers or {}), **references})


def container_facts(server: Server) -> dict[str, Any]:
    """Health and metadata of a container, as far as it tells them."""
    found: dict[str, Any] = {"health": _health(server)}
    with suppress(SlmError):
        told = _once(server).ask("/metadata", wait_s=KNOCK_S)
        names = ("version", "modelInfo", "selectedModelProfileId", "licenseInfo", "repository_override")
        found["metadata"] = {name: told[name] for name in names if name in told}
    return found


def refused(server: Server, refusal: Refusal) -> SlmError | None:
    """What NVIDIA's service says in its own way."""
    text = refusal.text
    if refusal.status == 404 and text.startswith("Function") and "ot found for account" in text:
        return ModelNotFound(
            f"NVIDIA lists the model, and does not serve it to the account of this key ({text}); use another model of "
            "/v1/models, or a key of another account"
        )
    if refusal.status == 400 and "DEGRADED" in text:
        return RuntimeFailure(f"NVIDIA does not run the model at the moment ({text}); ask again later")
    return None


def _health(server: Server) -> dict[str, str]:
    """What a container says at /v1/health/ready and /v1/health/live."""
    found = {}
    for name in ("ready", "live"):
        with suppress(SlmError):
            found[name] = str(_once(server).ask(f"/health/{name}", wait_s=KNOCK_S).get("message"))
    return found


def _once(server: Server) -> Server:
    """One that is asked once: a container that is not ready says so by a 503."""
    return replace(server, patience_s=0.0, connect_s=KNOCK_S)


def _address(url: str) -> Address:
    variable, base = first_set(BASES)
    text = url or base or HOSTED
    address = address_of(text, "the address of a nim: model" if url else variable or "the address")
    key, hint = key_of(KEYS if is_hosted(address) else OWN_KEYS)
    return replace(address, key=key, hint=hint)
