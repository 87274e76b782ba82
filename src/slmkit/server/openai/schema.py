"""What requests in OpenAI's shape may hold. Any field that is not here is refused by its name.

Bounds are those of OpenAI's reference; where ours would allow more, a client that goes beyond is more likely wrong.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from slmkit.options import Options
from slmkit.server import bodies


class Body(bodies.Body):
    """A JSON object whose types are exact; null is the same as leaving a field out."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        return {k: v for k, v in given.items() if v is not None} if isinstance(given, dict) else given


class Asked(Body):
    """What every request for an answer may hold.

    The last block changes no answer: it labels requests for OpenAI's own pages and schedules.
    """

    model: Annotated[str, Field(min_length=1)]
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**64 - 1)] | None = None
    stop: Annotated[str, Field(min_length=1)] | list[Annotated[str, Field(min_length=1)]] | None = None
    stream: bool = False

    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    adapter: str | None = None
    keep_alive: str | float | None = None
    guided_regex: str | None = None
    guided_grammar: str | None = None

    user: str | None = None
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: Literal["auto", "default"] | None = None
    store: Literal[False] | None = None


class StreamOptions(Body):
    include_usage: bool = False
    include_obfuscation: Literal[False] | None = None


class Generating(Asked):
    """What chats and completions share."""

    max_tokens: Annotated[int, Field(ge=0)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    stream_options: StreamOptions | None = None


class Text(Body):
    type: Literal["text"]
    text: str


class ImageUrl(Body):
    """detail: images are read as the model does, which is what "auto" and "high" mean."""

    url: str
    detail: Literal["auto", "high"] | None = None


class Image(Body):
    type: Literal["image_url"]
    image_url: ImageUrl


class CalledFunction(Body):
    name: str
    arguments: str


class ToolCall(Body):
    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None  # left over from a stream


class ChatMessage(Body):
    """name: of a function, beside its result."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Annotated[Text | Image, Field(discriminator="type")]] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None


class Function(Body):
    name: str
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    strict: bool | None = None  # arguments match in either case


class FunctionTool(Body):
    type: Literal["function"]
    function: Function


class FunctionName(Body):
    name: str


class FunctionChoice(Body):
    type: Literal["function"]
    function: FunctionName


class JsonSchema(Body):
    """strict: answers match in either case. A pydantic field cannot be called `schema`."""

    model_config = ConfigDict(populate_by_name=False)

    name: str = "answer"
    description: str | None = None
    strict: bool | None = None
    rules: dict[str, Any] = Field(alias="schema")


class TextFormat(Body):
    type: Literal["text"]


class JsonFormat(Body):
    type: Literal["json_object"]


class SchemaFormat(Body):
    type: Literal["json_schema"]
    json_schema: JsonSchema


class Chat(Generating):
    """POST /v1/chat/completions"""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: Annotated[TextFormat | JsonFormat | SchemaFormat, Field(discriminator="type")] | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: Literal["auto", "none", "required"] | FunctionChoice | None = None
    parallel_tool_calls: bool | None = None
    modalities: list[Literal["text"]] | None = None


class Completion(Generating):
    """POST /v1/completions"""

    prompt: str | list[str] | list[int] | list[list[int]]
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    best_of: Annotated[int, Field(ge=1, le=128)] | None = None


class Embedding(Body):
    """POST /v1/embeddings"""

    model: Annotated[str, Field(min_length=1)]
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None
    keep_alive: str | float | None = None


def options(asked: Asked, **others: Any) -> Options:
    """The options of a request; `others` by the names that they have here.   Raises OptionError."""
    seed = asked.seed
    return Options(
        temperature=asked.temperature,
        top_p=asked.top_p,
        top_k=asked.top_k,
        min_p=asked.min_p,
        repetition_penalty=asked.repetition_penalty,
        seed=seed if seed is None else seed % 2**64,  # OpenAI's may be below 0
        stop=(asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or ()),
        adapter=asked.adapter,
        **others,
    )
