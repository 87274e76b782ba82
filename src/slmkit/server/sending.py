"""What is written to a client, and when it goes out."""

from __future__ import annotations

import asyncio
from typing import Any

_MOST_BYTES = 64 << 10  # that wait for the end of a turn of the loop


class Sending:
    """A transport whose writes of one turn of the loop go out by one call.

    Each call wakes the client, and takes longer than making the chunk that it sends. So a loop that has fallen behind
    the engine catches up.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._waiting = bytearray()

    def write(self, data: bytes) -> None:
        """Send it with whatever else is written in this turn."""
        if not self._waiting:
            self._loop.call_soon(self._send)
        self._waiting += data
        if len(self._waiting) > _MOST_BYTES:
            self._send()

    def close(self) -> None:
        """Close it once everything is sent."""
        self._send()
        self._transport.close()

    def abort(self) -> None:
        """Close it now."""
        self._waiting.clear()
        self._transport.abort()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _send(self) -> None:
        if self._waiting:
            data, self._waiting = bytes(self._waiting), bytearray()
            self._transport.write(data)
