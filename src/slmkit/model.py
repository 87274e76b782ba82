"""Model: what `slmkit.load` gives back, for Python users; sync, async, one prompt or many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, overload

from slmkit.backends.base import Backend
from slmkit.backends.registry import open_backend
from slmkit.errors import OptionError
from slmkit.events import Answer, Chunk, Event, collect
from slmkit.options import LoadOptions, Options
from slmkit.request import LogitsProcessor, Message, Request, Scorer, as_messages

Conversation = Sequence["Message | Mapping[str, str]"]


def load(
    name: str = "tiny",
    *,
    threads: int | None = None,
    ctx: int | None = None,
    quantize: str | None = None,
    cache: str | None = None,
    kernels: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    notice: Callable[[str], None] | None = None,
) -> Model:
    """Open a model by name (`tiny`) or folder. The keywords are those of LoadOptions.

    progress(what, done, total) is called while weights are packed; notice(line) with what a person should know, such
    as a context smaller than the model's.   Raises ModelNotFound, ModelError, NotEnoughMemory.
    """
    options = LoadOptions(threads, ctx, quantize, cache, kernels)
    return Model(open_backend(name, options, progress=progress, notice=notice))


class Model:
    """A loaded model. A prompt is a text to continue, or a conversation: a list of Message or {"role", "content"}.

    Every call takes the fields of Options as keywords, and:
    processors: functions (ids, logits) -> logits, applied before sampling.
    scorer: a function (text, ids, log probability) -> number that ranks several answers.
    parse_special: let `<|end|>` and the like in the given text become control tokens.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @property
    def name(self) -> str:
        """The name it was loaded by."""
        return self.backend.name

    @property
    def context(self) -> int:
        """Most tokens of prompt and answer together."""
        return self.backend.context

    def describe(self) -> dict[str, Any]:
        """Architecture, parameters, quantization, bytes, kernels and context."""
        return self.backend.describe()

    def events(self, request: Request) -> Iterator[Event]:
        """Everything that happens while a request is answered. Closing the iterator cancels it."""
        self.backend.capabilities.check(request, self.name)
        return self.backend.generate(request)

    @overload
    def generate(self, prompt: str, **options: Any) -> Answer: ...
    @overload
    def generate(self, prompt: Sequence[str], **options: Any) -> list[Answer]: ...
    def generate(self, prompt: str | Sequence[str], **options: Any) -> Answer | list[Answer]:
        """Continue a text, without a template; or many texts of any lengths at once, as one batch."""
        if isinstance(prompt, str):
            return collect(self.events(_request(prompt, options)))
        started = [self.events(_request(one, options)) for one in prompt]
        return [collect(events) for events in started]

    def chat(self, messages: str | Conversation, **options: Any) -> Answer:
        """Answer a conversation; a string is one user turn."""
        return collect(self.events(_request(as_messages(messages), options)))

    def stream(self, prompt: str | Conversation, **options: Any) -> Iterator[str]:
        """The answer's text as it is made: of a continued text, or of a conversation."""
        events = self.events(_request(prompt, options, single="stream"))
        return (event.text for event in events if isinstance(event, Chunk) and event.text)

    def generator(self, prompt: str | Conversation, **options: Any) -> Generator:
        """A loop of your own over the tokens: `while not g.done: print(g.next().text, end="")`."""
        return Generator(self.events(_request(prompt, options, single="generator")))

    async def agenerate(self, prompt: str | Sequence[str], **options: Any) -> Any:
        """`generate` for asyncio."""
        return await asyncio.to_thread(self.generate, prompt, **options)

    async def achat(self, messages: str | Conversation, **options: Any) -> Answer:
        """`chat` for asyncio."""
        return await asyncio.to_thread(self.chat, messages, **options)

    async def astream(self, prompt: str | Conversation, **options: Any) -> AsyncIterator[str]:
        """`stream` for asyncio. Leaving the loop early cancels the request."""
        events = self.events(_request(prompt, options, single="astream"))
        try:
            while (event := await asyncio.to_thread(next, events, None)) is not None:
                if isinstance(event, Chunk) and event.text:
                    yield event.text
        finally:
            events.close()  # type: ignore[attr-defined]

    def render(self, messages: str | Conversation, parse_special: bool = False) -> Any:
        """The exact prompt of a conversation: `.text` and `.ids`."""
        return self.backend.render(as_messages(messages), parse_special)

    def close(self) -> None:
        """Stop what is running and free the model."""
        self.backend.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Model {self.name!r}, context {self.context}>"


class Generator:
    """One answer, token by token."""

    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events
        self._next = self._advance()

    @property
    def done(self) -> bool:
        """Whether the answer is complete."""
        return self._next is None

    def next(self) -> Chunk:
        """The next token: `.text` is what it adds (whole characters, maybe none yet), `.tokens` its id."""
        if self._next is None:
            raise StopIteration
        chunk, self._next = self._next, self._advance()
        return chunk

    def __iter__(self) -> Iterator[Chunk]:
        while not self.done:
            yield self.next()

    def _advance(self) -> Chunk | None:
        return next((event for event in self._events if isinstance(event, Chunk)), None)


_OPTION_NAMES = {f.name for f in fields(Options)}


def _request(prompt: Any, given: dict[str, Any], single: str = "") -> Request:
    extra: dict[str, Any] = {"parse_special": given.pop("parse_special", False)}
    processors: Sequence[LogitsProcessor] = given.pop("processors", ())
    scorer: Scorer | None = given.pop("scorer", None)
    for name in given:
        if name not in _OPTION_NAMES:
            near = get_close_matches(name, sorted(_OPTION_NAMES), 1)
            raise OptionError(f"there is no option {name!r}; " + (f"is {near[0]!r} meant?" if near else
                              f"the options are {', '.join(sorted(_OPTION_NAMES))}"))  # fmt: skip
    options = Options(**given)
    if single and ((options.n or 1) > 1 or (options.beams or 1) > 1):
        raise OptionError(f"{single} gives one answer token by token; use chat or generate for n or beams above 1")
    field = "prompt" if isinstance(prompt, str) else "messages"
    prompt = prompt if isinstance(prompt, str) else as_messages(prompt)
    return Request(**{field: prompt}, options=options, processors=tuple(processors), scorer=scorer, **extra)
