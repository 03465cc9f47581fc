# SPDX-License-Identifier: Apache-2.0
"""Held statements inside a session: what waits with them, and every way they end."""

from __future__ import annotations

from pathlib import Path

from gateway.approvals.book import Held
from gateway.protocols.postgres.messages import Bind, Describe, Execute, Parse, Query, Sync
from gateway.testing import FailingAudit
from gateway.testing.scripted import ScriptedTarget, done
from tests.unit.protocols.postgres.talk import (
    DENIED,
    INES,
    Rules,
    Talk,
    error,
    errors,
    grant,
    kinds,
    make_room,
    status,
    talking,
)

ALL, INSERT = "delete from orders", "insert into orders values (99, 1, 1)"
WITH_PARAMETER = "update orders set total = $1"
ANSWERS = {ALL: done("DELETE 20"), WITH_PARAMETER: done("UPDATE 20")}


def waiting(talk: Talk) -> Held:
    """The only request that waits."""
    found = talk.room.approvals.listed(["pending"])
    assert len(found) == 1
    return found[0]


async def vote(talk: Talk, grant: bool = True) -> None:
    held = waiting(talk)
    await talk.room.approvals.vote(held.id, INES, grant, "looked at it", held.request.digest)


async def test_approved_exactly_the_held_bytes_run(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), ScriptedTarget(dict(ANSWERS))) as talk:
        answer = await talk.query(ALL)
        assert kinds(answer) == "N"
        assert waiting(talk).id.encode() in answer[0][1]
        assert talk.target.received == []
        await vote(talk)
        assert kinds(await talk.quiet()) == "CZ"
    assert talk.target.committed == [ALL]
    assert talk.audit.kinds("approval.") == ["approval.requested", "approval.vote", "approval.granted", "approval.used"]
    assert talk.begun() == [(ALL, "approve")]


async def test_denied(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path)) as talk:
        await talk.query(ALL)
        await vote(talk, grant=False)
        answer = await talk.quiet()
        assert (kinds(answer), errors(answer), status(answer)) == ("EZ", ["42501"], "I")
        assert talk.target.received == []
    assert talk.ended() == ["refused"]


async def test_expired(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path)) as talk:
        await talk.query(ALL)
        talk.room.clock.advance(901)
        talk.room.approvals.sweep()
        assert errors(await talk.quiet()) == ["42501"]
    assert talk.ended() == ["refused"]


async def test_cancelled_by_the_caller(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path)) as talk:
        await talk.query(ALL)
        talk.relay.cancel()
        answer = await talk.quiet()
        assert (kinds(answer), errors(answer)) == ("EZ", ["57014"])
        assert errors(await talk.query(INSERT)) == []
    assert talk.ended() == ["withdrawn", "ok"]


async def test_a_caller_that_goes_away_withdraws(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path)) as talk:
        await talk.query(ALL)
        held = waiting(talk)
        talk.client.connection_lost(None)
        while held.open:
            await talk.quiet()
    assert talk.audit.kinds("approval.") == ["approval.requested", "approval.withdrawn"]
    assert talk.target.ran == []


async def test_the_gateway_stops(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path)) as talk:
        await talk.query(ALL)
        await talk.room.approvals.close()
        talk.relay.end("the gateway is stopping")
        assert errors(await talk.quiet())[-1] == "57P01"
    assert talk.audit.kinds("approval.") == ["approval.requested", "approval.withdrawn"]


async def test_t57_the_policy_changed_meanwhile(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path)) as talk:
        await talk.query(ALL)
        changed = make_room(tmp_path / "new", grant([{"name": "read", "allow": {"sql": {"verbs": ["select"]}}}]))
        talk.room.folder, talk.room.policy = changed.folder, changed.policy
        talk.room.approvals.policy_changed(changed.policy.digest)
        assert errors(await talk.quiet()) == ["57014"]
        assert errors(await talk.query(ALL)) == ["42501"]
    assert talk.target.ran == []


async def test_t57_bind_is_held_with_its_parameters(tmp_path: Path) -> None:
    """Parse and Describe pass, recorded; from Bind on everything waits. The vote is about exactly these values."""
    async with talking(make_room(tmp_path), ScriptedTarget(dict(ANSWERS))) as talk:
        assert kinds(await talk.run(Parse("s", WITH_PARAMETER), Describe("S", "s"))) == "1tnZ"
        answer = await talk.say(Bind("", "s", (), (b"7",)), Execute(""), Sync())
        assert kinds(answer) == "N"
        assert talk.target.kinds == "PDS"
        assert waiting(talk).view(exact=True).parameters == ("7",)
        await vote(talk)
        assert kinds(await talk.quiet()) == "2CZ"
        answer = await talk.say(Bind("", "s", (), (b"8",)), Execute(""), Sync())
        assert kinds(answer) == "N"
        assert waiting(talk).view(exact=True).parameters == ("8",)
        await vote(talk, grant=False)
        assert errors(await talk.quiet()) == ["42501"]
    assert talk.target.ran == [WITH_PARAMETER]


