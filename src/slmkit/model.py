"""Model: what `slmkit.load` gives back, for Python users; sync, async, one prompt or many."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, overload

from slmkit.backends.registry import open_backend
from slmkit.errors import OptionError, RequestError, UnsupportedFeature
from slmkit.events import Answer, Chunk, Event, Finished, collect
from slmkit.options import LoadOptions, Options
from slmkit.request import Message, Request, as_messages

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from slmkit.backends.base import Backend, Events, Stats

Conversation = Sequence["Message | Mapping[str, str]"]


def load(
    name: str | os.PathLike[str] = "tiny",
    *,
    threads: int | None = None,
    ctx: int | None = None,
    quantize: str | None = None,
    cache: str | None = None,
    kernels: str | None = None,
    memory: str | None = None,
    offline: bool | None = None,
    adapters: Mapping[str, str] | str | os.PathLike[str] | None = None,
    private_urls: bool | None = None,
    prompt_cache: str | None = None,
    prompt_store_mb: int | None = None,
    device: str | None = None,
    queue: int | None = None,
    fallback: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    notice: Callable[[str], None] | None = None,
) -> Model:
    """Open a model: `tiny`, a folder or GGUF file, a name of the hub (fetched when needed), `ollama-store:NAME`.

    The keywords are those of LoadOptions.   progress(what, done, total) is called while files are fetched and weights
    are packed; notice(line) with what a person should know, such
    as a context smaller than the model's.   Raises ModelNotFound, ModelError, NotEnoughMemory.
    """
    given: Any = adapters  # a path alone, too
    options = LoadOptions(
        threads,
        ctx,
        quantize,
        cache,
        kernels,
        memory,
        offline,
        given,
        private_urls,
        prompt_cache,
        prompt_store_mb,
        device,
        queue,
        fallback,
    )
    named = os.fspath(name) if isinstance(name, os.PathLike) else name
    return Model(open_backend(named, options, progress=progress, notice=notice))


class Model:
    """A loaded model. A prompt is a text to continue, or a conversation: a list of Message or {"role", "content"}.

    Every call takes the fields of Options as keywords, and:
    processors: functions (ids, logits) -> logits, applied before sampling.
    scorer: a function (text, ids, log probability) -> number that ranks several answers.
    parse_special: let `<|end|>` and the like in the given text become control tokens.
    constraint: a Constraint, what the answer must match.
    deadline_s: seconds from now after which the request ends with DeadlineExceeded.
    prompt_logprobs: report each prompt token's log probability and so many alternatives, as the answer's `prompt`.
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

    def events(self, request: Request) -> Events:
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
            return self._answer(_request(prompt, options))
        started: list[Events] = []
        try:
            for one in [_request(each, options) for each in prompt]:
                started.append(self.events(one))
            return [collect(events) for events in started]
        finally:
            for events in started:
                events.close()

    def chat(self, messages: str | Conversation, **options: Any) -> Answer:
        """Answer a conversation; a string is one user turn.   images: a list, added to the last message."""
        return self._answer(_request(_conversation(messages, options), options))

    def stream(self, prompt: str | Conversation, **options: Any) -> Iterator[str]:
        """The answer's text as it is made: of a continued text, or of a conversation. Closing it cancels."""
        return _texts(self.events(_request(prompt, options, single="stream")))

    def generator(self, prompt: str | Conversation, **options: Any) -> Generator:
        """A loop of your own over the tokens: `while not g.done: print(g.next().text, end="")`."""
        return Generator(self.events(_request(prompt, options, single="generator")))

    async def agenerate(self, prompt: str | Sequence[str], **options: Any) -> Any:
        """`generate` for asyncio; no thread waits for it, so any number may run at once."""
        if isinstance(prompt, str):
            return await self._aanswer(_request(prompt, options))
        tasks = [asyncio.ensure_future(self._aanswer(_request(one, options))) for one in prompt]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    async def achat(self, messages: str | Conversation, **options: Any) -> Answer:
        """`chat` for asyncio."""
        return await self._aanswer(_request(_conversation(messages, options), options))

    async def astream(self, prompt: str | Conversation, **options: Any) -> AsyncIterator[str]:
        """`stream` for asyncio. Closing it, or cancelling the task that reads it, cancels the request."""
        async with aclosing(self.aevents(_request(prompt, options, single="astream"))) as events:
            async for event in events:
                if isinstance(event, Chunk) and event.text:
                    yield event.text

    async def aevents(self, request: Request) -> AsyncGenerator[Event, None]:
        """`events` for asyncio."""
        events = await asyncio.to_thread(self.events, request)  # template and tokenizer may take a while
        try:
            async for event in _arriving(events):
                yield event
        finally:
            events.close()

    def _answer(self, request: Request) -> Answer:
        events = self.events(request)
        try:
            return collect(events)
        finally:
            events.close()  # a Ctrl-C while waiting cancels too

    async def _aanswer(self, request: Request) -> Answer:
        async with aclosing(self.aevents(request)) as events:
            return collect(iter([event async for event in events]))

    def render(self, messages: str | Conversation, parse_special: bool = False) -> Any:
        """The exact prompt of a conversation: `.text` and `.ids`.   Raises UnsupportedFeature."""
        return self._beyond("render")(as_messages(messages), parse_special)

    def tokenize(self, text: str) -> tuple[int, ...]:
        """The ids of a text to continue.   Raises UnsupportedFeature where the backend keeps them to itself."""
        ids: tuple[int, ...] = self._beyond("tokenize")(text)
        return ids

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of ids.   Raises RequestError for ids that are none of the model's, UnsupportedFeature."""
        text: str = self._beyond("detokenize")(ids)
        return text

    def embed(self, texts: str | Sequence[str]) -> NDArray[np.float32]:
        """The mean of the last hidden states over a text's tokens: (hidden,), or (len(texts), hidden) of many texts.

        Raises ContextExceeded, UnsupportedFeature.
        """
        vectors: NDArray[np.float32] = self._beyond("embed")([texts] if isinstance(texts, str) else list(texts))
        return vectors[0] if isinstance(texts, str) else vectors

    def stats(self) -> Stats:
        """What it does now, and has done; any thread may ask, at no cost.   Raises UnsupportedFeature."""
        stats: Stats = self._beyond("stats")()
        return stats

    def _beyond(self, name: str) -> Callable[..., Any]:
        """What not every backend has."""
        found: Callable[..., Any] | None = getattr(self.backend, name, None)
        if found is None:
            raise UnsupportedFeature(f"{self.name} does not have {name}; use a model that runs on this machine")
        return found

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

    def __init__(self, events: Events) -> None:
        self._events = events
        self._ahead: Chunk | None = None
        self.finished: Finished | None = None

    @property
    def done(self) -> bool:
        """Whether the answer is complete; waits until that is known. Then `finished` has the reason and the counts."""
        while self._ahead is None and (event := next(self._events, None)) is not None:
            if isinstance(event, Chunk):
                self._ahead = event
            elif isinstance(event, Finished):
                self.finished = event
        return self._ahead is None

    def next(self) -> Chunk:
        """The next token: `.text` is what it adds (whole characters, maybe none yet), `.tokens` its id."""
        if self.done:
            raise RequestError("the answer is complete and has no next token; ask `done` before `next`")
        assert self._ahead is not None
        chunk, self._ahead = self._ahead, None
        return chunk

    def close(self) -> None:
        """Cancel what is left of the answer."""
        self._events.close()

    def __iter__(self) -> Iterator[Chunk]:
        while not self.done:
            yield self.next()


