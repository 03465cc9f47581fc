# SPDX-License-Identifier: Apache-2.0
"""Connections kept for the next session of a caller: what becomes of them, without a socket; and which sessions leave one clean."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.errors import TargetFault
from gateway.model import Identity, Session
from gateway.net.stream import ByteStream
from gateway.protocols.postgres import kept, messages
from gateway.protocols.postgres.kept import Kept, Lease, same_caller
from gateway.protocols.postgres.messages import DataRow, ParameterStatus, ReadyForQuery
from gateway.protocols.postgres.target import Address, TargetConnection
from tests.unit.protocols.postgres.talk import BOT, MemoryTransport, make_room, talking

CONTEXT = ("{pg_catalog,public}", "bench", "bench", "", "none", '"$user", public', "on", "UTF8", "on", "origin")
DISCARDED = messages.CommandComplete("DISCARD ALL").encode() + ReadyForQuery("I").encode()
SETTINGS = {"application_name": "a-program"}


def answer(row: tuple[str, ...] = CONTEXT, *more: ParameterStatus) -> bytes:
    described = messages.RowDescription(tuple(messages.Field(f"c{number}", 0, 0, 25, -1, -1, 0) for number in range(len(row))))
    told = b"".join(one.encode() for one in more)
    return (described.encode() + DataRow(tuple(one.encode() for one in row)).encode() + messages.CommandComplete("SELECT 1").encode()
            + told + ReadyForQuery("I").encode())


def session(*, id: str = "s1", login: str = "ci-bot", resource: str = "orders-db", database: str = "orders") -> Session:
    return Session(id, BOT, resource, "postgres", "127.0.0.1", 0.0, login, database)


class Bench:
    """Some kept connections, each to a target that says what it is told to."""

    def __init__(self) -> None:
        self.policy = object()
        self.kept = Kept(lambda: self.policy)

    def reload(self) -> None:
        self.policy = object()
        self.kept.reloaded()

    def lease(self, name: str = "s1", seconds: float = 60.0, settings: dict[str, str] | None = None,
              resource: str = "orders-db") -> tuple[Lease, MemoryTransport]:
        stream = ByteStream(TargetFault)
        far = MemoryTransport(stream)
        stream.connection_made(far)
        connection = TargetConnection(stream, Address("127.0.0.1", 1), None, {"TimeZone": "UTC"})
        made = self.kept.lease(session(id=name, resource=resource), SETTINGS if settings is None else settings, connection, seconds,
                               self.policy)
        made.context = CONTEXT
        return made, far

    async def given(self, says: bytes = DISCARDED, name: str = "s1", seconds: float = 60.0,
                    settings: dict[str, str] | None = None, resource: str = "orders-db") -> tuple[Lease, MemoryTransport]:
        """Given back, and the target's answer to what makes it clean."""
        lease, far = self.lease(name, seconds, settings, resource)
        self.kept.give(lease)
        await until(lambda: bool(far.written))
        if not far.is_closing() and b"discard all" in far.take():
            lease.connection.stream.data_received(says)
        await settled()
        return lease, far

    async def taken(self, far: MemoryTransport, says: bytes, who: Session | None = None) -> bool:
        """Whether a session gets it when the target answers so."""
        far.take()
        task = asyncio.ensure_future(self.kept.take(who or session(id="s2"), SETTINGS))
        await settled()
        if far.written:
            stream = far._protocol
            assert isinstance(stream, ByteStream)
            stream.data_received(says)
        return await task is not None


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0)


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_given_made_clean_and_taken_once(bench: Bench) -> None:
    _, far = await bench.given()
    assert len(bench.kept) == 1
    assert await bench.taken(far, answer())
    assert len(bench.kept) == 0
    assert await bench.kept.take(session(), SETTINGS) is None


OTHERS: dict[str, Identity] = {
    "name": replace(BOT, name="other"), "issuer": replace(BOT, issuer="staff"), "subject": replace(BOT, subject="another branch"),
    "groups": replace(BOT, groups=frozenset()), "entry": replace(BOT, entry="changed"), "person": replace(BOT, person=True),
}


@pytest.mark.parametrize("who", OTHERS.values(), ids=OTHERS.keys())
async def test_t36_another_identity_is_another_caller(who: Identity, bench: Bench) -> None:
    await bench.given()
    assert await bench.kept.take(replace(session(), identity=who), SETTINGS) is None


