# SPDX-License-Identifier: Apache-2.0
"""The lane changes nothing but the time it takes: with it and without, compiled and not, the same bytes to the caller, the same to the
target, the same records. And nothing that stops an operation elsewhere is passed by here."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.model import Command, Decision
from gateway.protocols.postgres import messages
from gateway.protocols.postgres import session as sessions
from gateway.protocols.postgres.lane import Lane
from gateway.protocols.postgres.lanerun import PureRun, Run
from gateway.protocols.postgres.messages import Bind, Close, Describe, Execute, Field, Flush, Message, Parse, Query, Sync
from gateway.protocols.postgres.session import Relay
from gateway.testing import FailingAudit, FrozenClock, MemoryAudit
from gateway.testing.scripted import Answer, ScriptedTarget, done, failure, rows
from tests.unit.protocols.postgres.talk import BOT, EVERYTHING, Room, Talk, errors, grant, kinds, make_room, table, talking, values

ONE = "select id, total from orders where id = $1"
HIDES = "select id, ssn, card from customers where ssn = $1"
INSERT = "insert into orders values ($1, 1, 1)"
RETURNS = "insert into orders values (7, 1, 1) returning id"
FAILS = "insert into orders values (1, 1, 1)"
DENIED = "drop table orders"
SSN = Field("ssn", table("customers"), 4, 25)
NOTICE = messages.ErrorResponse({"S": "NOTICE", "V": "NOTICE", "C": "00000", "M": "by the way"}, notice=True)
PEOPLE = rows([Field("id", table("customers"), 1, 23), SSN, Field("card", table("customers"), 5, 25)],
              ("1", "078-05-1120", "4111111111111111"), ("2", None, 'quo"ted \\ ü'))
ANSWERS: dict[str, Answer] = {
    ONE: rows(["id", "total"], ("1", "10")), HIDES: PEOPLE, INSERT: done("INSERT 0 1"), RETURNS: rows(["id"], ("7",), tag="INSERT 0 1"),
    FAILS: failure("23505", "duplicate key"), "select id from orders": [*rows(["id"], *[(str(n),) for n in range(30)])[:-1], NOTICE,
                                                                        messages.CommandComplete("SELECT 30")],
}
TEXTS = [ONE, HIDES, INSERT, RETURNS, FAILS, DENIED, "select id from orders", "begin", "commit", "rollback", "savepoint a",
         "set application_name = 'x'", "select", "select 1 as a; select 2 as b", "update orders set total = 1 where id = 3", ""]


@lru_cache(maxsize=2)
def room(masks: bool) -> Room:
    return make_room(Path(mkdtemp()), grant(masks=masks))


def commands(audit: MemoryAudit) -> list[tuple[Any, ...]]:
    """Every command as it began and as it ended, without the numbers of the records."""
    ends = {record.fields["begin"]: record for record in audit.records if record.kind == "command.end"}
    found: list[tuple[Any, ...]] = []
    for record in audit.records:
        if record.kind == "command.begin":
            end = ends.pop(record.seq, None)
            found.append((record.fields, end and {**end.fields, "begin": 0}, end and end.recording))
    assert not ends
    return found


_REFUSED = re.compile(rb"Q....lockgate_refused\0|E....lockgate_refused\0....(?:S\0\0\0\x04)?", re.DOTALL)
"""A refusal behind a group whose answer is still to come is made by the target, any other by the gateway; the lane may be earlier."""


async def _told(segments: list[bytes], masks: bool, cut: int, target: ScriptedTarget,
                hang_up: bool) -> tuple[bytes, bytes, list[tuple[Any, ...]], int]:
    where = room(masks)
    where.audit = MemoryAudit()
    async with talking(where, target) as talk:
        talk.cut = lambda data: [data[at:at + cut] for at in range(0, len(data), cut)] if cut else [data]
        for segment in segments:
            talk.client.data_received(segment)
            if len(segment) % 5:                   # now and then the next segment comes before anything has moved
                await talk.quiet()
        await talk.quiet()
        if hang_up:
            talk.near.close()
            await talk.quiet()
        seen = b"".join(kind.encode() + payload for kind, payload in talk.sent)
        return seen, _REFUSED.sub(b"", talk.to_target), commands(where.audit), talk.relay.lane.taken


PureLane: type[Lane] = type("PureLane", (PureRun,), {name: one for name, one in vars(Lane).items() if name not in vars(object)})
"""The lane upon the pure-Python form of what it does each time."""
LANES: list[type[Lane]] = [PureLane] if Run is PureRun else [Lane, PureLane]


@contextmanager
def lanes(kind: type[Lane] | None) -> Iterator[None]:
    """Sessions have this kind of lane meanwhile, or none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Relay, "lanes", kind is not None)
        patch.setattr(sessions, "Lane", kind or Lane)
        yield


