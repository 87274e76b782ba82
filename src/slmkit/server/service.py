"""What every endpoint calls: models by the names of requests, and the events of answers."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

import slmkit
from slmkit.engine.memory import usable_bytes
from slmkit.engine.worker import MOST_JOBS, MOST_TEXTS
from slmkit.errors import DeadlineExceeded, NotEnoughMemory, OptionError, RequestError
from slmkit.events import Chunk, Event
from slmkit.model import Model
from slmkit.options import LoadOptions
from slmkit.request import Message, Request
from slmkit.server import record
from slmkit.server.fleet import FOREVER, Fleet
from slmkit.server.metrics import Metrics
from slmkit.server.roster import Listed, Roster, served_id
from slmkit.server.settings import ServeOptions
from slmkit.untrusted import shown

_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([+-]?)((?:\d+\.?\d*(?:ns|us|ms|s|m|h))+|\d+\.?\d*)")
CENTURY = 100 * 365 * 24 * 3600.0  # seconds; beyond it, times have no date
_LONGEST = 400  # characters of a time: 1e308 has 319
_PART = re.compile(r"(\d+\.?\d*)(ns|us|ms|s|m|h)")


class Service:
    """Models and answers. One event loop calls it."""

    def __init__(self, served: tuple[str, ...], options: ServeOptions, load_options: LoadOptions) -> None:
        """served: names of models that the server was started with; the first one is loaded at once."""
        self.options, self.load_options = options, load_options
        self.roster = Roster(served)
        self.fleet = Fleet(self._open, seconds(options.keep_alive, "keep_alive"))
        self._memory = usable_bytes(load_options.memory)  # that all models share
        self.metrics = Metrics(self._loaded, load_options.queue or MOST_JOBS)
        self.is_draining = False  # no new requests; server/drain.py
        self.n_under_way = 0  # requests of any kind

    def _open(self, name: str) -> Model:
        return self.within_memory(lambda options: slmkit.load(name, **vars(replace(options, offline=True))))

    def within_memory(self, open: Callable[[LoadOptions], Model]) -> Model:
        """Open a model in the memory that the loaded ones leave: in its share of that, if more were named, or in all.

        Raises NotEnoughMemory.
        """
        loaded = {berth.name for berth in self.fleet.berths}
        held = [berth.model.describe() for berth in self.fleet.held]
        awaited = sum(name not in loaded for name in self.roster.served.values())
        if not held and awaited <= 1:
            return open(self.load_options)
        taken = sum(facts.get("weight_bytes", 0) + facts.get("cache_bytes", 0) for facts in held)
        left = max(1, self._memory - taken)
        if awaited > 1:
            with suppress(NotEnoughMemory):
                return open(replace(self.load_options, memory=str(left // awaited)))
        return open(replace(self.load_options, memory=str(left)))

    @asynccontextmanager
    async def model(self, id: str, keep_alive_s: float | None = None) -> AsyncIterator[Model]:
        """The model that a request names, loaded, for as long as it is used.   Raises ModelNotFound."""
        listed = await self.find(id)
        async with self.fleet.use(listed.name, keep_alive_s) as model:
            yield model

    async def answer(self, id: str, request: Request, keep_alive_s: float | None = None) -> AsyncGenerator[Event, None]:
        """The events of one answer, Started first. Closing the generator or cancelling its task cancels the request."""
        if request.deadline_s is None and self.options.deadline is not None:
            request = replace(request, deadline_s=self.options.deadline)
        listed = await self.find(id)
        said = record.current().texts if self.options.log_prompts else None
        if said is not None:
            said += [request.prompt or "\n".join(f"{m.role}: {m.content}" for m in request.messages or ()), ""]
        with self.metrics.request(listed.id) as watch:
            async with (
                self.fleet.use(listed.name, keep_alive_s) as model,
                aclosing(model.aevents(request)) as events,
            ):
                async for event in events:
                    watch.see(event)
                    if said is not None and isinstance(event, Chunk):
                        said[-1] += event.text
                    yield event

    async def embed(self, id: str, texts: Sequence[str], keep_alive_s: float | None = None) -> NDArray[np.float32]:
        """The mean of each text's last hidden states: (texts, hidden).

        Cancelling the task ends it within a few texts.   Raises DeadlineExceeded.
        """
        began = time.perf_counter()
        vectors: list[NDArray[np.float32]] = []
        async with self.model(id, keep_alive_s) as model:
            for at in range(0, len(texts), MOST_TEXTS):
                if self.options.deadline is not None and time.perf_counter() - began > self.options.deadline:
                    raise DeadlineExceeded(
                        f"the deadline passed after {at} of {len(texts)} texts; send fewer at once, or allow more time"
                    )
                vectors.append(await asyncio.to_thread(model.embed, texts[at : at + MOST_TEXTS]))
        return np.concatenate(vectors)

    async def has_system(self, id: str) -> bool:
        """Whether the model's template has a place for system messages."""
        async with self.model(id) as model:
            try:
                await asyncio.to_thread(model.render, (Message("system", "a"), Message("user", "b")))
            except RequestError:
                return False
            return True

    async def find(self, id: str) -> Listed:
        """What the name of a request stands for.   Raises ModelNotFound."""
        return await asyncio.to_thread(self.roster.find, id, [berth.name for berth in self.fleet.berths])

    async def list(self) -> list[Listed]:
        """Every model that can be asked for."""
        return await asyncio.to_thread(self.roster.list)

    def _loaded(self) -> Iterator[tuple[str, Model]]:
        """For metrics: each loaded model by its name."""
        for berth in self.fleet.berths:
            yield served_id(berth.name), berth.model


def seconds(text: str | float, name: str) -> float:
    """A time as people and clients of Ollama write it: 5m, 1h30m, a number of seconds; below 0 is FOREVER."""
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        text = f"{text:.9f}"
    text = str(text).strip()
    found = _DURATION.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        raise OptionError(f"{name} is {shown(text)}; it takes a time such as 30s, 5m or 1h30m, 0, or -1 for ever")
    parts = _PART.findall(found[2])
    total = sum(float(number) * _UNITS[unit] for number, unit in parts) if parts else float(found[2])
    return FOREVER if (found[1] == "-" and total) or total > CENTURY else total