@pytest.mark.parametrize("changed", [{"login": "x"}, {"resource": "x"}, {"database": "x"}])
async def test_t36_another_place_is_another_caller(changed: dict[str, str], bench: Bench) -> None:
    await bench.given()
    assert await bench.kept.take(session(**changed), SETTINGS) is None
    assert await bench.kept.take(session(), {**SETTINGS, "TimeZone": "UTC"}) is None


def test_t36_settings_and_names_do_not_run_into_each_other() -> None:
    assert same_caller(session(database="a"), {"b": "c"}) != same_caller(session(database="a"), {"b": "c", "d": "e"})
    assert same_caller(session(login="a", database="b"), {}) != same_caller(session(login="b", database="a"), {})


REFUSED = messages.ErrorResponse({"S": "ERROR", "V": "ERROR", "C": "25001", "M": "in a transaction"})
UNCLEAN = {
    "refused": REFUSED.encode() + ReadyForQuery("I").encode(),
    "in a transaction": messages.CommandComplete("DISCARD ALL").encode() + ReadyForQuery("T").encode(),
    "more than was asked": DISCARDED + messages.ParameterStatus("TimeZone", "CET").encode(),
    "another setting": messages.ParameterStatus("TimeZone", "CET").encode() + DISCARDED,
    "rows": answer(),
    "cut off": b"",
}


@pytest.mark.parametrize("says", UNCLEAN.values(), ids=UNCLEAN.keys())
async def test_t36_what_is_not_clean_is_not_kept(says: bytes, bench: Bench) -> None:
    if says:
        _, far = await bench.given(says)
    else:
        lease, far = bench.lease()
        bench.kept.give(lease)
        await until(lambda: bool(far.written))
        lease.connection.stream.eof_received()
        await settled()
    assert len(bench.kept) == 0
    assert far.is_closing()


CHANGED = {
    "user": 1, "session user": 2, "role": 4, "search path": 5, "strings": 6, "encoding": 7, "row security": 8, "replication role": 9,
}


@pytest.mark.parametrize("place", CHANGED.values(), ids=CHANGED.keys())
async def test_t36_what_is_not_as_it_was_is_not_given(place: int, bench: Bench) -> None:
    _, far = await bench.given()
    row = tuple("other" if number == place else one for number, one in enumerate(CONTEXT))
    assert not await bench.taken(far, answer(row))
    assert far.is_closing()


async def test_schemas_may_be_others(bench: Bench) -> None:
    _, far = await bench.given()
    assert await bench.taken(far, answer(("{pg_catalog,bench,public}", *CONTEXT[1:])))


async def test_t36_where_temporary_relations_were_made_it_is_not_given(bench: Bench) -> None:
    """The catalog may still know them, and the schema stays on the path: their names would stand for what is gone."""
    _, far = await bench.given()
    assert not await bench.taken(far, answer((*CONTEXT[:3], "pg_temp_3", *CONTEXT[4:])))
    assert far.is_closing()


async def test_what_was_opened_under_another_policy_is_neither_kept_nor_given(bench: Bench) -> None:
    """Also in the moment in which the policy is in force and the listener has not heard of it."""
    before, _ = bench.lease()
    _, far = await bench.given()
    bench.policy = object()
    assert await bench.kept.take(session(), SETTINGS) is None
    assert far.is_closing()
    bench.kept.give(before)
    assert len(bench.kept) == 0


async def test_room_is_made_at_the_server_whatever_the_resource(bench: Bench) -> None:
    _, far = await bench.given()
    assert not await bench.kept.make_room([("127.0.0.1", 2), ("other", 1)])
    making = asyncio.ensure_future(bench.kept.make_room([("127.0.0.1", 1)]))
    await settled()
    far._protocol.connection_lost(None)
    assert await making
    assert len(bench.kept) == 0


@pytest.mark.parametrize(
    "says", [answer(CONTEXT, messages.ParameterStatus("TimeZone", "CET")), answer(("x",)), ReadyForQuery("I").encode()],
    ids=["another setting", "another shape", "nothing"])
async def test_a_target_that_says_something_else_is_left(says: bytes, bench: Bench) -> None:
    _, far = await bench.given()
    assert not await bench.taken(far, says)
    assert far.is_closing()


