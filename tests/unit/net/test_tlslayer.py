# SPDX-License-Identifier: Apache-2.0
"""TLS without I/O, and streams in TLS: on the loop's transports and on ours, with asyncio and with uvloop."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ClientFault, TargetFault
from gateway.net.stream import WRITE_HIGH, ByteStream
from gateway.net.tls import client_context, server_context
from gateway.net.tlslayer import TlsLayer
from gateway.testing.certificates import Authority, Pair

LARGE = os.urandom(1 << 20) * 4
Talk = Callable[[ByteStream, ByteStream], Awaitable[None]]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Authority(tmp_path_factory.mktemp("tls")).issue("localhost", "127.0.0.1")


def contexts(pair: Pair, mode: str = "verify-full") -> tuple[ssl.SSLContext, ssl.SSLContext]:
    client = client_context(mode, pair.ca)
    assert client is not None
    return server_context(pair.certificate, pair.key), client


def layers(pair: Pair, name: str = "localhost") -> tuple[TlsLayer, TlsLayer]:
    server, client = contexts(pair)
    return TlsLayer(server, server_side=True), TlsLayer(client, server_side=False, server_hostname=name)


def shaken(pair: Pair, step: int = 1 << 20) -> tuple[TlsLayer, TlsLayer]:
    """Both ends after the handshake, whose bytes came ``step`` at a time."""
    server, client = layers(pair)
    ready = {server: False, client: client.shake(b"")}
    for _ in range(4):
        for one, other in ((client, server), (server, client)):
            sent = one.due()
            for at in range(0, len(sent), step):
                part = sent[at:at + step]
                if ready[other]:
                    assert other.opened(part) == (b"", False)
                else:
                    ready[other] = other.shake(part)
    assert all(ready.values())
    return server, client


@pytest.mark.parametrize("step", [1, 7, 1000, 1 << 20])
def test_a_handshake_may_come_in_any_pieces(pair: Pair, step: int) -> None:
    server, client = shaken(pair, step)
    assert server.opened(client.sealed(b"hello")) == (b"hello", False)
    assert client.opened(server.sealed(b"there")) == (b"there", False)


@given(st.data())
def test_data_may_come_in_any_pieces(pair: Pair, data: st.DataObject) -> None:
    server, client = shaken(pair)
    said = data.draw(st.lists(st.integers(1, 40_000), min_size=1, max_size=4))
    wire, whole = b"", b""
    for size in said:
        part = LARGE[len(whole):len(whole) + size]
        wire += client.sealed(part)
        whole += part
    wire += client.farewell()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    got, over = b"", False
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        assert not over or start == end
        found, over = server.opened(wire[start:end]) if start < end else (b"", over)
        got += found
    assert got == whole
    assert over


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_what_is_sealed_is_whole(pair: Pair, kind: type) -> None:
    server, client = shaken(pair)
    wire = client.sealed(kind(LARGE))
    assert server.opened(wire) == (LARGE, False)
    assert client.due() == b""


def test_a_changed_byte_ends_it(pair: Pair) -> None:
    server, client = shaken(pair)
    wire = bytearray(client.sealed(b"good") + client.sealed(b"bad"))
    wire[-1] ^= 1
    with pytest.raises(ssl.SSLError):
        server.opened(bytes(wire))


@pytest.mark.parametrize("name", ["other.example", "127.0.0.2"])
def test_another_name_is_refused_and_told(pair: Pair, name: str) -> None:
    server, client = layers(pair, name)
    client.shake(b"")
    server.shake(client.due())
    with pytest.raises(ssl.SSLCertVerificationError):
        client.shake(server.due())
    with pytest.raises(ssl.SSLError):
        while alert := client.due():
            if server.shake(alert):
                break
        server.opened(client.due())


def test_a_farewell_before_the_handshake_says_nothing(pair: Pair) -> None:
    assert layers(pair)[0].farewell() == b""


@pytest.fixture(params=["loop", "settled"])
def run(request: pytest.FixtureRequest, pair: Pair) -> Callable[[Talk], None]:
    """Runs a conversation between a server's stream, of that kind, and a client's on the loop's transport."""
    async def whole(talk: Talk) -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            far_socket = socket.create_connection(listening.getsockname())
            near_socket = listening.accept()[0]
        _, near = await loop.connect_accepted_socket(lambda: ByteStream(ClientFault), near_socket)
        _, far = await loop.create_connection(lambda: ByteStream(TargetFault), sock=far_socket)
        server, client = contexts(pair)
        async with asyncio.timeout(120):
            await asyncio.gather(near.start_tls(server, server_side=True),
                                 far.start_tls(client, server_side=False, server_hostname="localhost"))
            if request.param == "settled":
                near.settle()
                assert near._settled is not None
            await talk(near, far)
            for stream in (near, far):
                stream.abort()
                await stream.closed()

    def run(talk: Talk) -> None:
        for factory in (asyncio.new_event_loop, uvloop.new_event_loop):
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(whole(talk))
    return run


