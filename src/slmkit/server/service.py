"""What every endpoint calls: models by the names of requests, and the events of answers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import slmkit
from slmkit.errors import OptionError
from slmkit.events import Event
from slmkit.model import Model
from slmkit.options import LoadOptions
from slmkit.request import Request
from slmkit.server.fleet import FOREVER, Fleet
from slmkit.server.roster import Listed, Roster
from slmkit.server.settings import ServeOptions
from slmkit.untrusted import shown

_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([+-]?)((?:\d+\.?\d*(?:ns|us|ms|s|m|h))+|\d+\.?\d*)")
_PART = re.compile(r"(\d+\.?\d*)(ns|us|ms|s|m|h)")


class Service:
    """Models and answers. One event loop calls it."""

    def __init__(self, served: tuple[str, ...], options: ServeOptions, load_options: LoadOptions) -> None:
        """served: names of models that the server was started with; the first one is loaded at once."""
        self.options, self.load_options = options, load_options
        self.roster = Roster(served)
        self.fleet = Fleet(self._open, seconds(options.keep_alive, "keep_alive"))
        self.is_draining = False  # no new requests; server/drain.py
        self.n_under_way = 0  # requests of any kind

    def _open(self, name: str) -> Model:
        return slmkit.load(name, **vars(replace(self.load_options, offline=True)))

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
        async with self.model(id, keep_alive_s) as model:
            async for event in model.aevents(request):
                yield event

    async def find(self, id: str) -> Listed:
        """What the name of a request stands for.   Raises ModelNotFound."""
        return await asyncio.to_thread(self.roster.find, id)

    async def list(self) -> list[Listed]:
        """Every model that can be asked for."""
        return await asyncio.to_thread(self.roster.list)


def seconds(text: str | float, name: str) -> float:
    """A time as people and clients of Ollama write it: 5m, 1h30m, a number of seconds; below 0 is FOREVER."""
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        text = f"{text:.9f}"
    found = _DURATION.fullmatch(str(text).strip()[:40])
    if found is None:
        raise OptionError(f"{name} is {shown(text)}; it takes a time such as 30s, 5m or 1h30m, 0, or -1 for ever")
    parts = _PART.findall(found[2])
    total = sum(float(number) * _UNITS[unit] for number, unit in parts) if parts else float(found[2])
    return FOREVER if found[1] == "-" and total else total
