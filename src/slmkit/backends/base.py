"""The seam: what every runtime and cloud looks like from above."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

from slmkit.errors import UnsupportedFeature
from slmkit.events import Event

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from slmkit.request import Message, Request


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do; the rest is refused by name."""

    chat: bool = True
    completion: bool = True
    seed: bool = True
    stop: bool = True
    top_p: bool = True
    presence_penalty: bool = True
    frequency_penalty: bool = True
    token_ids: bool = False
    logprobs: bool = False
    beams: bool = False
    logit_bias: bool = False
    processors: bool = False
    scorer: bool = False
    top_k: bool = False
    min_p: bool = False
    repetition_penalty: bool = False
    repetition_window: bool = False
    parse_special: bool = False
    ignore_eos: bool = False
    stop_ids: bool = False
    many: bool = False  # n answers of one request
    images: bool = False
    adapter: bool = False
    constraint: bool = False
    deadline: bool = False
    prompt_logprobs: bool = False

    def check(self, request: Request, backend: str) -> None:
        """Raise UnsupportedFeature naming the first thing asked for that this backend lacks."""
        o = request.options
        asked = {
            "chat": request.messages is not None,
            "completion": request.prompt is not None,
            "seed": o.seed is not None,
            "stop": bool(o.stop),
            "top_p": o.top_p not in (None, 1.0),
            "presence_penalty": bool(o.presence_penalty),
            "frequency_penalty": bool(o.frequency_penalty),
            "token_ids": request.ids is not None,
            "logprobs": o.logprobs is not None,
            "beams": (o.beams or 1) > 1,
            "logit_bias": bool(o.logit_bias),
            "processors": bool(request.processors),
            "scorer": request.scorer is not None,
            "top_k": bool(o.top_k),
            "min_p": bool(o.min_p),
            "repetition_penalty": o.repetition_penalty not in (None, 1.0),
            "repetition_window": bool(o.repetition_window),
            "parse_special": request.parse_special,
            "ignore_eos": bool(o.ignore_eos),
            "stop_ids": bool(o.stop_ids),
            "many": (o.n or 1) > 1,
            "adapter": o.adapter not in (None, "none"),
            "constraint": request.constraint is not None,
            "deadline": request.deadline_s is not None,
            "prompt_logprobs": request.prompt_logprobs is not None,
            "images": any(message.images for message in request.messages or ()),
        }
        for f in fields(self):
            if asked[f.name] and not getattr(self, f.name):
                if f.name == "images":
                    raise UnsupportedFeature(
                        f"{backend} reads text alone, and the conversation has an image; leave it out, or use a vision "
                        "model such as phi3.5-vision"
                    )
                raise UnsupportedFeature(f"{backend} does not have {f.name}; leave it out or use another backend")


@dataclass(frozen=True)
class Stats:
    """What a backend does now, and has done since it was made.

    running, waiting: requests.   blocks_used, blocks: of its cache, in use and in all.
    prompt_tokens: of prompts that were read to their end.   reused_tokens: those of them that were found in the cache.
    preemptions: how often a request had to give its blocks to an earlier one.   steps: of the model.
    """

    running: int = 0
    waiting: int = 0
    blocks_used: int = 0
    blocks: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    generated_tokens: int = 0
    preemptions: int = 0
    steps: int = 0


class Events(Iterator[Event], Protocol):
    """Started, then Chunks, then one Finished for each choice; an error of the request is raised by `next`.

    One that can also be read without a waiting thread has `ready`, `listen` and `ended` (engine/worker.py).
    """

    def close(self) -> None:
        """Cancel the request; nothing more comes of it."""


class Backend(Protocol):
    """One runtime with one model.   context: most tokens of prompt and answer together."""

    name: str
    capabilities: Capabilities
    context: int

    def generate(self, request: Request) -> Events:
        """Start the request now. Closing the iterator, or dropping it, cancels the request."""

    def describe(self) -> dict[str, Any]:
        """Facts about the model, for people and programs."""

    def close(self) -> None:
        """Free the model; later requests are refused."""


class OwnBackend(Backend, Protocol):
    """One whose model is in this process, so that its template, tokenizer and figures are at hand."""

    def render(self, messages: Sequence[Message], parse_special: bool = False) -> Any:
        """The exact prompt of a conversation: `.text` and `.ids`."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(len(texts), hidden): the mean of the last hidden states, after the final norm, over each text's tokens."""

    def tokenize(self, text: str) -> tuple[int, ...]:
        """The ids of a text to continue, with what the checkpoint puts before one."""

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of ids; control tokens have none."""

    def stats(self) -> Stats:
        """What it does now, and has done; any thread may ask, at no cost."""
