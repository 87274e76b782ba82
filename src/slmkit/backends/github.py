"""GitHub Models, which GitHub retired on 2026-07-30: said, with what replaces it. Other servers of its API go on.

Source: github.blog/changelog/2026-07-30-github-models-is-now-retired
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from slmkit.backends import openai_request
from slmkit.backends.address import OWN_KEY, address_of, key_of, parted
from slmkit.backends.faults import judge
from slmkit.backends.http import Refusal, Server
from slmkit.backends.local_names import local_name
from slmkit.backends.openai import OpenAIBackend, opened, server_of
from slmkit.backends.registry import take_only
from slmkit.errors import ModelRetired, SlmError

if TYPE_CHECKING:
    from slmkit.options import LoadOptions
    from slmkit.weights.telling import Notice, Progress

RETIRED = "2026-07-30"
CAPABILITIES = openai_request.CAPABILITIES
_HOSTS = ("models.github.ai", "models.inference.ai.azure.com")


def open_model(
    model: str, options: LoadOptions, progress: Progress | None = None, notice: Notice | None = None
) -> OpenAIBackend:
    """`URL#MODEL` of a server with the same API; without an address there is none any more.

    GITHUB_TOKEN is sent nowhere: there is no server left that it is for.
    Raises OptionError, RequestError, ModelRetired, Unreachable.
    """
    take_only(options, (), "github")
    url, name = parted(model)
    if not url:
        raise _retired(name)
    address = address_of(url, "the address of a github: model")
    if address.host in _HOSTS:
        raise _retired(name)
    key, hint = key_of((OWN_KEY,))

    def refused(server: Server, refusal: Refusal) -> SlmError | None:
        # "temporarily unavailable", says the body, with a code of the brownouts that went before
        return _retired(name) if refusal.status == 410 else None

    server = server_of(replace(address, key=key, hint=hint), name, judge=judge(f"model {name}", hint, refused))
    return opened(server, f"github:{model}", name)


def state() -> str:
    """For `slm backends`."""
    return f"retired by GitHub on {RETIRED}; github:URL#MODEL still asks another server of its API"


def _retired(name: str) -> ModelRetired:
    here = local_name(name)
    run = f"run it here (slm run {here})" if here else "run a model here (slm models lists them)"
    return ModelRetired(
        f"GitHub Models was retired on {RETIRED}, and answers nothing any more; {run}, or use "
        "azure:DEPLOYMENT or nim:MODEL"
    )