def both(segments: list[bytes], masks: bool = True, cut: int = 0, answers: dict[str, Answer] = ANSWERS, *, hang_up: bool = False) -> int:
    """Run it with and without the lane and compare; gives how many operations the lane took. ``hang_up``: the caller says no goodbye."""
    found = []
    for kind in (None, *LANES):
        with lanes(kind):
            found.append(asyncio.run(_told(segments, masks, cut, ScriptedTarget(answers), hang_up)))
    without, with_it, *others = found
    assert with_it[:3] == without[:3]
    assert without[3] == 0
    assert others in ([], [with_it])
    return with_it[3]


def run(text: str, *parameters: bytes | None, describe: bool = True, formats: tuple[int, ...] = ()) -> bytes:
    """``Parse Bind [Describe] Execute Sync`` as libpq sends it."""
    return Parse("", text).encode() + again("", *parameters, describe=describe, formats=formats)


def again(name: str, *parameters: bytes | None, describe: bool = True, formats: tuple[int, ...] = (),
          results: tuple[int, ...] = ()) -> bytes:
    parts: list[Message] = [Bind("", name, formats, parameters, results), *([Describe("P", "")] if describe else []), Execute(""), Sync()]
    return b"".join(part.encode() for part in parts)


PREPARE = Parse("s", ONE).encode() + Parse("h", HIDES).encode() + Parse("i", INSERT).encode() + Sync().encode()


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("cut", [0, 1, 7])
@pytest.mark.parametrize("group", [
    run(ONE, b"1"), run(ONE, b"1", describe=False), run(HIDES, b"078-05-1120"), run(HIDES, None), run(HIDES, b"x", describe=False),
    again("s", b"1"), again("s", b"1", describe=False), again("h", b"078-05-1120", describe=False), again("i", b"4"),
    again("i", b"4111111111111111"), again("s", b"\0\0\0\1", formats=(1,)), again("s", b"1", results=(0,)),
    again("s", "ü\"\\".encode()), again("s", b"s3cret-of-the-gateway"),
    Query(RETURNS).encode(), Query("begin").encode(), Query("update orders set total = 1 where id = 3").encode()])
def test_the_same_with_and_without(group: bytes, cut: int, masks: bool) -> None:
    assert both([PREPARE, Query("select 1").encode(), *[group] * 3], masks, cut) >= 3


