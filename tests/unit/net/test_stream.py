# SPDX-License-Identifier: Apache-2.0
"""Streams: nothing lost, nothing unbounded, the end seen by everybody who waits."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import ClientFault, TargetFault
from gateway.net.server import Supervisor, parse_address
from gateway.net.stream import READ_HIGH, WRITE_HIGH
from gateway.net.tls import client_context
from gateway.testing.memory import joined


async def test_bytes_arrive_in_order() -> None:
    near, far = joined()
    near.write(b"abc")
    near.write(b"def")
    assert await far.read() == b"abcdef"
    assert far.buffered == 0


async def test_read_exactly_leaves_the_rest() -> None:
    near, far = joined()
    near.write(b"abcdef")
    assert await far.read_exactly(2) == b"ab"
    assert await far.read_exactly(3) == b"cde"
    far.unread(b"x")
    assert await far.read() == b"xf"


async def test_read_exactly_waits_and_fails_at_the_end() -> None:
    near, far = joined()
    waiting = asyncio.create_task(far.read_exactly(4))
    near.write(b"ab")
    await asyncio.sleep(0)
    near.close()
    with pytest.raises(ClientFault, match="ended"):
        await waiting


async def test_the_end_is_seen_without_reading() -> None:
    near, far = joined()
    near.write(b"last")
    near.close()
    await asyncio.wait_for(far.gone.wait(), 5)
    assert far.ended
    assert await far.read() == b"last"
    assert await far.read() == b""
    assert far.has_gone()
    await far.closed()


async def test_a_reader_that_waits_is_woken_by_the_end() -> None:
    near, far = joined()
    waiting = asyncio.create_task(far.read())
    await asyncio.sleep(0)
    near.abort()
    assert await asyncio.wait_for(waiting, 5) == b""


async def test_memory_is_bounded_both_ways() -> None:
    near, far = joined()
    written = 0
    while not near.congested and written < 64 << 20:
        near.write(b"x" * 65536)
        written += 65536
        await asyncio.sleep(0)
    assert far.buffered <= READ_HIGH + 65536
    assert written <= READ_HIGH + WRITE_HIGH + 3 * 65536
    draining = asyncio.create_task(near.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    read = 0
    while read < written:
        read += len(await far.read())
    await asyncio.wait_for(draining, 5)
    assert read == written and not near.congested


async def test_drain_ends_when_the_connection_is_lost() -> None:
    near, _ = joined()
    while not near.congested:
        near.write(b"x" * 65536)
        await asyncio.sleep(0)
    draining = asyncio.create_task(near.drain())
    await asyncio.sleep(0)
    near.abort()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(draining, 5)
    with pytest.raises(ConnectionResetError):
        await near.drain()
    near.write(b"nobody")


async def test_one_reader_at_a_time() -> None:
    near, far = joined()
    first = asyncio.create_task(far.read())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError):
        await far.read()
    near.write(b"x")
    assert await first == b"x"


async def test_a_cancelled_reader_loses_nothing() -> None:
    near, far = joined()
    first = asyncio.create_task(far.read())
    await asyncio.sleep(0)
    first.cancel()
    near.write(b"x")
    await asyncio.gather(first, return_exceptions=True)
    assert await far.read() == b"x"


async def test_tls_is_refused_after_bytes_in_clear() -> None:
    """CVE-2021-23222, CVE-2021-3935 (T17), on both legs."""
    context = client_context("require")
    assert context is not None
    near, far = joined()
    near.write(b"X")
    far.write(b"X")
    await asyncio.sleep(0.01)
    with pytest.raises(ClientFault, match="in clear"):
        await far.start_tls(context, server_side=True, announce=b"S")
    with pytest.raises(TargetFault, match="in clear"):
        await near.start_tls(context, server_side=False)
    assert await near.read() == b"X", "S was not said"


async def test_tls_is_refused_after_the_end() -> None:
    context = client_context("require")
    assert context is not None
    near, far = joined()
    near.close()
    await far.gone.wait()
    with pytest.raises(ClientFault, match="ended"):
        await far.start_tls(context, server_side=True)


async def test_a_supervisor_ends_its_tasks(caplog: pytest.LogCaptureFixture) -> None:
    ended = []

    async def forever(name: str) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(name)

    async def fails() -> None:
        raise ValueError("secret-token")

    async with Supervisor() as supervisor:
        supervisor.start(forever("a"))
        supervisor.start(forever("b"))
        supervisor.start(fails())
        await asyncio.sleep(0.01)
        assert len(supervisor) == 2
    assert sorted(ended) == ["a", "b"] and len(supervisor) == 0
    assert "ValueError" in caplog.text and "secret-token" not in caplog.text


async def test_a_supervisor_waits_for_what_ends_by_itself() -> None:
    async with Supervisor() as supervisor:
        task = supervisor.start(asyncio.sleep(0.01))
        await supervisor.drain(5)
        assert task.done() and not task.cancelled()


@pytest.mark.parametrize(
    ("text", "address"), [("127.0.0.1:5432", ("127.0.0.1", 5432)), ("[::1]:80", ("::1", 80)), ("db.example:1", ("db.example", 1))]
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "host", ":5432", "host:", "host:x", "host:65536", "host:-1"])
def test_no_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="not an address"):
        parse_address(text)


def test_tls_modes() -> None:
    assert client_context("disable") is None
    with pytest.raises(ValueError, match="unknown TLS mode"):
        client_context("prefer")
    full, chain, any_ = client_context("verify-full"), client_context("verify-ca"), client_context("require")
    assert full is not None and chain is not None and any_ is not None
    assert (full.check_hostname, chain.check_hostname, any_.check_hostname) == (True, False, False)
    assert (full.verify_mode, chain.verify_mode, any_.verify_mode) == (2, 2, 0)
