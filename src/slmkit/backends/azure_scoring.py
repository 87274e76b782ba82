"""A model behind a managed endpoint of Azure Machine Learning: one question, one answer, no stream.

Text, vision and mixtures of experts take the same body, since all three are of the task chat-completion.
Sources: Azure/azureml-assets, assets/models/system/phi-3.5-moe-128k-instruct/MLmodel (the task), and the scoring script
of its foundation-model environment, which reads input_data.input_string and parameters (the body);
microsoft/PhiCookBook, E2E_Phi-3-FineTuning_PromptFlow_Integration.md (body, answer)
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from slmkit.backends.answering import Answering, Cancel
from slmkit.backends.base import Capabilities
from slmkit.backends.http import Server
from slmkit.backends.openai_request import PLAIN, turns
from slmkit.errors import RuntimeFailure, UnsupportedFeature
from slmkit.events import Chunk, Event, Finished, Started, Timing, Usage

if TYPE_CHECKING:
    from slmkit.request import Request

CAPABILITIES = Capabilities(
    completion=False, seed=False, stop=False, presence_penalty=False, frequency_penalty=False, images=True
)
_NAMES = {"temperature": "temperature", "top_p": "top_p", "max_tokens": "max_new_tokens"}


class ScoringBackend:
    """One endpoint.   context: sys.maxsize, since it does not tell."""

    capabilities = CAPABILITIES
    context = sys.maxsize

    def __init__(self, server: Server, name: str, deployment: str) -> None:
        """deployment: that of the endpoint which is to answer; "" leaves it to the endpoint."""
        self.server, self.name, self.deployment = server, name, deployment
        self._is_closed = False

    def generate(self, request: Request) -> Answering:
        """Start the request now. Closing the iterator, or dropping it, cancels the request."""
        if self._is_closed:
            raise RuntimeFailure("this model was closed; load it again")
        self.capabilities.check(request, self.name)
        body = body_of(request, self.name)
        return Answering(lambda cancel: self._answer(body, cancel))

    def describe(self) -> dict[str, Any]:
        """Which endpoint it is: there is nothing to ask it."""
        return {"name": self.name, "server": str(self.server), "model": self.deployment or None, "context": None}

    def close(self) -> None:
        """Refuse later requests."""
        self._is_closed = True

    def _answer(self, body: dict[str, Any], cancel: Cancel) -> Iterator[Event]:
        """Nobody tells why an answer ended, nor how many tokens it has."""
        began = time.perf_counter()
        headers = {"azureml-model-deployment": self.deployment} if self.deployment else {}
        with self.server.open("", body, cancel=cancel, headers=headers) as reply:
            yield Started(0)
            text = _text(reply.object(), self.server)
        took = time.perf_counter() - began
        yield Chunk(text)
        yield Finished(0, "stop", Usage(0, 0), Timing(took, took))


def body_of(request: Request, name: str) -> dict[str, Any]:
    """What the endpoint is sent.   Raises UnsupportedFeature for an option that it has no parameter for."""
    set_ = request.options.set_values()
    for option, value in set_.items():
        if option not in _NAMES and (option, value) not in (("n", 1), ("beams", 1)):
            raise UnsupportedFeature(
                f"{name} runs on a managed endpoint, which does not have {option}; leave it out or use another backend"
            )
    parameters = {theirs: set_[ours] for ours, theirs in _NAMES.items() if ours in set_}
    if "temperature" in parameters:
        parameters["do_sample"] = parameters["temperature"] > 0
    messages = turns(request.messages or (), PLAIN.types)
    return {"input_data": {"input_string": messages, "parameters": parameters}}


def _text(found: dict[str, Any], server: Server) -> str:
    if isinstance(found.get("output"), str):
        return str(found["output"])
    raise RuntimeFailure(
        f'the endpoint at {server} answers in another form than {{"output": text}}; is the model one for chats?'
    )
