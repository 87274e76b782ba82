"""What a request for a response may hold. Any field that is not here is refused by its name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from slmkit.server.openai.schema import Asked, Body, JsonFormat, TextFormat


class TextPart(Body):
    """annotations, logprobs: of an earlier answer that is sent back; they are not read."""

    type: Literal["input_text", "output_text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class ImagePart(Body):
    type: Literal["input_image"]
    image_url: str
    detail: Literal["auto", "high"] | None = None


class Item(Body):
    """A message, a call that the model made, or what the call gave.   id, status: of an earlier answer."""

    type: Literal["message", "function_call", "function_call_output"] = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: str | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[TextPart] | None = None
    id: str | None = None
    status: str | None = None


class FlatFunction(Body):
    type: Literal["function"]
    name: str
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    strict: bool | None = None  # arguments match in either case


class FlatChoice(Body):
    type: Literal["function"]
    name: str


class FlatSchema(Body):
    type: Literal["json_schema"]
    name: str = "answer"
    description: str | None = None
    strict: bool | None = None  # answers match in either case
    rules: dict[str, Any] = Field(alias="schema")


class TextSettings(Body):
    format: Annotated[TextFormat | JsonFormat | FlatSchema, Field(discriminator="type")] | None = None


class Obfuscation(Body):
    include_obfuscation: Literal[False] | None = None


class Respond(Asked):
    """POST /v1/responses

    include: there is no reasoning to be encrypted, so asking for it changes nothing.
    """

    input: str | Annotated[list[Item], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    text: TextSettings | None = None
    tools: list[FlatFunction] | None = None
    tool_choice: Literal["auto", "none", "required"] | FlatChoice | None = None
    parallel_tool_calls: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    include: list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] | None = None
    truncation: Literal["disabled"] | None = None
    background: Literal[False] | None = None
    stream_options: Obfuscation | None = None
