"""A model in Azure: a deployment of AI Foundry (openai/v1), an older serverless host, or a managed endpoint.

Which one it is shows in the address. Sources: learn.microsoft.com, Azure OpenAI v1 API; Azure/azureml-assets, the
models called phi-3*; for managed endpoints azure_scoring.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from slmkit.backends.address import Address, address_of, first_set, key_of, parted, same_place
from slmkit.backends.azure_scoring import ScoringBackend
from slmkit.backends.openai import OpenAIBackend, server_of
from slmkit.backends.openai_request import CAPABILITIES as _ALL
from slmkit.backends.openai_request import Terms
from slmkit.backends.registry import take_only
from slmkit.errors import AccessDenied, ModelNotFound, RequestError
from slmkit.weights.names import PUBLISHED

if TYPE_CHECKING:
    from slmkit.options import LoadOptions
    from slmkit.weights.telling import Notice, Progress

CAPABILITIES = _ALL
# Address and key, in the order in which they are looked for: the API that is alive, the names of Microsoft's courses,
# LiteLLM's names.
PAIRS = (
    ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY"),
    ("AZURE_INFERENCE_ENDPOINT", "AZURE_INFERENCE_CREDENTIAL"),
    ("AZURE_AI_API_BASE", "AZURE_AI_API_KEY"),
)
RETIRED = "2025-08-30"  # of all of Phi-3 and Phi-3.5; Azure/azureml-assets at 4b41f8ccb, InferenceRetirementDate
_RESOURCES = (".openai.azure.com", ".services.ai.azure.com", ".cognitiveservices.azure.com")
_SERVERLESS = (".models.ai.azure.com", ".inference.ai.azure.com")
_SERVERLESS_TERMS = Terms(tells_usage=False)  # they refused fields that they did not know


def open_model(
    model: str, options: LoadOptions, progress: Progress | None = None, notice: Notice | None = None
) -> OpenAIBackend | ScoringBackend:
    """`DEPLOYMENT` at the address in a variable, or `URL#DEPLOYMENT`.

    Nothing is asked before the first request: deployments are not listed to whoever may use them.
    Raises OptionError, RequestError, AccessDenied.
    """
    take_only(options, (), "azure")
    url, deployment = parted(model)
    address = _address(url)
    if not address.key:
        raise AccessDenied(
            f"azure:{model} runs at {address.url}, which wants a key, and {address.hint.split('since ')[-1]}"
        )
    if notice:
        _tell(address, deployment, notice)
    return _opened(address, f"azure:{model}", deployment)


def state() -> str:
    """For `slm backends`: what is set. Nothing is asked."""
    for endpoint, key in PAIRS:
        if first_set((endpoint,))[0]:
            return f"{endpoint} is set, and {key} is{'' if first_set((key,))[0] else ' not'}"
    return f"none of {', '.join(endpoint for endpoint, _ in PAIRS)} is set; azure:URL#DEPLOYMENT names an address"


def base_of(address: Address) -> Address:
    """The address that requests go to, by the kind of host.   Scoring addresses, and all others, stay as they are."""
    parts = urlsplit(address.url)
    if address.host.endswith(_RESOURCES) and parts.path in ("", "/models", "/openai"):
        return replace(address, url=f"{parts.scheme}://{parts.netloc}/openai/v1", query={})
    if address.host.endswith(_SERVERLESS) and not parts.path:
        return replace(address, url=f"{address.url}/v1")
    return address


def headers_of(address: Address) -> dict[str, str]:
    """A key of a resource has a header of its own; one of an endpoint, and a token of Entra ID, are bearer tokens."""
    if address.host.endswith(_RESOURCES) and not _is_token(address.key):
        return {"api-key": address.key}
    return {"Authorization": f"Bearer {address.key}"}


def _opened(address: Address, name: str, deployment: str) -> OpenAIBackend | ScoringBackend:
    address = base_of(address)
    server = server_of(address, deployment, headers_of(address))
    if urlsplit(address.url).path.endswith("/score"):
        return ScoringBackend(server, name, deployment)
    if not deployment and not address.host.endswith(_SERVERLESS):
        raise ModelNotFound(f"{name} names no deployment; write azure:DEPLOYMENT or azure:URL#DEPLOYMENT")
    terms = _SERVERLESS_TERMS if address.host.endswith(_SERVERLESS) else Terms()
    return OpenAIBackend(server, name, deployment or "default", terms, {})


def _address(url: str) -> Address:
    """With the key of its pair of variables."""
    if not url:
        for endpoint, variable in PAIRS:
            if found := first_set((endpoint,))[1]:
                key, hint = key_of((variable,))
                return replace(address_of(found, endpoint), key=key, hint=f"the address is that of {endpoint}, {hint}")
        names = ", or ".join(f"{endpoint} and {key}" for endpoint, key in PAIRS)
        raise RequestError(f"azure: has no address to ask; set {names} (looked for in this order), or write "
                           "azure:URL#DEPLOYMENT")  # fmt: skip
    address = address_of(url, "the address of an azure: model")
    fitting = [variable for endpoint, variable in PAIRS if _fits(address, endpoint)]
    key, hint = key_of(fitting) if fitting else ("", "every key that is set is for another address")
    return replace(address, key=key, hint=hint)


def _fits(address: Address, endpoint: str) -> bool:
    """Whether the key of a pair is for this address: its own one is not set, or the same."""
    found = first_set((endpoint,))[1]
    return not found or same_place(address_of(found, endpoint), address)


def _tell(address: Address, deployment: str, notice: Notice) -> None:
    """What is known of the model, and of the address, before anything is asked."""
    names = {id.partition("/")[2].lower() for id in PUBLISHED}
    if deployment.lower() in names and not address.url.endswith("/score"):
        notice(f"Azure's catalogue retired {deployment} as a service on {RETIRED}; a deployment of your own may go on")
    if urlsplit(address.url).path == "/models" and address.host.endswith(_RESOURCES):
        notice("Azure retired the API under /models on 2026-08-26; the request goes to /openai/v1 instead")


def _is_token(key: str) -> bool:
    return key.startswith("eyJ") and key.count(".") == 2
