# SPDX-License-Identifier: Apache-2.0
"""``max_rows``: more affected rows than that and nothing of it happened, in every way a statement can be sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.protocols.postgres import frontend, messages
from gateway.protocols.postgres.messages import Bind, Describe, Execute, Parse, Query, Sync
from gateway.testing import FailingAudit
from gateway.testing.scripted import ScriptedTarget, done, failure, rows
from tests.unit.protocols.postgres.talk import Rules, error, errors, grant, kinds, make_room, status, talking, values

DELETE = "delete from orders where id < 10"
RETURNING = "delete from orders where id < 10 returning id"
INSERT = "insert into orders values (99, 1, 1)"
RULES: Rules = [
    {"name": "few", "allow": {"sql": {"verbs": ["delete", "update", "insert", "merge"], "relations": ["public.orders"]}}, "max_rows": 3},
    {"name": "read", "allow": {"sql": {"verbs": ["select"], "relations": ["public.*"]}}},
    {"name": "session", "allow": {"sql": {
        "verbs": ["begin", "commit", "rollback", "savepoint", "explain", "prepare", "execute", "copy-from"]}}},
]


def extended(text: str, limit: int = 0) -> list[messages.Message]:
    return [Parse("", text), Bind("", ""), Describe("P", ""), Execute("", limit)]


async def test_few_rows_while_idle(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path, grant(RULES)), ScriptedTarget({DELETE: done("DELETE 3")})) as talk:
        answer = await talk.query(DELETE)
        assert (answer, talk.target.status) == ([("C", b"DELETE 3\0"), ("Z", b"I")], "I")
        assert DELETE in talk.target.committed
    assert talk.ended() == ["ok"]


async def test_too_many_rows_while_idle(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path, grant(RULES)), ScriptedTarget({DELETE: done("DELETE 4")})) as talk:
        answer = await talk.query(DELETE)
        assert (kinds(answer), errors(answer), status(answer)) == ("EZ", ["42501"], "I")
        assert DELETE in talk.target.ran
        assert DELETE not in talk.target.committed
        assert errors(await talk.query("select 1 from orders")) == []
    assert talk.ended() == ["refused", "ok"]


async def test_too_many_rows_in_a_block(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path, grant(RULES)), ScriptedTarget({DELETE: done("DELETE 4")})) as talk:
        await talk.query("begin")
        answer = await talk.query(DELETE)
        assert (kinds(answer), errors(answer), status(answer)) == ("EZ", ["42501"], "E")
        assert (await talk.query("commit"))[0] == ("C", b"ROLLBACK\0")
    assert DELETE not in talk.target.committed


async def test_few_rows_in_a_block(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path, grant(RULES)), ScriptedTarget({DELETE: done("DELETE 3")})) as talk:
        await talk.query("begin")
        assert await talk.query(DELETE) == [("C", b"DELETE 3\0"), ("Z", b"T")]
        assert status(await talk.query("commit")) == "I"
    assert DELETE in talk.target.committed


async def test_in_a_pipeline(tmp_path: Path) -> None:
    for tag, wanted in (("DELETE 3", "12nC12nCZ"), ("DELETE 4", "12nC12nEZ")):
        target = ScriptedTarget({DELETE: done(tag), INSERT: done("INSERT 0 1")})
        async with talking(make_room(tmp_path / tag, grant(RULES)), target) as talk:
            answer = await talk.run(*extended(INSERT), *extended(DELETE))
            assert kinds(answer) == wanted
            assert (INSERT in talk.target.committed) is (tag == "DELETE 3")
            assert (DELETE in talk.target.committed) is (tag == "DELETE 3")


async def test_nothing_behind_a_refused_one_in_a_pipeline_runs(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path, grant(RULES)), ScriptedTarget({DELETE: done("DELETE 4")})) as talk:
        answer = await talk.say(*extended(DELETE), *extended(INSERT), Sync())
        assert errors(answer) == ["42501"]
    assert INSERT not in talk.target.ran


async def test_returning(tmp_path: Path) -> None:
    few, many = (rows([messages.Field("id", type_oid=23)], *[(str(n),) for n in range(count)], tag=f"DELETE {count}") for count in (3, 4))
    async with talking(make_room(tmp_path, grant(RULES)), ScriptedTarget({RETURNING: few})) as talk:
        answer = await talk.query(RETURNING)
        assert (kinds(answer), len(values(answer))) == ("TDDDCZ", 3)
        assert kinds(await talk.run(*extended(RETURNING))) == "12TDDDCZ"
    async with talking(make_room(tmp_path / "many", grant(RULES)), ScriptedTarget({RETURNING: many})) as talk:
        answer = await talk.query(RETURNING)
        assert (errors(answer), status(answer)) == (["42501"], "I")
        answer = await talk.run(*extended(RETURNING))
        assert (errors(answer), status(answer)) == (["42501"], "I")
    assert talk.target.committed.count(RETURNING) == 0


async def test_returning_cannot_be_fetched_in_parts(tmp_path: Path) -> None:
    """A suspended portal has done its work, and has not said how much of it."""
    many = rows([messages.Field("id", type_oid=23)], *[(str(n),) for n in range(9)], tag="DELETE 9")
    async with talking(make_room(tmp_path, grant(RULES)), ScriptedTarget({RETURNING: many})) as talk:
        assert errors(await talk.run(*extended(RETURNING, 1))) == ["42501"]
    assert RETURNING not in talk.target.committed


async def test_several_statements_in_one_text(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path, grant(RULES))) as talk:
        assert errors(await talk.query(f"{DELETE}; {INSERT}")) == ["42501"]
        assert talk.target.received == []
    assert talk.ended() == ["refused"]


@pytest.mark.parametrize("text", [
    "with gone as (delete from orders where id < 10) select 1",
    "with gone as (delete from orders where id < 10 returning id) insert into orders select id, 1, 1 from gone",
    "with gone as (delete from orders where id < 3 returning id) delete from orders where id in (select id from gone)",
    "explain analyze delete from orders where id < 10",
])
async def test_what_does_not_tell_its_count_is_refused(tmp_path: Path, text: str) -> None:
    """The tag of these counts something else than the rows that were changed."""
    async with talking(make_room(tmp_path, grant(RULES))) as talk:
        assert errors(await talk.query(text)) == ["42501"]
        assert errors(await talk.run(*extended(text))) == ["42501"]
    assert text not in talk.target.ran


async def test_an_error_of_the_target(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path, grant(RULES)), ScriptedTarget({DELETE: failure("23503", "still referenced")})) as talk:
        answer = await talk.query(DELETE)
        assert (kinds(answer), errors(answer), status(answer)) == ("EZ", ["23503"], "I")
        answer = await talk.run(*extended(DELETE))
        assert (kinds(answer), errors(answer), status(answer)) == ("12nEZ", ["23503"], "I")
        await talk.query("begin")
        answer = await talk.query(DELETE)
        assert (errors(answer), status(answer)) == (["23503"], "E")
    assert talk.ended().count("error") == 3


async def test_a_commit_that_fails(tmp_path: Path) -> None:
    """A deferred constraint: the caller gets its error, not the count."""
    target = ScriptedTarget({DELETE: done("DELETE 1"), "commit": failure("23503", "deferred")})
    async with talking(make_room(tmp_path, grant(RULES)), target) as talk:
        answer = await talk.query(DELETE)
        assert (kinds(answer), errors(answer)) == ("EZ", ["23503"])


async def test_copy_from_counts_too(tmp_path: Path) -> None:
    """COPY FROM is an insert: over the bound it must not stay either, and it may not get stuck."""
    text = "copy orders from stdin"
    target = ScriptedTarget({text: [messages.CopyResponse("G", 0, (0, 0, 0))]})
    async with talking(make_room(tmp_path, grant(RULES)), target) as talk:
        answer = await talk.say(Query(text))
        if "G" in kinds(answer):
            answer = await talk.say(*[messages.CopyData(b"1\t1\t1\n") for _ in range(4)], messages.CopyDone())
        assert (errors(answer), status(answer)) == (["42501"], "I")
    assert text not in talk.target.committed


async def test_an_audit_that_cannot_be_written(tmp_path: Path) -> None:
    audit = FailingAudit()
    async with talking(make_room(tmp_path, grant(RULES), audit=audit)) as talk:
        answer = await talk.query(DELETE)
        assert (kinds(answer), error(answer)["C"], status(answer)) == ("EZ", "58030", "I")
        audit.repair()
        answer = await talk.query("select 1 from orders")
        assert kinds(answer) == "CZ"
    assert DELETE not in talk.target.ran


@pytest.mark.parametrize("pipeline", [False, True])
async def test_what_the_target_owes_is_bounded(pipeline: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that sends faster than the target answers waits: each answer that is owed takes memory."""
    monkeypatch.setattr(frontend, "AHEAD", 300)
    text = "select 1 from orders"
    one = [Parse("", text), Bind("", ""), Execute("")] if pipeline else [Query(text)]
    async with talking(make_room(tmp_path, grant(RULES)), ScriptedTarget()) as talk:
        await talk.query(text)
        talk.pump, talk.sent, talk.to_target = False, [], bytearray()
        for _ in range(20):
            await talk.say(*one * 50)
        owed = talk.relay.pending.queue
        assert owed is not None and 300 < len(owed) <= 300 + frontend.AT_ONCE + 50 * len(one)
        talk.pump = True
        talk.relay.target.stream.data_received(talk.target.feed(bytes(talk.to_target)))
        await talk.run()
        assert kinds(talk.sent).count("C") == 1000
        assert errors(talk.sent) == []
