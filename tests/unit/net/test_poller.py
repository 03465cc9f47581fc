# SPDX-License-Identifier: Apache-2.0
"""A settled stream, on our transport, is to its users what it was on the loop's: every test runs on both, and with and without uvloop."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import socket
import ssl
import struct
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway.errors import ClientFault
from gateway.net import poller
from gateway.net.stream import READ_HIGH, WRITE_HIGH, ByteStream

LARGE = os.urandom(1 << 20) * 8
Test = Callable[[ByteStream, socket.socket], Awaitable[None]]


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not reached():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def ends() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        far = socket.create_connection(server.getsockname())
        near = server.accept()[0]
    return near, far


async def stream_of(near: socket.socket, settled: bool) -> ByteStream:
    _, stream = await asyncio.get_running_loop().connect_accepted_socket(lambda: ByteStream(ClientFault), near)
    if settled:
        stream.settle()
        assert stream._settled is not None
    return stream


@pytest.fixture(params=["loop", "settled"])
def run(request: pytest.FixtureRequest) -> Callable[[Test], None]:
    """Runs a conversation between a stream and the socket at the other end, on both event loops."""
    def run(conversation: Test) -> None:
        async def whole() -> None:
            near, far = ends()
            with far:
                far.setblocking(False)
                stream = await stream_of(near, request.param == "settled")
                try:
                    async with asyncio.timeout(120):
                        await conversation(stream, far)
                finally:
                    if not stream._lost:
                        stream.abort()
                        await stream.closed()
            assert len(poller._poller()) == 0 if request.param == "settled" else True
        for factory in (asyncio.new_event_loop, uvloop.new_event_loop):
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(whole())
    if request.param == "settled" and poller._native is None:
        pytest.fail("make native: the compiled form is what is tested here")
    return run


async def took(far: socket.socket, size: int) -> bytes:
    """``size`` bytes as they come at the other end."""
    loop, found = asyncio.get_running_loop(), bytearray()
    while len(found) < size:
        data = await loop.sock_recv(far, 1 << 16)
        assert data, "it ended early"
        found += data
    return bytes(found)


def test_bytes_pass_both_ways_in_order(run: Callable[[Test], None]) -> None:
    async def conversation(stream: ByteStream, far: socket.socket) -> None:
        stream.write(b"one")
        stream.write(bytearray(b"two"))
        stream.write(memoryview(b"three"))
        stream.write(b"")
        assert await took(far, 11) == b"onetwothree"
        far.send(b"four")
        assert await stream.read() == b"four"
        far.send(b"fivesix")
        assert await stream.read_exactly(4) == b"five"
        assert await stream.read() == b"six"
    run(conversation)


def test_what_does_not_fit_into_the_socket_waits(run: Callable[[Test], None]) -> None:
    async def conversation(stream: ByteStream, far: socket.socket) -> None:
        for at, kind in ((0, bytes), (1, bytearray), (2, memoryview)):
            part = LARGE[at << 21:(at + 1) << 21]
            for piece in range(0, len(part), 300_000):
                stream.write(kind(part[piece:piece + 300_000]))
        stream.write(LARGE[3 << 21:])
        assert stream.congested
        drained = asyncio.ensure_future(stream.drain())
        await asyncio.sleep(0)
        assert not drained.done()
        assert await took(far, len(LARGE)) == LARGE
        await drained
        stream.write(b"end")
        assert await took(far, 3) == b"end"
    run(conversation)


def test_a_reader_that_is_slow_stops_the_peer(run: Callable[[Test], None]) -> None:
    async def conversation(stream: ByteStream, far: socket.socket) -> None:
        sending = asyncio.ensure_future(asyncio.get_running_loop().sock_sendall(far, LARGE))
        await until(lambda: stream._reading_paused)
        assert stream.buffered <= READ_HIGH + (1 << 18)
        assert not sending.done()
        found = bytearray()
        while len(found) < len(LARGE):
            found += await stream.read()
        assert bytes(found) == LARGE
        await sending
    run(conversation)


def test_the_end_of_the_peer(run: Callable[[Test], None]) -> None:
    async def conversation(stream: ByteStream, far: socket.socket) -> None:
        far.send(b"last")
        far.shutdown(socket.SHUT_WR)
        await until(stream.gone.is_set)
        assert await stream.read() == b"last"
        assert await stream.read() == b""
        stream.write(b"still there")                   # half closed: it still reads
        assert await took(far, 11) == b"still there"
        stream.close()
        assert await asyncio.get_running_loop().sock_recv(far, 10) == b""
        await stream.closed()
    run(conversation)


def test_a_peer_that_resets(run: Callable[[Test], None]) -> None:
    async def conversation(stream: ByteStream, far: socket.socket) -> None:
        gone = []
        stream.when_gone = lambda: gone.append(True)
        reading = asyncio.ensure_future(stream.read())
        await asyncio.sleep(0)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        assert await reading == b""
        await stream.closed()
        assert gone
        stream.write(b"into nothing")
        with pytest.raises(ConnectionResetError):
            await stream.drain()
    run(conversation)


def test_a_reset_while_it_writes(run: Callable[[Test], None]) -> None:
    async def conversation(stream: ByteStream, far: socket.socket) -> None:
        stream.write(LARGE)
        waiting = asyncio.ensure_future(stream.drain())
        await asyncio.sleep(0)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        with pytest.raises(ConnectionResetError):
            await waiting
        await stream.closed()
    run(conversation)


def test_a_reset_while_reading_is_paused_does_not_spin(run: Callable[[Test], None]) -> None:
    async def conversation(stream: ByteStream, far: socket.socket) -> None:
        stream._pause()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        before = os.times()
        await asyncio.sleep(0.5)
        after = os.times()
        assert after.user + after.system - before.user - before.system < 0.4
        stream._resume()
        await stream.closed()
    run(conversation)


def test_the_end_behind_what_is_not_read(run: Callable[[Test], None]) -> None:
    async def conversation(stream: ByteStream, far: socket.socket) -> None:
        stream._pause()
        far.send(b"last")
        far.close()
        await until(stream.has_gone)
        assert stream.buffered == 0
        assert await _last(stream) == b"last"
    run(conversation)


def test_a_reset_is_found_while_reading_is_paused(run: Callable[[Test], None]) -> None:
    async def conversation(stream: ByteStream, far: socket.socket) -> None:
        stream._pause()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        await until(stream.has_gone)
    run(conversation)


async def _last(stream: ByteStream) -> bytes:
    stream._resume()
    return await stream.read()


def test_what_is_queued_is_sent_before_it_closes(run: Callable[[Test], None]) -> None:
    async def conversation(stream: ByteStream, far: socket.socket) -> None:
        stream.write(LARGE)
        stream.close()
        if stream._settled is not None:
            stream.write(b"too late")
        assert await took(far, len(LARGE)) == LARGE
        assert await asyncio.get_running_loop().sock_recv(far, 10) == b""
        await stream.closed()
    run(conversation)


def test_abort_drops_what_is_queued(run: Callable[[Test], None]) -> None:
    async def conversation(stream: ByteStream, far: socket.socket) -> None:
        stream.write(LARGE)
        stream.abort()
        await stream.closed()
        assert stream.gone.is_set()
        loop, found = asyncio.get_running_loop(), 0
        try:
            while data := await loop.sock_recv(far, 1 << 16):
                found += len(data)
        except ConnectionResetError:
            pass
        assert found < len(LARGE)
    run(conversation)


def test_write_eof_comes_after_what_is_queued(run: Callable[[Test], None]) -> None:
    async def conversation(stream: ByteStream, far: socket.socket) -> None:
        stream.write(LARGE)
        stream.write_eof()
        assert await took(far, len(LARGE)) == LARGE
        assert await asyncio.get_running_loop().sock_recv(far, 10) == b""
        far.send(b"answer")
        assert await stream.read() == b"answer"
    run(conversation)


def test_the_tap_is_asked_first_and_may_change(run: Callable[[Test], None]) -> None:
    async def conversation(stream: ByteStream, far: socket.socket) -> None:
        shown: list[bytes] = []

        def tap(data: bytes) -> bool:
            shown.append(data)
            return data == b"mine"
        stream.tap = tap
        far.send(b"mine")
        await until(lambda: len(shown) == 1)
        assert stream.buffered == 0
        far.send(b"yours")
        assert await stream.read() == b"yours"
        assert shown == [b"mine", b"yours"]
        stream.tap = None
        far.send(b"mine")
        assert await stream.read() == b"mine"
        assert len(shown) == 2
    run(conversation)


def test_the_writer_is_write(run: Callable[[Test], None]) -> None:
    async def conversation(stream: ByteStream, far: socket.socket) -> None:
        stream.writer(b"abc")
        stream.write(b"def")
        assert await took(far, 6) == b"abcdef"
        stream.bound(1000)
        stream.writer(LARGE)
        assert stream.congested
        assert await took(far, len(LARGE)) == LARGE
        await stream.drain()
    run(conversation)


def test_a_tap_that_fails_ends_its_connection_alone(run: Callable[[Test], None], caplog: pytest.LogCaptureFixture) -> None:
    async def conversation(stream: ByteStream, far: socket.socket) -> None:
        if stream._settled is None:
            return                                      # the loop's transports log what they will
        near, other_far = ends()
        with other_far:
            other = await stream_of(near, True)

            def tap(data: bytes) -> bool:
                raise ValueError("a secret of the caller")
            stream.tap = tap
            far.send(b"x")
            other_far.send(b"y")
            await stream.closed()
            assert await other.read() == b"y"
            other.abort()
            await other.closed()
    with caplog.at_level(logging.DEBUG):
        run(conversation)
    assert "a secret" not in caplog.text


def test_one_that_is_closed_by_another_in_the_same_round(run: Callable[[Test], None]) -> None:
    async def conversation(stream: ByteStream, far: socket.socket) -> None:
        pairs = [ends() for _ in range(20)]
        streams = [await stream_of(near, stream._settled is not None) for near, _ in pairs]

        def tap(data: bytes) -> bool:
            for one in streams:
                one.abort()
            return True
        for one in streams:
            one.tap = tap
        for _, end in pairs:
            end.send(b"x")
        for one in streams:
            await one.closed()
        for _, end in pairs:
            end.close()
        far.send(b"y")
        assert await stream.read() == b"y"
    run(conversation)


def test_descriptors_and_memory_are_given_back(run: Callable[[Test], None]) -> None:
    async def conversation(stream: ByteStream, far: socket.socket) -> None:
        async def once() -> weakref.ref[Any]:
            near, end = ends()
            one = await stream_of(near, stream._settled is not None)
            end.send(b"x")
            assert await one.read() == b"x"
            one.close()
            await one.closed()
            end.close()
            return weakref.ref(one)
        await once()
        await asyncio.sleep(0.01)
        before = descriptors()
        seen = [await once() for _ in range(20)]
        await asyncio.sleep(0.01)
        gc.collect()
        assert descriptors() == before
        assert not [one for one in seen if one() is not None]
    run(conversation)


async def test_bytes_read_before_and_a_paused_stream_go_along() -> None:
    near, far = ends()
    with far:
        stream = await stream_of(near, False)
        far.send(b"before")
        await until(lambda: stream.buffered == 6)
        stream._pause()
        stream.settle()
        far.send(b"after")
        await asyncio.sleep(0.05)
        assert stream.buffered == 6
        assert await stream.read() == b"before"
        assert await stream.read() == b"after"
        stream.close()
        await stream.closed()


async def test_it_stays_where_it_is_while_bytes_wait_to_be_written() -> None:
    near, far = ends()
    with far:
        stream = await stream_of(near, False)
        stream.write(LARGE)
        stream.settle()
        assert stream._settled is None
        stream.abort()
        await stream.closed()


async def test_it_stays_where_it_is_without_a_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(fd: int) -> int:
        raise OSError(errno.EMFILE, "too many")
    near, far = ends()
    with far:
        stream = await stream_of(near, False)
        monkeypatch.setattr(os, "dup", none_left)
        stream.settle()
        monkeypatch.undo()
        assert stream._settled is None
        far.send(b"still")
        assert await stream.read() == b"still"
        stream.close()
        await stream.closed()


async def test_a_settled_stream_takes_no_tls_and_no_other_protocol() -> None:
    near, far = ends()
    with far:
        stream = await stream_of(near, True)
        stream.settle()                                 # twice is once
        with pytest.raises(RuntimeError):
            await stream.start_tls(ssl.create_default_context(), server_side=False, server_hostname="x")
        with pytest.raises(RuntimeError):
            stream.hand_over(asyncio.Protocol())
        stream.close()
        await stream.closed()


def test_writes_of_a_settled_stream_are_bounded(run: Callable[[Test], None]) -> None:
    async def conversation(stream: ByteStream, far: socket.socket) -> None:
        written = 0
        while not stream.congested:
            stream.write(b"x" * 65536)
            written += 65536
            await asyncio.sleep(0)
        assert stream._transport is not None
        assert stream._transport.get_write_buffer_size() <= WRITE_HIGH + 65536
        assert await took(far, written) == b"x" * written
        await stream.drain()
    run(conversation)
