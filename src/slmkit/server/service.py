"""What every endpoint calls: models by the names of requests, and the events of answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import slmkit
from slmkit.errors import OptionError, SlmError
from slmkit.events import Chunk, Event
from slmkit.model import Model
from slmkit.options import LoadOptions
from slmkit.request import Request
from slmkit.server import record
from slmkit.server.fleet import FOREVER, Fleet
from slmkit.server.metrics import Metrics
from slmkit.server.roster import Listed, Roster, served_id
from slmkit.server.settings import ServeOptions
from slmkit.untrusted import shown

log = logging.getLogger("slmkit.server")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Service:
    """Models and answers. One event loop calls it."""

    def __init__(self, served: tuple[str, ...], options: ServeOptions, load_options: LoadOptions) -> None:
        """served: names of models that the server was started with; the first one is loaded at once."""
        self.options, self.load_options = options, load_options
        self.roster = Roster(served)
        self.fleet = Fleet(self._open, seconds(options.keep_alive, "keep_alive"))
        self.metrics = Metrics(self._loaded, options.max_connections)
        self.is_draining = False

    def _open(self, name: str) -> Model:
        return slmkit.load(name, **vars(replace(self.load_options, offline=True)))

    @asynccontextmanager
    async def model(self, id: str, keep_alive_s: float | None = None) -> AsyncIterator[Model]:
        """The model that a request names, loaded, for as long as it is used.   Raises ModelNotFound."""
        listed = await self.find(id)
        async with self.fleet.use(listed.name, keep_alive_s) as model:
            yield model

    async def answer(self, id: str, request: Request, keep_alive_s: float | None = None) -> AsyncGenerator[Event, None]:
        """The events of one answer, Started first. Closing the generator, or cancelling its task, cancels it."""
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

    async def preload(self) -> None:
        """Load the first model that the server was started with. Until it is there, the server is not ready."""
        for id in self.roster.served()[:1]:
            try:
                async with self.model(id):
                    pass
            except SlmError as error:
                log.error("%s cannot be loaded: %s", id, error)

    async def find(self, id: str) -> Listed:
        """What the name of a request stands for.   Raises ModelNotFound."""
        return await asyncio.to_thread(self.roster.find, id)

    async def list(self) -> list[Listed]:
        """Every model that can be asked for."""
        return await asyncio.to_thread(self.roster.list)

    def _loaded(self) -> Iterator[tuple[str, Any, int]]:
        """For metrics: name, backend and requests under way of each loaded model."""
        for berth in self.fleet.berths:
            yield served_id(berth.name), berth.model.backend, berth.users


def seconds(text: str | float, name: str) -> float:
    """A time as people and clients of Ollama write it: 5m, 30s, 1h, a number of seconds; below 0 is FOREVER."""
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        return float(text) if text >= 0 else FOREVER
    word = str(text).strip()
    unit = next((u for u in ("ms", "s", "m", "h") if word.endswith(u)), "")
    try:
        number = float(word.removesuffix(unit)) * _UNITS.get(unit, 1.0)
    except ValueError:
        number = float("nan")
    if number != number or number == float("inf"):
        raise OptionError(f"{name} is {shown(text)}; it takes a time such as 30s, 5m or 2h, 0, or -1 for ever")
    return number if number >= 0 else FOREVER
