"""What clients of Anthropic's Messages API send: https://docs.anthropic.com/en/api/messages"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from slmkit.server import bodies


class Strict(bodies.Body):
    """Nothing is converted, and a field that is not here is refused by name."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Cached(Strict):
    """A block that may ask to be cached: prompts that begin alike share what was read of them, asked or not."""

    cache_control: dict[str, Any] | None = None


class Text(Cached):
    type: Literal["text"]
    text: str
    citations: None = None


class Base64(Strict):
    type: Literal["base64"]
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: str


class Url(Strict):
    type: Literal["url"]
    url: str


class Image(Cached):
    type: Literal["image"]
    source: Annotated[Base64 | Url, Field(discriminator="type")]


class ToolUse(Cached):
    """A call that the model made in an earlier turn."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


Seen = Annotated[Text | Image, Field(discriminator="type")]


def _kind(value: Any) -> str:
    """Tells a text from a list of blocks, so that errors speak of what was meant."""
    return "text" if isinstance(value, str) else "blocks"


class ToolResult(Cached):
    """What that call gave."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: Annotated[
        Annotated[str, Tag("text")] | Annotated[list[Seen], Tag("blocks")], Discriminator(_kind)
    ] = ""  # fmt: skip
    is_error: bool = False


Block = Annotated[Text | Image | ToolUse | ToolResult, Field(discriminator="type")]


class Turn(Strict):
    """One message."""

    role: Literal["user", "assistant"]
    content: Annotated[Annotated[str, Tag("text")] | Annotated[list[Block], Tag("blocks")], Discriminator(_kind)]


class Tool(Cached):
    """A function that the model may call. Tools that a server runs (`web_search` and the like) there are none.

    strict: every call matches its schema, asked or not.   eager_input_streaming: every input is streamed as it comes.
    """

    type: Literal["custom"] | None = None
    name: str
    description: str = ""
    input_schema: dict[str, Any]
    strict: bool = False
    eager_input_streaming: bool | None = None


class AnyTool(Strict):
    """auto: the model decides; any: it calls one of them at least."""

    type: Literal["auto", "any"]
    disable_parallel_tool_use: bool = False


class ThisTool(Strict):
    type: Literal["tool"]
    name: str
    disable_parallel_tool_use: bool = False


class NoTool(Strict):
    type: Literal["none"]


class JsonFormat(Strict):
    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]


class OutputConfig(Strict):
    """What the answer must match."""

    format: JsonFormat | None = None


class Metadata(Strict):
    user_id: str | None = None


class Thinking(Strict):
    """Models here do not think apart from their answer; that alone can be said."""

    type: Literal["disabled"]


class Conversation(Strict):
    """What both endpoints take."""

    model: str
    messages: Annotated[list[Turn], Field(min_length=1)]
    system: Annotated[
        Annotated[str, Tag("text")] | Annotated[list[Text], Tag("blocks")], Discriminator(_kind)
    ] = ""  # fmt: skip
    tools: list[Tool] = Field(default_factory=list)
    tool_choice: Annotated[AnyTool | ThisTool | NoTool, Field(discriminator="type")] | None = None
    output_config: OutputConfig | None = None
    thinking: Thinking | None = None
    cache_control: dict[str, Any] | None = None


class Body(Conversation):
    """POST /v1/messages."""

    max_tokens: Annotated[int, Field(ge=1)]
    stop_sequences: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    stream: bool = False
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