async def test_an_approved_portal_runs_once(tmp_path: Path) -> None:
    """T59."""
    async with talking(make_room(tmp_path), ScriptedTarget(dict(ANSWERS))) as talk:
        await talk.query("begin")
        await talk.run(Parse("s", ALL))
        await talk.say(Bind("p", "s"), Execute("p"), Sync())
        await vote(talk)
        assert kinds(await talk.quiet()) == "2CZ"
        assert kinds(await talk.say(Execute("p"), Sync())) == "N"
        await vote(talk, grant=False)
        assert errors(await talk.quiet()) == ["42501"]
    assert talk.target.ran.count(ALL) == 1


async def test_held_in_a_transaction(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), ScriptedTarget(dict(ANSWERS))) as talk:
        await talk.query("begin")
        await talk.query(INSERT)
        assert kinds(await talk.query(ALL)) == "N"
        await vote(talk, grant=False)
        answer = await talk.quiet()
        assert (errors(answer), status(answer)) == (["42501"], "E")
        assert (await talk.query("commit"))[0] == ("C", b"ROLLBACK\0")
        await talk.query("begin")
        await talk.query(ALL)
        await vote(talk)
        assert status(await talk.quiet()) == "T"
        await talk.query("commit")
    assert talk.target.committed == ["begin", ALL, "commit"]


async def test_held_in_a_pipeline(tmp_path: Path) -> None:
    """What came before is answered before the notice; what follows waits too."""
    async with talking(make_room(tmp_path), ScriptedTarget(dict(ANSWERS))) as talk:
        parts = [part for text in (INSERT, ALL, INSERT) for part in (Parse("", text), Bind("", ""), Execute(""))]
        answer = await talk.say(*parts, Sync())
        assert kinds(answer) == "12C1N"
        assert talk.target.ran == [INSERT]
        await vote(talk)
        assert kinds(await talk.quiet()) == "2C12CZ"
    assert talk.target.committed == [INSERT, ALL, INSERT]


async def test_denied_in_a_pipeline(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), ScriptedTarget(dict(ANSWERS))) as talk:
        parts = [part for text in (INSERT, ALL, INSERT) for part in (Parse("", text), Bind("", ""), Execute(""))]
        await talk.say(*parts, Sync())
        await vote(talk, grant=False)
        answer = await talk.quiet()
        assert (kinds(answer), errors(answer)) == ("EZ", ["42501"])
    assert talk.target.committed == []


async def test_not_waiting_and_once_only(tmp_path: Path) -> None:
    """T59: LG001, then the identical statement runs, then it is held again."""
    async with talking(make_room(tmp_path), ScriptedTarget(dict(ANSWERS)), wait=False) as talk:
        answer = await talk.query(ALL)
        assert error(answer)["C"] == "LG001"
        assert error(answer)["D"] == waiting(talk).id
        assert error(await talk.query(ALL))["D"] == waiting(talk).id
        await vote(talk)
        assert kinds(await talk.query(ALL)) == "CZ"
        assert errors(await talk.query(ALL)) == ["LG001"]
        assert errors(await talk.query(ALL + " ")) == ["LG001"]
        assert len(talk.room.approvals.listed(["pending"])) == 2
    assert talk.target.committed == [ALL]


async def test_a_gateway_that_drains_ends_a_session_that_has_nothing_left_to_do(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path)) as talk:
        await talk.query(ALL)
        await talk.room.approvals.close()
        talk.relay.drain("the gateway is stopping")
        assert errors(await talk.quiet()) == ["57014", "57P01"]


async def test_t57_a_grant_is_for_this_search_path(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path), ScriptedTarget(dict(ANSWERS)), wait=False) as talk:
        assert errors(await talk.query(ALL)) == ["LG001"]
        await vote(talk)
        await talk.query("set search_path = public, pg_catalog")
        talk.target.context = ("{public,pg_catalog}", "app", "app", "", "none", "public, pg_catalog", "on", "UTF8", "on", "origin")
        assert errors(await talk.query(ALL)) == ["LG001"]
        assert len(talk.room.approvals.listed(["pending"])) == 1
    assert ALL not in talk.target.ran


async def test_a_deny_beats_the_approval(tmp_path: Path) -> None:
    rules: Rules = [
        {"name": "ask", "approve": {"sql": {"verbs": ["delete"]}}, "by": "one-dba"},
        {"name": "never", "deny": {"sql": {"verbs": ["delete"], "where": "missing"}}},
    ]
    async with talking(make_room(tmp_path, grant(rules))) as talk:
        assert errors(await talk.say(Query(ALL), Query(DENIED))) == ["42501", "42501"]
        assert talk.room.approvals.listed() == []


async def test_the_audit_breaks_while_it_waits(tmp_path: Path) -> None:
    """Nothing runs on a grant that could not be recorded."""
    audit = FailingAudit(at=10**6)
    async with talking(make_room(tmp_path, audit=audit), ScriptedTarget(dict(ANSWERS))) as talk:
        await talk.query(ALL)
        held = waiting(talk)
        await talk.room.approvals.vote(held.id, INES, True, "looked at it", held.request.digest)
        audit.at = 0
        assert errors(await talk.quiet()) == ["58030"]
        audit.repair()
        assert kinds(await talk.query(INSERT)) == "CZ"
    assert ALL not in talk.target.ran