@pytest.mark.parametrize("segments", [
    [Query(FAILS).encode()] * 2, [run(FAILS)] * 2, [Query("select id from orders").encode()] * 2, [run("select id from orders")] * 2,
    [run(ONE, b"1") * 3] * 2, [run(ONE, b"1")[:30], run(ONE, b"1")[30:]], [again("nobody", b"1")], [Query(DENIED).encode()] * 2,
    [run(DENIED)] * 2, [Query("").encode()] * 2, [run(RETURNS)] * 3, [Query("set search_path = public").encode(), run(ONE, b"1")],
    [Query("begin").encode(), run(FAILS), run(ONE, b"1")],
    [Query("begin").encode(), run(ONE, b"1"), Execute("").encode() + Sync().encode(), Query("rollback").encode()],
    [Query("begin").encode(), again("s", b"1"), Bind("", "h", (), (b"2",)).encode() + Execute("").encode() + Sync().encode()],
    [Query("begin").encode(), Bind("", "s", (), (b"1",)).encode() + Sync().encode(), run(ONE, b"1"), run(ONE, b"1")],
    [run(ONE, b"1"), Bind("", "", (), (b"2",)).encode() + Execute("").encode() + Sync().encode()],
    [run(ONE, b"1"), Describe("S", "").encode() + Sync().encode(), run(ONE, b"\0\0\0\1", formats=(1,))],
    [again("s", b"1"), Close("S", "s").encode() + Sync().encode(), again("s", b"1")],
    [again("s", b"1"), Close("S", "s").encode() + Parse("s", HIDES).encode() + Sync().encode(), again("s", b"1")],
])
def test_the_long_way_takes_over(segments: list[bytes]) -> None:
    both([PREPARE, Query("select 1").encode(), *segments])


KINDS_OF_TEXTS = (
    "select id, total from orders where id = {}", "select id, ssn, card from customers where ssn = '{}'",
    "select count(*) + {} from orders",
    "insert into orders values ({}, 1, 1)", "update orders set total = {} where id = 3", "delete from orders where id = {}",
    "select o.id from orders o join customers c on c.id = o.id and c.ssn = '078-05-{}'", "select {}", "select upper('{}')",
    "select id from customers where id in (select id from orders where total > {})", "select lower('{}'), 4111111111111111",
    "insert into orders select id, {}, 2 from orders", "with w as (select {} as a) select a from w")
WIDTHS = {KINDS_OF_TEXTS[0]: 2, KINDS_OF_TEXTS[1]: 3, KINDS_OF_TEXTS[10]: 2}


def answer_once(kind: str) -> Answer:
    if kind.startswith(("insert", "update", "delete")):
        return done("UPDATE 2" if kind.startswith("update") else "DELETE 0" if kind.startswith("delete") else "INSERT 0 1")
    return PEOPLE if kind == KINDS_OF_TEXTS[1] else rows(["a", "b"][:WIDTHS.get(kind, 1)], ("1", "2")[:WIDTHS.get(kind, 1)])


def awaited(text: str) -> str:
    """The text so long that ``_told`` waits for its answer."""
    return text if len(Query(text).encode()) % 5 else f"{text} "


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("kinds", [slice(0, 3), slice(0, 13)])
def test_texts_that_come_once(masks: bool, order: int, kinds: slice) -> None:
    """Of few kinds and of more than a session has templates for."""
    chosen = KINDS_OF_TEXTS[kinds]
    answers = {awaited(kind.format(number)): answer_once(kind) for number in range(1000, 1007) for kind in chosen}
    texts = list(answers)[::order]
    assert both([Query("select 1").encode(), *[Query(one).encode() for one in texts]], masks, answers=answers) >= len(texts) // 2


async def test_what_only_some_rows_are_there_of_is_in_the_first_record(tmp_path: Path) -> None:
    """A record of the lane's has the relations under a row filter, as any other has."""
    async with talking(make_room(tmp_path, grant()), ScriptedTarget(ANSWERS)) as talk:
        await talk.query("select 1")
        command = Command((), "text", "shown", filtered=("public.orders",))
        for bound in (False, True):
            template, values = talk.relay.lane.records.once(command, Decision("allow"), bound=bound)
            assert template.fields["filtered"] == ["public.orders"] and values == ()
            assert template.holes == (("parameters",) if bound else ())


name = st.sampled_from(["", "s", "h", "i"])
text = st.sampled_from(TEXTS)
parameters = st.lists(st.one_of(st.none(), st.sampled_from([b"1", b"078-05-1120", b'a"b', b"4111111111111111"])), max_size=2).map(tuple)
part: st.SearchStrategy[Message] = st.one_of(
    st.builds(Parse, name, text), st.builds(lambda p, s: Bind(p, s), st.sampled_from(["", "p"]), name),
    st.builds(Execute, st.just(""), st.just(1)),
    st.builds(Describe, st.just("S"), name), st.builds(Close, st.sampled_from(["S", "P"]), name), st.just(Flush()))
