"""`slm` with a model that answers by a script instead of computing: what the user says decides what happens.

Imported by the tests, and run as a program where a terminal or a process of its own is needed.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import slmkit
from slmkit.cli.main import main
from slmkit.errors import CheckpointError, ContextExceeded, ModelNotFound
from slmkit.events import Chunk, Event, Finished, Logprob, Started, Timing, TokenInfo, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slmkit.request import Request


class FakeModel:
    context = 64

    def __init__(self, name: str, **options: Any) -> None:
        self.name = name
        self.load_options = options
        self.requests: list[Request] = []
        self.n_cancelled = 0
        self.closed = False

    def events(self, request: Request) -> Iterator[Event]:
        self.requests.append(request)
        said = request.messages[-1].content if request.messages is not None else str(request.prompt)
        if said == "too long":
            raise ContextExceeded("the prompt has 70 tokens, over the context of 64; shorten the prompt")
        return self._events(request, said)

    def _events(self, request: Request, said: str) -> Iterator[Event]:
        yield Started(prompt_tokens=5)
        if said == "endless":
            try:
                yield Chunk("It was ")
                threading.Event().wait()
            finally:
                self.n_cancelled += 1
        words = {"escape": ["\x1b[31mred\x9b0m\r\n"], "nothing": [""], "umlaut": ["grün 🐶"]}.get(
            said, ["A d", "", "og."]
        )
        for index in range(request.options.n or 1):
            for id_, word in enumerate(words):
                top = (Logprob(9, "B", -1.5), Logprob(8, "C", float("-inf")))
                token = (
                    TokenInfo(id_, word, -0.5, top) if request.options.logprobs is not None else TokenInfo(id_, word)
                )
                yield Chunk(word, index, (token,))
            usage, reason = Usage(5, len(words), cached_tokens=2), "length" if said == "on" else "stop"
            yield Finished(index, reason, usage, Timing(0.25, 1.25), stop=None if said == "on" else "<|end|>")

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> FakeModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(name: str, progress: Any = None, notice: Any = None, **options: Any) -> FakeModel:
    if name == "./packs":
        progress("packing ./packs", 1, 200_000_000)
        progress("packing ./packs", 200_000_000, 200_000_000)
        notice("context 64 of 128: what fits in 1 GB of memory")
    if name == "./broken":
        raise CheckpointError("./broken/model.safetensors is cut short; fetch it again")
    if name == "./bug":
        raise ZeroDivisionError("by nought")
    if name == "nobody":
        raise ModelNotFound("no model answers to 'nobody'; accepted are tiny and folders")
    return FakeModel(name, **options)


if __name__ == "__main__":
    slmkit.load = load  # type: ignore[assignment]
    sys.exit(main())
