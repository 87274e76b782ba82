"""Writes of one turn of the loop, over a real pair of sockets."""

from __future__ import annotations

import asyncio
import socket

from slmkit.server.sending import Sending


class Client(asyncio.Protocol):
    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ended = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        self.pieces.append(data)

    def connection_lost(self, exc):
        self.ended.set_result(None)


def received(write) -> list[bytes]:
    """What the other side reads of what `write(sending)` writes, in the pieces that it came in."""

    async def run():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        _, client = await loop.create_connection(Client, sock=theirs)
        await write(Sending(transport, loop))
        await asyncio.wait_for(client.ended, 10)
        return client.pieces

    return asyncio.run(run())


def test_what_is_written_in_one_turn_comes_at_once_and_what_comes_later_does_not_wait():
    async def write(sending):
        sending.write(b"a")
        sending.write(b"b")
        await asyncio.sleep(0.05)
        sending.write(b"c")
        await asyncio.sleep(0.05)
        sending.close()

    assert received(write) == [b"ab", b"c"]


def test_closing_sends_what_waits_and_aborting_does_not():
    async def write(sending):
        sending.write(b"the end")
        sending.close()
        assert sending.is_closing()

    async def aborted(sending):
        sending.write(b"too late")
        sending.abort()

    assert received(write) == [b"the end"]
    assert received(aborted) == []


def test_a_turn_that_writes_much_does_not_keep_it_all():
    async def write(sending):
        for _ in range(100):
            sending.write(bytes(10_000))
            assert len(sending._waiting) <= 64 << 10
        sending.close()

    assert sum(map(len, received(write))) == 1_000_000