turn = st.one_of(
    st.builds(again, name, st.sampled_from([b"1", b"078-05-1120"]), describe=st.booleans()), st.builds(run, text, describe=st.booleans()),
    st.builds(lambda text, parameters: run(text, *parameters), text, parameters), st.builds(lambda text: Query(text).encode(), text),
    st.lists(part, max_size=5).map(lambda parts: b"".join(one.encode() for one in [*parts, Sync()])))


@settings(max_examples=200, deadline=None)
@given(st.lists(turn, min_size=1, max_size=8), st.booleans(), st.sampled_from([0, 0, 1, 5, 64]), st.data())
def test_whatever_is_said_and_however_it_is_cut(turns: list[bytes], masks: bool, cut: int, data: st.DataObject) -> None:
    stream = b"".join(turns)
    if data.draw(st.booleans()):
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=4)))
        segments = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) if b > a]
    else:
        segments = turns
    both([PREPARE, Query("select 1").encode(), *segments], masks, cut)


# Compiled and not, whatever happens in the middle


def _catalog_anew(talk: Talk) -> None:
    shared: Any = talk.relay.context._shared
    shared._catalog = dataclasses.replace(shared._catalog, epoch=f"{shared._catalog.epoch}+")


def _policy(*grants: dict[str, Any]) -> Callable[[Talk], None]:
    made = lru_cache(maxsize=1)(lambda: make_room(Path(mkdtemp()), *grants).policy)

    def change(talk: Talk) -> None:
        talk.room.policy = made()

    return change


def _audit(change: Callable[[FailingAudit], None]) -> Callable[[Talk], None]:
    def changed(talk: Talk) -> None:
        assert isinstance(talk.audit, FailingAudit)
        change(talk.audit)

    return changed


LOOK = Lane.look
OPEN = lru_cache(maxsize=1)(lambda: make_room(Path(mkdtemp()), grant()).policy)
EVENTS: dict[str, Callable[[Talk], object]] = {
    "masks": _policy(grant(masks=True)), "open": _policy(grant()), "denied": _policy(grant([*EVERYTHING, {
        "name": "no", "deny": {"sql": {"verbs": ["select"]}}}])),
    "bounded": _policy(grant(session={"rows": 1000})), "catalog": _catalog_anew, "hold": _audit(FailingAudit.hold),
    "release": _audit(FailingAudit.release), "fail": _audit(lambda audit: setattr(audit, "at", 0)), "repair": _audit(FailingAudit.repair),
    "rate": lambda talk: setattr(talk.room, "allowed", not talk.room.allowed), "later": lambda talk: talk.room.clock.advance(61),
    "look": lambda talk: LOOK(talk.relay.lane), "drain": lambda talk: talk.relay.drain("the gateway is stopping"),
    "end": lambda talk: talk.relay.end("enough"), "rested": lambda talk: talk.relay.rested(),
    "notice": lambda talk: talk.target_says(NOTICE), "over": lambda talk: talk.relay.lane.give_up(),
}
happening = st.one_of(turn, turn, turn, st.sampled_from([*sorted(EVENTS), "silent"]))
Script = list[tuple[bytes | str, bool]]
"""What the caller says or what happens, and whether everything comes to rest before the next."""


class _Answers:
    """The target's answers in pieces; kept back while it is ``silent``."""

    def __init__(self, cut: int) -> None:
        self._cut, self._owed, self.silent = cut, b"", False

    def __call__(self, data: bytes) -> list[bytes]:
        if self.silent:
            self._owed += data
            return []
        return [data[at:at + self._cut] for at in range(0, len(data), self._cut)] if self._cut else [data]

    def turn(self, talk: Talk) -> None:
        self.silent = not self.silent
        owed, self._owed = self._owed, b""
        for piece in self(owed):
            talk.target_says(piece)


