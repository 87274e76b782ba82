"""A request in the words of OpenAI's API; what a server's terms have no word for is refused by name.

Source: https://platform.openai.com/docs/api-reference/chat/create and .../completions/create
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slmkit.backends.base import Capabilities
from slmkit.errors import UnsupportedFeature
from slmkit.options import Options
from slmkit.request import Constraint, Message, Request
from slmkit.text.image_tags import TAG, tagged
from slmkit.vision.picture import open_picture, opened, upright_rgb

MOST_LOGPROBS = 20
CAPABILITIES = Capabilities(
    logprobs=True, logit_bias=True, many=True, images=True, constraint=True, token_ids=True,
)  # fmt: skip
_NAMES = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "n")  # as we call them
# Values that ask for nothing, of options that the API does not have; speculate changes no answer.
_NOTHING: Mapping[str, tuple[Any, ...]] = {
    "beams": (1,), "length_penalty": (1.0,), "ignore_eos": (False,), "stop_ids": ((),), "adapter": ("none",),
    "logit_bias": ({},),
}  # fmt: skip
_SKIPPED = {"max_tokens", "stop", "logprobs", "logit_bias", "speculate"}
_MAGIC = ((b"\x89PNG", "image/png"), (b"\xff\xd8", "image/jpeg"), (b"GIF8", "image/gif"), (b"RIFF", "image/webp"))

Json = dict[str, Any]
Picturing = Callable[[Any, "Json"], Json]  # an image and the body so far -> the part that shows it


@dataclass(frozen=True)
class Terms:
    """What a server takes, beside what OpenAI's reference has.

    extras: our options by its fields.   constraints: fields for kinds that OpenAI's has none for.
    limit: what it calls max_tokens.   tells_usage: whether streams take stream_options.   types: of images.
    """

    extras: Mapping[str, str] = field(default_factory=dict)
    constraints: Mapping[str, str] = field(default_factory=dict)
    limit: str = "max_tokens"
    tells_usage: bool = True
    types: tuple[str, ...] = ("image/png", "image/jpeg", "image/gif", "image/webp")

    @property
    def capabilities(self) -> Capabilities:
        """What a model can be asked for under them."""
        return Capabilities(**{**vars(CAPABILITIES), **dict.fromkeys(self.extras, True)})


PLAIN = Terms()
OPENAI = Terms(limit="max_completion_tokens")  # newer models of its own refuse max_tokens
SLMKIT = Terms(
    {"top_k": "top_k", "min_p": "min_p", "repetition_penalty": "repetition_penalty", "adapter": "adapter"},
    {"regex": "guided_regex", "lark": "guided_grammar"},
)
VLLM = Terms({
    "top_k": "top_k", "min_p": "min_p", "repetition_penalty": "repetition_penalty", "ignore_eos": "ignore_eos",
    "stop_ids": "stop_token_ids",
})  # fmt: skip


# Its penalty on repetitions looks at 64 tokens where ours looks at all.   Source: llama.cpp, tools/server/README.md
LLAMACPP = Terms({"top_k": "top_k", "min_p": "min_p", "ignore_eos": "ignore_eos"})


def body_of(request: Request, model: str, name: str, terms: Terms) -> tuple[str, Json]:
    """The path and the body, streamed.   name: of the model in messages.   Raises UnsupportedFeature, RequestError."""
    o = request.options
    _require_words(request, name, terms)
    body: Json = {"model": model, "stream": True}
    if terms.tells_usage:
        body["stream_options"] = {"include_usage": True}
    body |= {ours: value for ours in _NAMES if (value := getattr(o, ours)) is not None}
    body |= {theirs: _plain(value) for ours, theirs in terms.extras.items() if (value := getattr(o, ours)) is not None}
    if o.max_tokens is not None:
        body[terms.limit if request.messages is not None else "max_tokens"] = o.max_tokens
    if o.stop:
        body["stop"] = list(o.stop)
    if o.logit_bias:
        body["logit_bias"] = {str(id): bias for id, bias in o.logit_bias.items()}
    if request.constraint is not None:
        body |= _format(request.constraint, terms)
    if request.messages is None:
        body["prompt"] = request.prompt if request.ids is None else list(request.ids)
        return "/completions", body if o.logprobs is None else body | {"logprobs": o.logprobs}
    if o.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": o.logprobs}
    body["messages"] = turns(request.messages, terms.types)
    return "/chat/completions", body


def turns(messages: Sequence[Message], types: Sequence[str]) -> list[Json]:
    """The messages; those with images as parts, in the order that their tags say."""
    if not any(message.images for message in messages):
        return [{"role": message.role, "content": message.content} for message in messages]
    placed, images = tagged(messages)
    return [{"role": message.role, "content": _content(message, images, types)} for message in placed]


def data_url(image: Any, types: Sequence[str]) -> str:
    """The image's own file where a service takes its type, else the same pixels as PNG."""
    data, kind = file_of(image, types)
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def file_of(image: Any, types: Sequence[str]) -> tuple[bytes, str]:
    """A file of one of these types, and which it is."""
    picture = open_picture(image)
    data = picture.as_file()
    kind = next((kind for magic, kind in _MAGIC if data.startswith(magic)), "")
    if kind in types:
        return data, kind
    file = io.BytesIO()
    upright_rgb(opened(data, picture.name), picture.name).save(file, "PNG")
    return file.getvalue(), "image/png"


def _content(message: Message, images: Sequence[Any], types: Sequence[str]) -> str | list[Json]:
    texts = TAG.split(message.content)
    if len(texts) == 1:
        return message.content
    parts: list[Json] = [{"type": "text", "text": texts[0]}] if texts[0] else []
    for number, text in zip(texts[1::2], texts[2::2], strict=True):
        parts.append({"type": "image_url", "image_url": {"url": data_url(images[int(number) - 1], types)}})
        if text := text.removeprefix("\n"):  # which stands behind a tag, as servers put it there themselves
            parts.append({"type": "text", "text": text})
    return parts


def _format(constraint: Constraint, terms: Terms) -> Json:
    if constraint.kind == "json":
        return {"response_format": {"type": "json_object"}}
    if constraint.kind == "schema":
        schema = {"name": "answer", "schema": dict(constraint.value), "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    return {terms.constraints[constraint.kind]: constraint.value}


def _require_words(request: Request, name: str, terms: Terms) -> None:
    """Raise UnsupportedFeature naming the first thing asked for that has no word."""
    for option in _without_words(request.options, terms):
        raise _none(name, option)
    constraint = request.constraint
    if constraint is not None and constraint.kind not in ("json", "schema", *terms.constraints):
        raise _none(name, f"constraints of kind {constraint.kind}")
    if constraint is not None and request.messages is None and constraint.kind not in terms.constraints:
        raise _none(name, "constraints of a text that is continued")
    if (request.options.logprobs or 0) > MOST_LOGPROBS:
        raise _none(name, f"more than {MOST_LOGPROBS} logprobs")
    if any(bias == -math.inf for bias in (request.options.logit_bias or {}).values()):
        raise _none(name, "a logit_bias of -inf, but -100, which bans a token as well")
    if any(message.role == "tool" for message in request.messages or ()):
        raise _none(name, "a tool's message without the call that it answers")


def _without_words(options: Options, terms: Terms) -> list[str]:
    known = {*_NAMES, *_SKIPPED, *terms.extras}
    return [
        option
        for option, value in options.set_values().items()
        if option not in known and value not in _NOTHING.get(option, ())
    ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _none(name: str, what: str) -> UnsupportedFeature:
    return UnsupportedFeature(f"{name} runs on a server, whose API does not have {what}; leave it out or load it here")
