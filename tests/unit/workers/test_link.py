# SPDX-License-Identifier: Apache-2.0
"""Calls between two processes, over a real pair of sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.errors import AuditUnavailable, ClientFault, ConfigError, Fault, GatewayFault, Refused, TargetFault
from gateway.workers.link import Link, LinkLost, TooLong

LIMIT = 4096
Answer = Callable[[Any], Awaitable[Any]]


@asynccontextmanager
async def pair(
    answers: dict[str, Answer] | None = None, hears: dict[str, Callable[[Any], None]] | None = None,
) -> AsyncIterator[tuple[Link, Link]]:
    """Who asks, and who answers."""
    ours, theirs = socket.socketpair()
    asking, answering = await Link.over(ours, {}, {}, LIMIT), await Link.over(theirs, answers or {}, hears or {}, LIMIT)
    running = [asyncio.create_task(one.run()) for one in (asking, answering)]
    try:
        yield asking, answering
    finally:
        await asking.close()
        await answering.close()
        await asyncio.gather(*running)


async def test_many_calls_at_once_each_get_their_own_answer() -> None:
    async def later(about: Any) -> Any:
        await asyncio.sleep(0.001 * (5 - about))
        return {"twice": about * 2}

    async with pair({"later": later}) as (asking, _):
        assert await asyncio.gather(*(asking.call("later", number) for number in range(5))) == [{"twice": 2 * n} for n in range(5)]


@pytest.mark.parametrize("fault", [
    Refused("no", "42501", "apr_1", "ask somebody"), ClientFault("wrong", "08P01"), TargetFault("gone", "08006"), AuditUnavailable("full"),
    ConfigError("a key"), GatewayFault("else")], ids=lambda fault: type(fault).__name__)
async def test_a_fault_arrives_as_what_it_was(fault: Fault) -> None:
    async def fails(_: Any) -> Any:
        raise fault

    async with pair({"fails": fails}) as (asking, _):
        with pytest.raises(type(fault)) as caught:
            await asking.call("fails")
        assert type(caught.value) is type(fault) and str(caught.value) == str(fault)
        for name in ("code", "detail", "hint"):
            assert getattr(caught.value, name, "") == getattr(fault, name, "")


async def test_what_goes_wrong_inside_is_not_told() -> None:
    async def fails(_: Any) -> Any:
        raise RuntimeError("a secret")

    async with pair({"fails": fails}) as (asking, _):
        with pytest.raises(GatewayFault, match=r"^internal error$"):
            await asking.call("fails")


async def test_who_waits_no_longer_is_answered_no_longer() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def waits(_: Any) -> Any:
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    async with pair({"waits": waits}) as (asking, _):
        call = asyncio.create_task(asking.call("waits"))
        await begun.wait()
        call.cancel()
        await ended.wait()


async def test_what_is_told_is_heard_after_the_calls_before_it_began() -> None:
    seen: list[str] = []
    over = asyncio.Event()

    async def call(about: Any) -> Any:
        seen.append(f"call {about}")
        await over.wait()

    def tell(about: Any) -> None:
        seen.append(f"tell {about}")
        over.set()

    async with pair({"call": call}, {"tell": tell}) as (asking, _):
        waiting = asyncio.create_task(asking.call("call", 1))
        await asyncio.sleep(0)
        asking.tell("tell", 2)
        await waiting
    assert seen == ["call 1", "tell 2"]


async def test_the_other_end_gone_is_heard_by_everybody_who_waits_or_asks() -> None:
    begun = asyncio.Event()

    async def waits(_: Any) -> Any:
        begun.set()
        await asyncio.get_running_loop().create_future()

    async with pair({"waits": waits}) as (asking, answering):
        call = asyncio.create_task(asking.call("waits"))
        await begun.wait()
        await answering.close()
        with pytest.raises(LinkLost):
            await call
        with pytest.raises(LinkLost):
            await asking.call("waits")
        asking.tell("anything")


async def test_what_is_too_long_or_cannot_be_said_is_not_sent() -> None:
    async def echo(about: Any) -> Any:
        return about

    async with pair({"echo": echo}) as (asking, _):
        with pytest.raises(TooLong):
            await asking.call("echo", "x" * LIMIT)
        with pytest.raises(GatewayFault):
            await asking.call("echo", object())
        assert await asking.call("echo", "still there") == "still there"


@pytest.mark.parametrize("sent", [
    b"\x7f\xff\xff\xff", b"\x00\x00\x00\x02{]", b"\x00\x00\x00\x10" + b'{"call":"none"}\n', b"\x00\x00\x00\x02[]", b"\x00\x00\x00\x02{}",
    b"\x00\x00\x00\x18" + b'{"tell":"none","about":1'[:23] + b"}"],
    ids=["length", "no json", "no such call", "a list", "nothing", "no such tell"])
async def test_who_breaks_the_rules_is_hung_up_on(sent: bytes) -> None:
    ours, theirs = socket.socketpair()
    link = await Link.over(ours, {}, {}, LIMIT)
    theirs.send(sent)
    async with asyncio.timeout(30):
        await link.run()
    assert link.lost.is_set()
    theirs.close()
