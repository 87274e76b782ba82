"""What every endpoint calls: models by the names of requests, and the events of answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

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

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Service:
    """Models and answers. One event loop calls it."""

    def __init__(self, served: tuple[str, ...], options: ServeOptions, load_options: LoadOptions) -> None:
        """served: names of models that the server was started with; the first one is loaded at once."""
        self.options, self.load_options = options, load_options
        self.roster = Roster(served)
        self.fleet = Fleet(self._open, seconds(options.keep_alive, "keep_alive"))
        self.is_draining = False

    def _open(self, name: str) -> Model:
        return slmkit.load(name, **vars(replace(self.load_options, offline=True)))

    @asynccontextmanager
    async def model(self, id: str, keep_alive_s: float | None = None) -> AsyncIterator[Model]:
        """The model that a request names, loaded, for as long as it is used.   Raises ModelNotFound."""
        listed = await self.find(id)
        async with self.fleet.use(listed.name, keep_alive_s) as model:
            yield model

    async def answer(
        self, id: str, request: Request, keep_alive_s: float | None = None
    ) -> AsyncGenerator[Event, None]:
        """The events of one answer, Started first. Closing the generator, or cancelling its task, cancels the request."""
        if request.deadline_s is None and self.options.deadline is not None:
            request = replace(request, deadline_s=self.options.deadline)
        async with self.model(id, keep_alive_s) as model:
            async for event in model.aevents(request):
                yield event

    async def embed(self, id: str, texts: Sequence[str], keep_alive_s: float | None = None) -> NDArray[np.float32]:
        """The mean of each text's last hidden states: (texts, hidden)."""
        async with self.model(id, keep_alive_s) as model:
            return await asyncio.to_thread(model.embed, texts)

    async def find(self, id: str) -> Listed:
        """What the name of a request stands for.   Raises ModelNotFound."""
        return await asyncio.to_thread(self.roster.find, id)

    async def list(self) -> list[Listed]:
        """Every model that can be asked for."""
        return await asyncio.to_thread(self.roster.list)


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
