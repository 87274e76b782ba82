"""A backend that answers what it was told to, piece by piece, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from slmkit.backends.base import Capabilities
from slmkit.errors import RequestError, SlmError
from slmkit.events import Chunk, Event, Finished, PromptRead, Started, Timing, TokenInfo, Usage
from slmkit.model import Model
from slmkit.options import LoadOptions
from slmkit.request import Request
from slmkit.server.service import Service
from slmkit.server.settings import ServeOptions


class ScriptedBackend:
    """pieces: of each answer's text; an error among them is raised there."""

    name = "scripted"
    capabilities = Capabilities(**dict.fromkeys(Capabilities.__dataclass_fields__, True))
    context = 100

    def __init__(
        self, pieces: Sequence[str | SlmError] = ("Hello",), reason: str = "stop", has_system: bool = True
    ) -> None:
        self.pieces, self.reason, self.has_system = list(pieces), reason, has_system
        self.asked: list[Request] = []
        self.n_closed = 0

    def generate(self, request: Request) -> Iterator[Event]:
        self.asked.append(request)
        return self._events(request)

    def _events(self, request: Request) -> Iterator[Event]:
        prompt = self.tokenize(request.prompt) if request.prompt is not None else request.ids or (1, 2, 3)
        try:
            yield Started(len(prompt))
            if request.prompt_logprobs is not None:
                yield PromptRead(tuple(_token(id, None if n == 0 else -float(n)) for n, id in enumerate(prompt)))
            for index in range(request.options.n or 1):
                for piece in self.pieces:
                    if isinstance(piece, SlmError):
                        raise piece
                    yield Chunk(piece, index, (TokenInfo(7, piece, -0.5, data=piece.encode()),))
                usage = Usage(len(prompt), len(self.pieces), cached_tokens=2)
                yield Finished(index, self.reason, usage, Timing(0.25, 0.5))
        finally:
            self.n_closed += 1

    def embed(self, texts: Sequence[str]) -> Any:
        return np.array([[len(text), 0.5] for text in texts], np.float32)

    def tokenize(self, text: str, parse_special: bool = False) -> list[int]:
        return list(text.encode())

    def detokenize(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode()

    def describe(self) -> dict[str, Any]:
        return {}

    def render(self, messages: Any, parse_special: bool = False) -> Any:
        if not self.has_system and any(message.role == "system" for message in messages):
            raise RequestError("this model's chat template has no place for a system message")

    def close(self) -> None: ...


def _token(id: int, logprob: float | None) -> TokenInfo:
    return TokenInfo(id, chr(id), logprob, data=bytes([id]))


class ScriptedService(Service):
    """Has one model, called `scripted`, that runs on the given backend."""

    def __init__(self, backend: ScriptedBackend, options: ServeOptions | None = None) -> None:
        super().__init__(("scripted",), options or ServeOptions(), LoadOptions())
        self.backend = backend

    def _open(self, name: str) -> Model:
        return Model(self.backend)
