"""Models in memory: loaded when first asked for, kept while they are used, let go when idle or where room is short."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from slmkit.errors import NotEnoughMemory
from slmkit.model import Model

FOREVER = -1.0


@dataclass(eq=False)
class Berth:
    """A loaded model.

    users: requests under way.   idle_at: monotonic seconds when the last of them ended.
    keep_alive_s: how long it stays after that; FOREVER until room is short.
    """

    name: str
    model: Model
    keep_alive_s: float
    users: int = 0
    loaded_at: float = field(default_factory=time.time)
    idle_at: float = field(default_factory=time.monotonic)

    @property
    def expires_at(self) -> float | None:
        """Unix time at which it is unloaded if nobody asks; None for never."""
        if self.keep_alive_s == FOREVER:
            return None
        since = time.monotonic() if self.users else self.idle_at
        return time.time() + since + self.keep_alive_s - time.monotonic()

    @property
    def is_expired(self) -> bool:
        return not self.users and self.keep_alive_s != FOREVER and time.monotonic() - self.idle_at >= self.keep_alive_s


class Fleet:
    """The loaded models, by name. One event loop calls it; models load and close in threads of their own.

    open: opens a model by its name, which may take a while.   keep_alive_s: of a model that was not told otherwise.
    """

    def __init__(self, open: Callable[[str], Model], keep_alive_s: float) -> None:
        self._open, self.keep_alive_s = open, keep_alive_s
        self._berths: dict[str, Berth] = {}
        self._replaced: set[Berth] = set()
        self.has_loaded = False  # any model, ever: what was unloaded since can be loaded again
        self._loading = asyncio.Lock()  # one at a time: each looks at the memory that is free

    @property
    def berths(self) -> tuple[Berth, ...]:
        """What is loaded now."""
        return tuple(self._berths.values())

    @property
    def held(self) -> tuple[Berth, ...]:
        """What takes memory: beside those loaded, the replaced ones that are still answering."""
        return (*self.berths, *self._replaced)

    @asynccontextmanager
    async def use(self, name: str, keep_alive_s: float | None = None) -> AsyncIterator[Model]:
        """The model, loaded if it was not, and not unloaded meanwhile.

        Raises what opening it raises; NotEnoughMemory where the models in use leave no room for it.
        """
        berth = self._berths.get(name) or await self._load(name)
        berth.users += 1
        if keep_alive_s is not None:
            berth.keep_alive_s = keep_alive_s
        try:
            yield berth.model
        finally:
            berth.users -= 1
            berth.idle_at = time.monotonic()
            if berth.is_expired:
                await self._unload(berth)

    def add(self, name: str, model: Model) -> None:
        """Take charge of a model that was opened elsewhere."""
        self._berths[name] = Berth(name, model, self.keep_alive_s)
        self.has_loaded = True

    async def unload(self, name: str) -> bool:
        """Let an idle model go now; one in use goes when its requests have ended.   Returns whether it was loaded."""
        berth = self._berths.get(name)
        if berth is None:
            return False
        berth.keep_alive_s = 0.0
        if not berth.users:
            await self._unload(berth)
        return True

    async def replace(self, name: str) -> None:
        """Have the next request open the model anew: what has its name is another one now. Those under way go on."""
        if berth := self._berths.pop(name, None):
            self._replaced.add(berth)
            berth.keep_alive_s = 0.0
            if not berth.users:
                await self._unload(berth)

    async def sweep(self, every_s: float = 1.0) -> None:
        """Unload what has been idle too long, until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            for berth in self.berths:
                if berth.is_expired:
                    await self._unload(berth)

    async def close(self) -> None:
        """Unload every model; what is under way ends with an error."""
        for berth in self.held:
            await self._unload(berth)

    async def _load(self, name: str) -> Berth:
        async with self._loading:
            while name not in self._berths:
                try:
                    model = await asyncio.to_thread(self._open, name)
                except NotEnoughMemory:
                    idle = [berth for berth in self.berths if not berth.users]
                    if not idle:
                        raise
                    await self._unload(min(idle, key=lambda berth: berth.idle_at))
                else:
                    self._berths[name] = Berth(name, model, self.keep_alive_s)
                    self.has_loaded = True
            return self._berths[name]

    async def _unload(self, berth: Berth) -> None:
        if self._berths.get(berth.name) is berth:
            del self._berths[berth.name]
        elif berth not in self._replaced:
            return
        self._replaced.discard(berth)
        await asyncio.to_thread(berth.model.close)