def _state(talk: Talk) -> tuple[object, ...]:
    lane, totals = talk.relay.lane, talk.relay.totals
    return (lane.state, lane.open, lane.taken, lane.asked, lane.raw, lane.out, lane.rows, lane.recording, lane.looked, lane.stood,
            lane.over, lane.since, lane.until, list(lane.entries), lane.last_asked, lane.last is None, lane.ticket is None, totals.rows,
            totals.bytes, totals.denials, talk.relay.status)


async def _lived(kind: type[Lane], script: Script, cut: int, strict: bool) -> tuple[object, ...]:
    where = room(False)
    where.audit, where.clock, where.allowed = audit, _, _ = FailingAudit(2**63, strict=strict), FrozenClock(), True
    where.policy = OPEN()
    states = []
    async with talking(where, ScriptedTarget(ANSWERS)) as talk:
        assert type(talk.relay.lane) is kind
        talk.cut = answers = _Answers(cut)
        for what, wait in [(PREPARE, True), (again("s", b"1"), True), *script]:
            if isinstance(what, bytes):
                talk.client.data_received(what)
            elif what == "silent":
                answers.turn(talk)
            else:
                EVENTS[what](talk)
            states.append(_state(talk))
            if wait:
                await talk.quiet()
                states.append(_state(talk))
        audit.release()
        audit.repair()
        if answers.silent:
            answers.turn(talk)
        await talk.quiet()
    return states, talk.sent, bytes(talk.to_target).removesuffix(messages.Terminate().encode()), audit.records


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(happening, st.booleans()), max_size=12), st.sampled_from([0, 0, 0, 1, 7, 30]), st.booleans())
def test_compiled_as_pure(script: Script, cut: int, strict: bool) -> None:
    """The same bytes both ways, the same records, and the same state after each step, whatever changes in the middle of an operation."""
    found = []
    for kind in LANES:
        with lanes(kind), pytest.MonkeyPatch.context() as patch:
            patch.setattr(kind, "look", lambda lane: None)       # looked at by events, not by time
            found.append(asyncio.run(_lived(kind, script, cut, strict)))
    for one in found[1:]:
        for mine, other in zip(found[0], one, strict=True):
            assert mine == other


# What stops an operation


async def warm(talk: Talk) -> None:
    """Until the lane takes what is said."""
    await talk.say(PREPARE)
    for _ in range(2):
        await talk.say(again("s", b"1"))
        await talk.query("select id from orders")
    assert talk.relay.lane.taken


async def test_a_command_that_is_denied_now(tmp_path: Path) -> None:
    where = make_room(tmp_path, grant())
    async with talking(where, ScriptedTarget(ANSWERS)) as talk:
        await warm(talk)
        where.policy = make_room(tmp_path / "b", grant([*EVERYTHING, {"name": "no", "deny": {"sql": {"verbs": ["select"]}}}])).policy
        before = bytes(talk.to_target)
        assert errors(await talk.say(again("s", b"1"))) == ["42501"]
        assert bytes(talk.to_target) == before
    assert talk.begun()[-1][1] == "deny"


async def test_a_mask_that_is_new(tmp_path: Path) -> None:
    where = make_room(tmp_path, grant())
    async with talking(where, ScriptedTarget(ANSWERS)) as talk:
        await warm(talk)
        for _ in range(3):
            assert values(await talk.say(again("h", b"1")))[0][1] == "078-05-1120"
        where.policy = make_room(tmp_path / "b", grant(masks=True)).policy
        for _ in range(3):
            assert values(await talk.say(again("h", b"1")))[0][1] == "****"


async def test_a_session_that_is_over(tmp_path: Path) -> None:
    where = make_room(tmp_path, grant(session={"max": "1h"}))
    async with talking(where, ScriptedTarget(ANSWERS)) as talk:
        await warm(talk)
        where.clock.advance(3601)
        assert errors(await talk.say(again("s", b"1"))) == ["57P01"]