def _texts(events: Events) -> Iterator[str]:
    try:
        for event in events:
            if isinstance(event, Chunk) and event.text:
                yield event.text
    finally:
        events.close()


async def _arriving(events: Any) -> AsyncIterator[Event]:
    """Events as they come. Backends that cannot call back have a thread wait for each."""
    if not hasattr(events, "heard"):
        while (event := await asyncio.to_thread(next, events, None)) is not None:
            yield event
        return
    arrived = asyncio.Event()
    with events.heard(arrived.set):
        while not events.ended:
            arrived.clear()
            for event in events.ready():
                yield event
            if not events.ended:
                await arrived.wait()


_OPTION_NAMES = {f.name for f in fields(Options)}
# Of a request, but no options.
_BESIDES = {"parse_special", "processors", "scorer", "constraint", "deadline_s", "prompt_logprobs"}


def _conversation(messages: str | Conversation, options: dict[str, Any]) -> tuple[Message, ...]:
    """The messages, and `images` taken out of the options and put to the last of them."""
    images = options.pop("images", None) or ()
    found = as_messages(messages)
    if not images or not found:
        return found
    last = Message(found[-1].role, found[-1].content, images)  # which checks that they are a list
    return (*found[:-1], Message(last.role, last.content, (*found[-1].images, *last.images)))


def _request(prompt: Any, given: dict[str, Any], single: str = "") -> Request:
    options = {name: value for name, value in given.items() if name not in _BESIDES}
    for name in options:
        if name not in _OPTION_NAMES:
            near = get_close_matches(name, sorted(_OPTION_NAMES | _BESIDES), 1)
            hint = f"is {near[0]!r} meant?" if near else f"the options are {', '.join(sorted(_OPTION_NAMES))}"
            raise OptionError(f"there is no option {name!r}; {hint}")
    checked = Options(**options)
    if single and ((checked.n or 1) > 1 or (checked.beams or 1) > 1):
        raise OptionError(f"{single} gives one answer token by token; use chat or generate for n or beams above 1")
    return Request(
        messages=None if isinstance(prompt, str) else as_messages(prompt),
        prompt=prompt if isinstance(prompt, str) else None,
        options=checked,
        parse_special=bool(given.get("parse_special", False)),
        processors=tuple(given.get("processors") or ()),
        scorer=given.get("scorer"),
        constraint=given.get("constraint"),
        deadline_s=given.get("deadline_s"),
        prompt_logprobs=given.get("prompt_logprobs"),
    )