async def took(stream: ByteStream, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        data = await stream.read()
        assert data, "it ended early"
        found += data
    return bytes(found)


def test_much_passes_both_ways(run: Callable[[Talk], None]) -> None:
    async def talk(near: ByteStream, far: ByteStream) -> None:
        for one, other in ((near, far), (far, near)):
            taking = asyncio.ensure_future(took(other, 2 * len(LARGE)))
            for _ in range(2):
                one.write(LARGE)
                await one.drain()
            assert await taking == LARGE * 2
    run(talk)


def test_a_peer_that_does_not_read_stops_the_writer(run: Callable[[Talk], None]) -> None:
    async def talk(near: ByteStream, far: ByteStream) -> None:
        far._pause()
        written = 0
        while not near.congested:
            near.write(LARGE[:65536])
            written += 65536
        assert near._transport is not None
        assert near._transport.get_write_buffer_size() <= WRITE_HIGH + 2 * 65536
        far._resume()
        assert await took(far, written) == (LARGE[:65536] * (written // 65536))
        await near.drain()
    run(talk)


def test_the_end_is_told_and_what_was_sent_before_arrives(run: Callable[[Talk], None]) -> None:
    async def talk(near: ByteStream, far: ByteStream) -> None:
        near.write(LARGE)
        near.write(b"")
        near.close()
        near.close()
        assert await took(far, len(LARGE)) == LARGE
        assert await far.read() == b""
        await near.closed()
        await far.closed()
    run(talk)


def test_the_other_end_says_goodbye(run: Callable[[Talk], None]) -> None:
    async def talk(near: ByteStream, far: ByteStream) -> None:
        far.write(b"bye")
        far.close()
        assert await near.read() == b"bye"
        assert await near.read() == b""
        assert near.gone.is_set()
        await near.closed()
        await far.closed()
    run(talk)


def test_a_connection_that_is_cut_is_over(run: Callable[[Talk], None]) -> None:
    async def talk(near: ByteStream, far: ByteStream) -> None:
        far._layer = None                       # no close_notify
        far.close()
        assert await near.read() == b""
        await near.closed()
        await far.closed()
    run(talk)


def test_bytes_that_are_no_record_end_it(run: Callable[[Talk], None]) -> None:
    async def talk(near: ByteStream, far: ByteStream) -> None:
        taken: list[bytes] = []
        came = asyncio.Event()

        def tap(data: bytes) -> bool:
            taken.append(data)
            came.set()
            return True
        near.tap = tap
        far.write(b"good")
        await came.wait()
        far._layer = None
        far.write(b"Q\0\0\0\x0eselect 1\0")
        await near.closed()
        assert taken == [b"good"]
    run(talk)


def test_the_tap_and_the_writer_are_in_tls_too(run: Callable[[Talk], None]) -> None:
    async def talk(near: ByteStream, far: ByteStream) -> None:
        shown: list[bytes] = []
        came = asyncio.Event()

        def tap(data: bytes) -> bool:
            shown.append(data)
            came.set()
            return data == b"mine"
        near.tap = tap
        far.write(b"mine")
        await came.wait()
        far.write(b"yours")
        assert await near.read() == b"yours"
        assert shown == [b"mine", b"yours"]
        near.writer(b"sealed")
        assert await far.read() == b"sealed"
    run(talk)


def test_who_asks_for_keys_and_does_not_read_is_left(run: Callable[[Talk], None], monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(near: ByteStream, far: ByteStream) -> None:
        far._pause()
        while not near.congested:
            near.write(LARGE[:65536])
        assert near._layer is not None
        monkeypatch.setattr(near._layer, "due", lambda: b"x" * 10_000)
        for _ in range(WRITE_HIGH // 10_000 + 2):
            far.write(b"z")
            await asyncio.sleep(0.001)
        await near.closed()
    run(talk)


def test_tls_begins_once_and_such_a_stream_is_kept(run: Callable[[Talk], None], pair: Pair) -> None:
    async def talk(near: ByteStream, far: ByteStream) -> None:
        with pytest.raises(RuntimeError):
            await near.start_tls(contexts(pair)[0], server_side=True)
        with pytest.raises(RuntimeError):
            far.hand_over(asyncio.Protocol())
    run(talk)


async def test_a_handshake_has_its_time(pair: Pair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        far = socket.create_connection(listening.getsockname())
        near_socket = listening.accept()[0]
    with far:
        _, near = await asyncio.get_running_loop().connect_accepted_socket(lambda: ByteStream(ClientFault), near_socket)
        far.send(b"\x16\x03\x01")
        with pytest.raises(ClientFault, match="TimeoutError"):
            await near.start_tls(contexts(pair)[0], server_side=True, direct=True, timeout=0.05)
        near.abort()
        await near.closed()


async def test_a_name_that_is_none_is_a_fault(pair: Pair, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        far = socket.create_connection(listening.getsockname())
        near_socket = listening.accept()[0]
    with far:
        _, near = await asyncio.get_running_loop().connect_accepted_socket(lambda: ByteStream(TargetFault), near_socket)
        with pytest.raises(TargetFault, match="ValueError"):
            await near.start_tls(contexts(pair)[1], server_side=False, server_hostname="")
        near.abort()
        await near.closed()
