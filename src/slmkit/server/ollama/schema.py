"""The bodies of Ollama's API. Each field is done, is refused by name, or changes nothing that is answered.

Source: https://docs.ollama.com/api
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Literal

from pydantic import ConfigDict, Field

from slmkit.errors import RequestError
from slmkit.request import Constraint
from slmkit.server import bodies
from slmkit.server.faults import Fault
from slmkit.server.ollama.names import check_name
from slmkit.untrusted import shown

MOST_LOGPROBS = 20


class Body(bodies.Body):
    """What every body has in common."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


class OfModel(Body):
    """A body that names a model; `name` is how clients of the first versions call it."""

    model: str = ""
    name: str = ""

    @property
    def id(self) -> str:
        """The model's name.   Raises Fault where there is none."""
        return check_name(self.model or self.name, "model")


class Asking(OfModel):
    """What /api/generate and /api/chat share."""

    stream: bool | None = None
    format: str | dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    keep_alive: str | float | None = None
    think: bool | str | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MOST_LOGPROBS)
    truncate: bool | None = None  # a prompt that is too long is refused, with both numbers, and never cut
    shift: bool | None = None

    @property
    def constraint(self) -> Constraint | None:
        """What `format` asks for.   Raises Fault."""
        if self.format in (None, ""):
            return None
        if isinstance(self.format, dict):
            return Constraint("schema", self.format)
        if self.format == "json":
            return Constraint("json")
        raise Fault(400, f'format is {shown(self.format)}; it takes "json" or a JSON schema', param="format")

    @property
    def n_logprobs(self) -> int | None:
        """As Options.logprobs has it.   Raises Fault."""
        if self.top_logprobs and not self.logprobs:
            raise Fault(400, "top_logprobs is set and logprobs is not; set logprobs to true", param="top_logprobs")
        return (self.top_logprobs or 0) if self.logprobs else None

    def refuse(self) -> None:
        """Raise Fault for what no model here does."""
        if self.think:
            raise _unsupported("think", "the models here write no thoughts apart from their answer")
        if self.shift:
            raise _unsupported("shift", "an answer ends where the context is full")


class GenerateBody(Asking):
    """POST /api/generate"""

    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    context: list[int] | None = None
    raw: bool | None = None
    images: list[str] | None = None

    def refuse(self) -> None:
        super().refuse()
        if self.suffix:
            raise _unsupported("suffix", "the models here were not trained to fill gaps")
        if self.template:
            raise _unsupported("template", "make a model with one from a Modelfile, or send a whole prompt with raw")
        if self.context:
            raise _unsupported("context", "send the conversation to /api/chat")
        if self.raw and (self.system or self.images):
            raise Fault(400, f"raw takes the prompt as it is; leave out {'system' if self.system else 'images'}")


class CalledFunction(Body):
    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    index: int | None = None  # among the calls of its answer
    description: str | None = None  # nothing that a model reads


class ToolCall(Body):
    """A call as an answer had it; ids came with later versions."""

    function: CalledFunction
    id: str | None = None
    type: Literal["function"] | None = None


class Turn(Body):
    """A message of /api/chat."""

    role: str
    content: str | None = None
    images: list[str] | None = None
    thinking: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class Function(Body):
    name: str
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    strict: bool | None = None  # arguments match in either case


class FunctionTool(Body):
    type: Literal["function"] = "function"
    function: Function


class ChatBody(Asking):
    """POST /api/chat"""

    messages: list[Turn] | None = None
    tools: list[FunctionTool] | None = None

    def refuse(self) -> None:
        super().refuse()
        if any(turn.thinking for turn in self.messages or ()):
            raise _unsupported("messages.thinking", "the models here read no thoughts apart from an answer")


class EmbedBody(OfModel):
    """POST /api/embed"""

    input: str | list[str]
    truncate: bool | None = None  # a text that is too long is refused, and never cut
    options: dict[str, Any] | None = None
    keep_alive: str | float | None = None
    dimensions: int | None = Field(None, ge=1)


class EmbeddingsBody(OfModel):
    """POST /api/embeddings, of Ollama's first versions"""

    prompt: str = ""
    options: dict[str, Any] | None = None
    keep_alive: str | float | None = None


class ShowBody(OfModel):
    """POST /api/show"""

    verbose: bool | None = None
    system: str | None = None  # of the first versions, which ignored them
    template: str | None = None
    options: dict[str, Any] | None = None


class PullBody(OfModel):
    """POST /api/pull; and /api/push"""

    stream: bool | None = None
    insecure: bool | None = None
    username: str | None = None
    password: str | None = None


class CopyBody(Body):
    """POST /api/copy"""

    source: str
    destination: str


class CreateBody(OfModel):
    """POST /api/create"""

    from_: str | None = Field(None, alias="from")
    files: dict[str, str] | None = None
    adapters: dict[str, str] | None = None
    template: str | None = None
    license: str | list[str] | None = None
    system: str | None = None
    parameters: dict[str, Any] | None = None
    messages: list[Turn] | None = None
    stream: bool | None = None
    quantize: str | None = None
    modelfile: str | None = None  # of the first versions: its whole text


def images_of(given: list[str] | None) -> tuple[bytes, ...]:
    """Images as they come in base64.   Raises RequestError."""
    found = []
    for number, text in enumerate(given or (), 1):
        try:
            found.append(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError):
            raise RequestError(
                f"image {number} is not in base64; send the bytes of a file so, and no address"
            ) from None
    return tuple(found)


def _unsupported(field: str, why: str) -> Fault:
    return Fault(400, f"{field} is not supported here: {why}; leave it out", "unsupported_parameter", field)
