# SPDX-License-Identifier: Apache-2.0
"""Being woken for many bytes at once: nothing is lost, nothing waits for more than comes, and every byte counts again in the end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.net import gather
from gateway.net.gather import Gather
from gateway.net.stream import ByteStream

BOUND = 60.0


class Reader:
    """Takes what comes."""

    def __init__(self, stream: ByteStream) -> None:
        self.gather = Gather(stream)
        self.data = bytearray()

    def take(self, data: bytes) -> bool:
        self.data += data
        self.gather.came(len(data))
        return True


async def until(said: Callable[[], bool]) -> None:
    async with asyncio.timeout(BOUND):
        while not said():                   # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.001)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[ByteStream, asyncio.StreamWriter, Callable[[], int]]]:
    """A settled stream, what writes to it, and the kernel's bound now."""
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    sock = socket.create_connection(server.sockets[0].getsockname())
    sock.setblocking(False)
    stream = ByteStream()
    await asyncio.get_running_loop().create_connection(lambda: stream, sock=sock)
    stream.settle()
    await until(lambda: bool(writers))
    try:
        transport = stream._transport
        assert transport is not None
        yield stream, writers[0], lambda: int(transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT))
    finally:
        writers[0].close()
        stream.abort()
        await stream.closed()
        server.close()
        await server.wait_closed()


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any speed is enough, and a look comes late."""
    monkeypatch.setattr(gather, "QUICK", 1e9)
    monkeypatch.setattr(gather, "LOOK", 0.05)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("rest", [1, 8192, 100_001])
async def test_the_last_bytes_come_too(rest: int) -> None:
    async with connected() as (stream, writer, bound):
        reader = Reader(stream)
        stream.tap = reader.take
        sent = bytes(range(256)) * (5 << 12)
        writer.write(sent)
        await until(lambda: len(reader.data) == len(sent))
        writer.write(b"x" * rest)
        await until(lambda: len(reader.data) == len(sent) + rest)
        assert reader.data == sent + b"x" * rest
        await until(lambda: bound() == 1)


@pytest.mark.usefixtures("always")
async def test_it_waits_for_many_bytes_while_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "LOOK", 1e6)
    async with connected() as (stream, writer, bound):
        reader = Reader(stream)
        stream.tap = reader.take
        writer.write(bytes(gather.SOME + 1))
        await until(lambda: bound() == gather.AT_ONCE)
        await until(lambda: len(reader.data) >= gather.SOME)
        reader.gather.stop()
        assert bound() == 1
        await until(lambda: len(reader.data) == gather.SOME + 1)


@pytest.mark.usefixtures("always")
async def test_an_end_is_seen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "LOOK", 1e6)
    async with connected() as (stream, writer, bound):
        reader = Reader(stream)
        stream.tap = reader.take
        writer.write(bytes(gather.SOME))
        await until(lambda: bound() == gather.AT_ONCE)
        writer.write(b"last")
        writer.close()
        await until(lambda: stream.ended)
        assert bytes(reader.data) == bytes(gather.SOME) + b"last"
        reader.gather.stop()


async def test_what_comes_slowly_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "QUICK", -1.0)
    async with connected() as (stream, writer, bound):
        reader = Reader(stream)
        stream.tap = reader.take
        writer.write(bytes(3 * gather.SOME))
        await until(lambda: len(reader.data) == 3 * gather.SOME)
        assert bound() == 1


async def test_a_connection_that_is_lost_needs_nothing() -> None:
    async with connected() as (stream, _, _bound):
        found = Gather(stream)
        stream.abort()
        await stream.closed()
        found.came(gather.SOME)
        found.stop()