async def test_an_identity_that_is_revoked(tmp_path: Path) -> None:
    where = make_room(tmp_path, grant())
    async with talking(where, ScriptedTarget(ANSWERS)) as talk:
        await warm(talk)
        where.policy = make_room(tmp_path / "b", grant()).policy
        where.policy._revocations.subjects["ci", BOT.subject] = 4e9
        assert errors(await talk.say(again("s", b"1"))) == ["57P01"]


async def test_a_window_that_closes(tmp_path: Path) -> None:
    """One grant goes on giving something, the other one's window ends."""
    now = FrozenClock()()
    until = datetime.fromtimestamp(now + 60, UTC).isoformat()
    lasts = grant([{"name": "little", "allow": {"sql": {"verbs": ["show"]}}}], name="lasts")
    async with talking(make_room(tmp_path, lasts, grant(when={"until": until})), ScriptedTarget(ANSWERS)) as talk:
        await warm(talk)
        talk.room.clock.advance(61)
        assert errors(await talk.say(again("s", b"1"))) == ["42501"]


async def test_an_identity_over_its_rate(tmp_path: Path) -> None:
    where = make_room(tmp_path, grant())
    async with talking(where, ScriptedTarget(ANSWERS)) as talk:
        await warm(talk)
        where.allowed = False
        assert errors(await talk.say(again("s", b"1"))) == ["42501"]


async def test_a_catalog_that_changed(tmp_path: Path) -> None:
    """The table is not there any more: the next operation is refused, and nothing of it is sent."""
    async with talking(make_room(tmp_path, grant()), ScriptedTarget(ANSWERS)) as talk:
        await warm(talk)
        shared: Any = talk.relay.context._shared
        catalog = shared._catalog
        kept = tuple(one for one in catalog.user.relations if one.name != "orders")
        shared._catalog = dataclasses.replace(catalog, epoch="another", user=dataclasses.replace(catalog.user, relations=kept))
        before = bytes(talk.to_target)
        assert errors(await talk.say(again("s", b"1"))) == ["42P01"]
        assert bytes(talk.to_target) == before


async def test_a_catalog_that_changed_while_the_target_worked(tmp_path: Path) -> None:
    """The answer is looked at with the catalog as it is now, by the long way."""
    async with talking(make_room(tmp_path, grant()), ScriptedTarget(ANSWERS)) as talk:
        await warm(talk)
        talk.pump = False
        await talk.say(again("s", b"1"))
        taken = talk.relay.lane.taken
        shared: Any = talk.relay.context._shared
        shared._catalog = dataclasses.replace(shared._catalog, epoch="another")
        talk.target_says(talk.target.feed(again("s", b"1")))
        talk.pump = True
        assert kinds(await talk.quiet()) == "2TDCZ"
        assert talk.relay.lane.taken == taken


async def test_an_answer_that_stops_half_way_passes_as_it_comes(tmp_path: Path) -> None:
    """And what no server would say is met by the long way, though nothing comes behind it."""
    async with talking(make_room(tmp_path, grant()), ScriptedTarget(ANSWERS)) as talk:
        await warm(talk)
        talk.pump = False
        await talk.say(again("s", b"1"))
        answer = talk.target.feed(again("s", b"1"))
        half = len(answer) - 20
        talk.target_says(answer[:half])
        talk.relay.lane.look()
        assert await talk.quiet() == []
        talk.relay.lane.look()
        assert kinds(await talk.quiet()).startswith("2T")
        talk.target_says(answer[half:])
        assert kinds(await talk.quiet()).endswith("CZ")
        await talk.say(again("s", b"1"))
        talk.target_says(b"2\0\0\0\4T\0\0\0\x06\xff\xff")
        talk.relay.lane.look()
        talk.relay.lane.look()
        assert len(errors(await talk.quiet())) == 1
        talk.pump = True


async def test_settings_that_changed(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path, grant()), ScriptedTarget(ANSWERS)) as talk:
        await warm(talk)
        taken = talk.relay.lane.taken
        await talk.query("set search_path = pg_catalog")
        talk.target.context = ("{pg_catalog}", *talk.target.context[1:])
        before = bytes(talk.to_target)
        assert errors(await talk.say(again("s", b"1"))) == ["42P01"]
        assert ONE.encode() not in bytes(talk.to_target)[len(before):]
        assert talk.relay.lane.taken == taken