async def test_what_the_target_says_meanwhile_closes_it(bench: Bench) -> None:
    lease, _ = await bench.given()
    lease.connection.stream.data_received(messages.ParameterStatus("TimeZone", "CET").encode())
    assert len(bench.kept) == 0
    other, _ = await bench.given()
    other.connection.stream.eof_received()
    assert len(bench.kept) == 0


async def test_after_a_reload_nothing_is_given(bench: Bench) -> None:
    before, far = bench.lease()
    _, idle = await bench.given()
    bench.reload()
    await settled()
    assert len(bench.kept) == 0
    assert idle.is_closing()
    bench.kept.give(before)
    await settled()
    assert len(bench.kept) == 0
    assert far.is_closing()
    assert b"discard" not in far.written


async def test_a_reload_in_between_is_seen(bench: Bench) -> None:
    lease, far = bench.lease()
    bench.kept.give(lease)
    await until(lambda: bool(far.written))
    bench.reload()
    lease.connection.stream.data_received(DISCARDED)
    await settled()
    assert len(bench.kept) == 0
    assert far.is_closing()
    _, other = await bench.given()
    taking = asyncio.ensure_future(bench.kept.take(session(), SETTINGS))
    await settled()
    bench.reload()
    stream = other._protocol
    assert isinstance(stream, ByteStream)
    stream.data_received(answer())
    assert await taking is None
    assert other.is_closing()


async def test_as_many_as_there_may_be(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "IN_ALL", kept.PER_CALLER + 1)
    given = [await bench.given(name=f"s{number}") for number in range(kept.PER_CALLER + 1)]
    assert len(bench.kept) == kept.PER_CALLER
    assert [far.is_closing() for _, far in given] == [False] * kept.PER_CALLER + [True]
    await bench.given(settings={"application_name": "another program"})
    assert len(bench.kept) == kept.PER_CALLER, "of one identity, whatever it calls itself"
    for number in range(2):
        await bench.given(resource=f"other-{number}")
    assert len(bench.kept) == kept.PER_CALLER + 1
    assert given[0][1].is_closing(), "the one that waited longest goes first"


async def test_it_goes_when_its_time_is_over_or_it_is_old(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.given(seconds=0.01)
    await until(lambda: len(bench.kept) == 0)
    _, far = await bench.given()
    monkeypatch.setattr(kept, "OLDEST", 0.0)
    assert await bench.kept.take(session(), SETTINGS) is None
    assert far.is_closing()
    _, far = await bench.given()
    assert far.is_closing()


async def test_closing_leaves_nothing(bench: Bench) -> None:
    await bench.given()
    await bench.kept.close()
    assert len(bench.kept) == 0


# what a session leaves

async def test_a_session_at_rest_leaves_it_clean(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path)) as talk:
        got: list[bool] = []
        talk.relay.keep = lambda: got.append(True)
        await talk.query("select id from orders where id = 1")
        await talk.say(messages.Terminate())
    assert got == [True]


async def test_t36_a_session_that_leaves_something_open_leaves_nothing(tmp_path: Path) -> None:
    pipeline = (messages.Parse("", "select id from orders where id = 1"), messages.Bind("", ""), messages.Execute(""), messages.Flush())
    for number, said in enumerate([(messages.Query("begin"),), pipeline]):
        got: list[bool] = []
        async with talking(make_room(tmp_path / str(number))) as talk:
            talk.relay.keep = lambda got=got: got.append(True)
            await talk.say(*said)
            await talk.say(messages.Terminate())
        assert not got


async def test_t36_a_session_that_was_cancelled_or_ended_leaves_nothing(tmp_path: Path) -> None:
    for number, ends in enumerate(["cancelled", "ended", "gone"]):
        got: list[bool] = []
        async with talking(make_room(tmp_path / str(number))) as talk:
            talk.relay.keep = lambda got=got: got.append(True)
            await talk.query("select id from orders where id = 1")
            if ends == "cancelled":
                talk.relay.commands.cancel_target()
            elif ends == "ended":
                talk.relay.end("an operator says so")
            else:
                talk.client.eof_received()
            await talk.quiet()
            await talk.say(messages.Terminate())
        assert not got
