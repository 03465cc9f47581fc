# SPDX-License-Identifier: Apache-2.0
"""Callers that stall, flood or talk nonsense (T66)."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from gateway.console.limits import Connections, ConsoleLimits, Failures, is_loopback
from gateway.net.source import source_of
from gateway.testing.console import ConsoleRoom


async def raw(room: ConsoleRoom, data: bytes) -> bytes:
    """Send bytes, read until the console closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", room.port)
    try:
        writer.write(data)
        with suppress(ConnectionError):
            return await asyncio.wait_for(reader.read(), 20)
        return b""
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.parametrize("data", [b"", b"GET /readyz HT", b"GET /readyz HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_t66_a_request_head_that_does_not_come_ends_the_connection(tmp_path: Path, data: bytes) -> None:
    async with ConsoleRoom(tmp_path, limits=ConsoleLimits(header=0.05)) as room:
        assert await raw(room, data) == b""
        assert room.connections == 0


async def test_t66_a_body_that_does_not_come_ends_the_request(tmp_path: Path) -> None:
    async with ConsoleRoom(tmp_path, limits=ConsoleLimits(request=0.05)) as room:
        token = room.person("ines", "dba")
        _, held = await room.room.asked()
        head = (f"POST /api/v1/approvals/{held.id}/approve HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
                "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        assert (await raw(room, head.encode())).startswith(b"HTTP/1.1 503")


async def test_t66_connections_are_bounded_per_source(tmp_path: Path) -> None:
    async with ConsoleRoom(tmp_path, limits=ConsoleLimits(per_source=2)) as room:
        kept = [await asyncio.open_connection("127.0.0.1", room.port) for _ in range(2)]
        async with aiohttp.ClientSession() as http:
            with pytest.raises(aiohttp.ClientConnectionError):
                await http.get(room.url + "/readyz")
            for _, writer in kept:
                writer.close()
                await writer.wait_closed()
            for _ in range(200):
                if room.connections == 0:
                    break
                await asyncio.sleep(0.01)
            async with http.get(room.url + "/readyz") as answer:
                assert answer.status == 200


async def test_t66_requests_in_flight_are_bounded(tmp_path: Path) -> None:
    async with ConsoleRoom(tmp_path, limits=ConsoleLimits(in_flight=1)) as room, aiohttp.ClientSession() as http:
        room.audit.hold()
        headers = {"Authorization": f"Bearer {room.person('sam', 'security')}"}
        waiting = asyncio.create_task(http.get(room.url + "/api/v1/sessions", headers=headers))
        for _ in range(200):
            async with http.get(room.url + "/healthz") as answer:
                if answer.status == 503:
                    break
            await asyncio.sleep(0.01)
        assert answer.status == 503 and answer.headers["Retry-After"] == "1"
        room.audit.release()
        async with await waiting as done:
            assert done.status == 200


@pytest.mark.parametrize("data", [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
    b"GET /readyz HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s3cr3t-t0ken\r\nBad Header: s3cr3t-t0ken\r\n\r\n",
    b"GET /readyz HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    b"POST /readyz HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
])
async def test_nonsense_is_refused_and_not_logged(tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with ConsoleRoom(tmp_path, limits=ConsoleLimits(header=1.0)) as room:
        answer = await raw(room, data)
        assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
    assert "s3cr3t" not in caplog.text


async def test_keep_alive_serves_several_requests(tmp_path: Path) -> None:
    async with ConsoleRoom(tmp_path) as room:
        last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answers = await raw(room, b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n" * 2 + last)
        assert answers.count(b"HTTP/1.1 200") == 3


def test_failures_fade() -> None:
    failures = Failures(2, sources=2)
    for _ in range(2):
        assert failures.wait("a", 0.0) == 0
        failures.count("a", 0.0)
    assert failures.wait("a", 0.0) > 0 and failures.wait("b", 0.0) == 0
    assert failures.wait("a", 31.0) == 0
    for source in ("b", "c", "d"):
        failures.count(source, 0.0)
    assert failures.wait("a", 0.0) == 0


def test_connections_count() -> None:
    open_now = Connections(ConsoleLimits(connections=2, per_source=1))
    assert open_now.enter("a") and not open_now.enter("a") and open_now.enter("b") and not open_now.enter("c")
    open_now.leave("a")
    assert len(open_now) == 1 and open_now.enter("c")


@pytest.mark.parametrize(("address", "source", "local"), [
    ("127.0.0.1", "127.0.0.1", True), ("::1", "::/64", True), ("10.1.2.3", "10.1.2.3", False), ("::ffff:127.0.0.1", "127.0.0.1", True),
    ("2001:db8::1:2:3:4", "2001:db8::/64", False), ("fe80::1%eth0", "fe80::/64", False), (None, "?", False), ("nonsense", "?", False),
])
def test_sources(address: str | None, source: str, local: bool) -> None:
    assert (source_of(address), is_loopback(address)) == (source, local)