async def test_a_statement_of_another_meaning(tmp_path: Path) -> None:
    """The same name was prepared anew: what the lane knew of it is of no use."""
    async with talking(make_room(tmp_path, grant(masks=True)), ScriptedTarget(ANSWERS)) as talk:
        await warm(talk)
        await talk.run(Close("S", "s"), Parse("s", HIDES))
        for _ in range(3):
            assert values(await talk.say(again("s", b"1")))[0][1] == "****"


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("group", [again("s", b"1"), again("i", b"1"), Query("select id from orders").encode(), run(RETURNS)])
async def test_no_record_no_answer_t62(tmp_path: Path, group: bytes, strict: bool) -> None:
    audit = FailingAudit(2**60, strict=strict)
    async with talking(make_room(tmp_path, grant(), audit=audit), ScriptedTarget(ANSWERS)) as talk:
        await warm(talk)
        await talk.say(group)
        taken, before = talk.relay.lane.taken, len(talk.to_target)
        audit.at = 0
        answer = await talk.say(group)
        assert errors(answer) == ["58030"]
        assert set(kinds(answer)) <= {"E", "Z"}
        if strict or group == again("i", b"1"):
            assert len(talk.to_target) == before
        assert talk.relay.lane.taken == taken


@pytest.mark.parametrize("group", [again("s", b"1"), again("i", b"1")])
async def test_the_disk_is_waited_for_t62(tmp_path: Path, group: bytes) -> None:
    audit = MemoryAudit(strict=True)
    async with talking(make_room(tmp_path, grant(), audit=audit), ScriptedTarget(ANSWERS)) as talk:
        await warm(talk)
        await talk.say(group)
        audit.hold()
        before = len(talk.to_target)
        assert await talk.say(group) == []
        assert len(talk.to_target) == before
        assert talk.relay.lane.busy
        audit.release()
        assert kinds(await talk.quiet())[-2:] == "CZ"


async def test_an_answer_waits_for_its_record_t62(tmp_path: Path) -> None:
    audit = MemoryAudit()
    async with talking(make_room(tmp_path, grant(), audit=audit), ScriptedTarget(ANSWERS)) as talk:
        await warm(talk)
        audit.hold()
        assert await talk.say(again("s", b"1")) == []
        assert await talk.say(again("s", b"2")) == []
        audit.release()
        assert kinds(await talk.quiet()) == "2TDCZ2TDCZ"


@pytest.mark.parametrize("moment", ["held", "sent", "answered"])
async def test_a_session_that_ends_in_the_middle(tmp_path: Path, moment: str) -> None:
    audit = MemoryAudit(strict=moment == "held")
    async with talking(make_room(tmp_path, grant(), audit=audit), ScriptedTarget(ANSWERS)) as talk:
        await warm(talk)
        if moment != "sent":
            audit.hold()
        talk.pump = moment == "answered"
        await talk.say(again("s", b"1"))
        assert talk.relay.lane.busy
        talk.relay.end("enough")
        await asyncio.sleep(0)
        audit.release()
        answer = await talk.quiet()
        assert kinds(answer).endswith("E")
        assert ("D" in kinds(answer)) is (moment == "answered")
    assert talk.ended()[-1] == {"held": "withdrawn", "sent": "cancelled", "answered": "ok"}[moment]


async def test_a_drain_lets_the_operation_end(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path, grant()), ScriptedTarget(ANSWERS)) as talk:
        await warm(talk)
        talk.pump = False
        await talk.say(again("s", b"1"))
        talk.relay.drain("the gateway is stopping")
        assert await talk.quiet() == []
        talk.pump = True
        talk.target_says(talk.target.feed(again("s", b"1")))
        assert kinds(await talk.quiet()) == "2TDCZE"
