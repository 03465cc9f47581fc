# SPDX-License-Identifier: Apache-2.0
"""Every state an approval can come to, and what is recorded of the way there."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.approvals.book import DeskLimits
from gateway.approvals.desk import VoteRefused
from gateway.approvals.view import ApprovalView
from gateway.errors import AuditUnavailable, Refused
from gateway.testing import FailingAudit
from gateway.testing.desk import ROBOT, DeskRoom, command, definition, person, session

DANA, INES, SAM, OMAR = person("dana", "dba"), person("ines", "dba"), person("sam", "security"), person("omar", "ops")


@pytest.fixture
def room() -> DeskRoom:
    return DeskRoom()


async def test_a_granted_request_runs_once_and_every_step_is_recorded(room: DeskRoom) -> None:
    asking, held = await room.asked()
    view = await room.vote(held, INES, reason="cleanup of the demo")
    assert view.state == "granted"
    approval = await asking
    used = room.desk.consumed(approval)
    assert held.state == "used"
    assert room.audit.kinds("approval.") == ["approval.requested", "approval.vote", "approval.granted"]
    vote = room.audit.of("approval.vote")[0]
    assert (vote["id"], vote["digest"], vote["voter"], vote["vote"], vote["reason"]) == (
        held.id, held.request.digest, "ines", "approve", "cleanup of the demo")
    assert vote["needs"] == [{"group": "dba", "count": 1}]
    assert (used["id"], used["session"], used["voters"]) == (held.id, "ses_1", ["ines"])
    with pytest.raises(Refused) as twice:
        room.desk.consumed(approval)
    assert twice.value.code == "denied"


async def test_nobody_sees_a_request_before_it_is_on_disk(room: DeskRoom) -> None:
    told: list[ApprovalView] = []

    async def listen(view: ApprovalView) -> None:
        told.append(view)

    room.desk.listen("ses_1", listen)
    room.audit.hold()
    asking = asyncio.create_task(room.obtain())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not room.desk.listed() and not room.noticed and not told
    room.audit.release()
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(room.desk.listed()) == len(room.noticed) == len(told) == 1
    assert told[0].id in told[0].notice() and "1 of dba" in told[0].notice() and room.moment(900) in told[0].notice()
    room.desk.withdraw_session("ses_1", "cancelled")
    with pytest.raises(Refused):
        await asking


async def test_the_notice_of_a_slow_reader_does_not_hold_the_vote_up(room: DeskRoom) -> None:
    stuck = asyncio.Event()

    async def listen(view: ApprovalView) -> None:
        await stuck.wait()

    room.desk.listen("ses_1", listen)
    asking, held = await room.asked()
    await room.vote(held, INES)
    assert (await asking).id == held.id


async def test_a_caller_that_cannot_be_told_is_gone(room: DeskRoom) -> None:
    async def listen(view: ApprovalView) -> None:
        raise ConnectionResetError("gone")

    room.desk.listen("ses_1", listen)
    with pytest.raises(ConnectionResetError):
        await room.obtain()
    assert room.audit.kinds("approval.") == ["approval.requested"]
    await asyncio.sleep(0)
    assert room.audit.kinds("approval.")[-1] == "approval.withdrawn"


async def test_one_deny_is_enough(room: DeskRoom) -> None:
    asking, held = await room.asked(None, None, "dba-and-security")
    await room.vote(held, INES)
    view = await room.vote(held, SAM, grant=False, reason="not on a Friday")
    assert view.state == "denied"
    with pytest.raises(Refused, match="denied by sam: not on a Friday") as refused:
        await asking
    assert (refused.value.code, refused.value.detail) == ("denied", held.id)
    assert room.audit.kinds("approval.")[-2:] == ["approval.vote", "approval.denied"]


async def test_who_approved_may_still_deny(room: DeskRoom) -> None:
    asking, held = await room.asked(None, None, "two-dba")
    await room.vote(held, INES)
    assert (await room.vote(held, INES, grant=False, reason="looked again")).state == "denied"
    with pytest.raises(Refused):
        await asking


async def test_expiry_is_absolute(room: DeskRoom) -> None:
    asking, held = await room.asked()
    room.clock.advance(899.999)
    room.desk.sweep()
    assert held.state == "pending"
    room.clock.advance(0.001)
    with pytest.raises(VoteRefused, match="expired already"):
        await room.vote(held, INES)
    with pytest.raises(Refused) as refused:
        await asking
    assert refused.value.code == "expired"
    assert room.audit.kinds("approval.") == ["approval.requested", "approval.expired"]


async def test_a_grant_expires_too(room: DeskRoom) -> None:
    asking, held = await room.asked()
    await room.vote(held, INES)
    approval = await asking
    room.clock.advance(901)
    with pytest.raises(Refused) as refused:
        room.desk.consumed(approval)
    assert refused.value.code == "expired"
    await asyncio.sleep(0)
    assert room.audit.kinds("approval.")[-1] == "approval.expired"


async def test_the_timer_wakes_who_waits() -> None:
    room = DeskRoom()
    room.policy.definitions["one-dba"] = definition("one-dba", 0.01, dba=1)
    asking, _ = await room.asked()
    room.clock.advance(1)
    with pytest.raises(Refused, match="expired"):
        await asyncio.wait_for(asking, 10)


@pytest.mark.parametrize("reason", ["cancelled by the caller", "the session ended"])
async def test_a_session_withdraws_what_it_waits_for(room: DeskRoom, reason: str) -> None:
    asking, held = await room.asked()
    other, kept = await room.asked(command("delete from customers"), session(2))
    room.desk.withdraw_session("ses_1", reason)
    with pytest.raises(Refused, match=reason) as refused:
        await asking
    assert refused.value.code == "withdrawn" and kept.state == "pending"
    assert room.audit.of("approval.withdrawn")[0]["reason"] == reason
    with pytest.raises(VoteRefused, match="withdrawn already"):
        await room.vote(held, INES)
    other.cancel()


async def test_a_cancelled_caller_withdraws(room: DeskRoom) -> None:
    asking, held = await room.asked()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert held.state == "withdrawn"
    await asyncio.sleep(0)
    assert room.audit.kinds("approval.") == ["approval.requested", "approval.withdrawn"]


async def test_a_caller_cancelled_before_the_record_is_on_disk(room: DeskRoom) -> None:
    room.audit.hold()
    asking = asyncio.create_task(room.obtain())
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    room.audit.release()
    await asyncio.sleep(0)
    assert room.audit.kinds("approval.") == ["approval.requested", "approval.withdrawn"]
    assert not room.desk.listed() and not room.noticed


async def test_another_policy_withdraws(room: DeskRoom) -> None:
    waiting, first = await room.asked()
    granted, second = await room.asked(command("delete from customers"), session(2))
    await room.vote(second, INES)
    approval = await granted
    room.policy.digest = "sha256:policy-2"
    room.desk.policy_changed(room.policy.digest)
    assert first.state == second.state == "withdrawn"
    with pytest.raises(Refused, match="the policy changed"):
        await waiting
    with pytest.raises(Refused, match="the policy changed"):
        room.desk.consumed(approval)


async def test_a_policy_that_changed_unnoticed_stops_the_use(room: DeskRoom) -> None:
    asking, held = await room.asked()
    await room.vote(held, INES)
    approval = await asking
    room.policy.digest = "sha256:policy-2"
    with pytest.raises(Refused) as refused:
        room.desk.consumed(approval)
    assert (refused.value.code, held.state) == ("withdrawn", "withdrawn")


async def test_stopping_withdraws_everything_and_waits_for_the_disk(room: DeskRoom) -> None:
    asking, _ = await room.asked()
    with pytest.raises(Refused):
        await room.obtain(command("delete from customers", wait=False), session(2))
    await room.desk.close()
    assert room.audit.kinds("approval.")[-2:] == ["approval.withdrawn"] * 2
    with pytest.raises(Refused, match="the gateway is stopping"):
        await asking
    with pytest.raises(Refused, match="the gateway is stopping"):
        await room.obtain()


async def test_a_request_that_cannot_be_recorded_does_not_exist() -> None:
    room = DeskRoom(FailingAudit(1))
    with pytest.raises(AuditUnavailable):
        await room.obtain()
    assert not room.desk.listed() and not room.noticed and room.desk.pending() == 0


async def test_a_vote_that_cannot_be_recorded_has_no_effect() -> None:
    audit = FailingAudit(2)
    room = DeskRoom(audit)
    asking, held = await room.asked()
    with pytest.raises(AuditUnavailable):
        await room.vote(held, INES)
    assert held.state == "pending" and not held.votes and audit.kinds() == ["approval.requested"]
    audit.repair()
    await room.vote(held, INES)
    assert (await asking).id == held.id


async def test_the_vote_that_grants_and_the_grant_are_one_write() -> None:
    audit = FailingAudit(3)
    room = DeskRoom(audit)
    asking, held = await room.asked()
    with pytest.raises(AuditUnavailable):
        await room.vote(held, INES)
    assert audit.kinds() == ["approval.requested"] and held.state == "pending"
    asking.cancel()


async def test_a_withdrawal_that_cannot_be_recorded_still_holds() -> None:
    room = DeskRoom(FailingAudit(2))
    asking, held = await room.asked()
    room.desk.withdraw_session("ses_1", "cancelled")
    assert held.state == "withdrawn"
    with pytest.raises(AuditUnavailable):
        await asking


async def test_limits_per_identity_in_all_and_in_bytes() -> None:
    room = DeskRoom(limits=DeskLimits(per_identity=1, total=2, held=100))
    first, _ = await room.asked()
    with pytest.raises(Refused, match="ci-bot has 1 approvals open already"):
        await room.obtain(command("delete from customers"))
    other = session(2, person("x", "robots"))
    with pytest.raises(Refused, match="too much text"):
        await room.obtain(command("x" * 100), other)
    second, _ = await room.asked(None, other)
    with pytest.raises(Refused, match="this gateway has 2 approvals open"):
        await room.obtain(None, session(3, person("y", "robots")))
    first.cancel()
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    third, _ = await room.asked()
    third.cancel()


async def test_several_definitions_are_met_together(room: DeskRoom) -> None:
    asking, held = await room.asked(None, None, "one-dba", "two-dba", "dba-and-security")
    view = held.view(exact=False)
    assert [(need.group, need.count) for need in view.needs] == [("dba", 2), ("security", 1)]
    assert view.expires == room.moment(600)
    await room.vote(held, INES)
    await room.vote(held, SAM)
    assert [need.have for need in held.view(exact=False).needs] == [1, 1]
    await room.vote(held, person("pia", "dba"))
    assert (await asking).id == held.id


async def test_an_approval_the_policy_does_not_know_denies(room: DeskRoom) -> None:
    with pytest.raises(Refused) as refused:
        await room.obtain(None, None, "no-such")
    assert refused.value.code == "denied"


async def test_the_exact_text_is_for_voters_and_never_in_the_log(room: DeskRoom) -> None:
    secret = "alter role app password 'hunter2hunter2'"
    asking, held = await room.asked(command(secret, shown="alter role app password '****'", parameters=(("text", "tok-5ecret"),)))
    voter, owner, reader = (room.desk.seen_by(held, who, ["group:ops"]) for who in (INES, DANA, OMAR))
    assert voter is not None and voter.text == secret and voter.parameters == ("tok-5ecret",)
    for other in (owner, reader):
        assert other is not None and not other.exact and other.binding is None
        assert "hunter2" not in json.dumps(other.document()) and "tok-5ecret" not in json.dumps(other.document())
    assert room.desk.seen_by(held, OMAR, ["group:security"]) is None
    assert room.desk.seen_by(held, ROBOT, ["ci-bot"]) is None
    await room.vote(held, INES)
    room.desk.consumed(await asking)
    assert "hunter2" not in room.audit.text() and "tok-5ecret" not in room.audit.text()
    assert "hunter2" not in repr(room.noticed) and "hunter2" not in repr(held)
    assert json.dumps(held.request.binding) == "{}"


async def test_counts_for_metrics(room: DeskRoom) -> None:
    asking, held = await room.asked()
    assert room.desk.pending() == 1
    await room.vote(held, INES)
    room.desk.consumed(await asking)
    assert (room.desk.pending(), dict(room.desk.counts)) == (0, {"requested": 1, "granted": 1, "used": 1})
