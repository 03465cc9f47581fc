# SPDX-License-Identifier: Apache-2.0
"""Who may vote, what a vote must carry, and what happens when things happen at once (T58, T59, T60)."""

from __future__ import annotations

import asyncio

import pytest

from gateway.approvals.desk import VoteRefused
from gateway.errors import Refused
from gateway.model import Identity
from gateway.testing.desk import ROBOT, DeskRoom, command, person, session

DANA, INES, SAM, OMAR = person("dana", "dba"), person("ines", "dba"), person("sam", "security"), person("omar", "ops")


@pytest.fixture
def room() -> DeskRoom:
    return DeskRoom()


@pytest.mark.parametrize(("who", "why"), [
    (DANA, "the owner of ci-bot"),
    (person("DANA", "dba", subject="user:second"), "the owner of ci-bot"),
    (person("ｄａｎａ", "dba", subject="user:third"), "the owner of ci-bot"),
    (person("someone", "dba", subject="dana"), "the owner of ci-bot"),
    (OMAR, "only members of dba"),
    (ROBOT, "only people vote"),
    (Identity("helper", "ci", "bot:2", frozenset({"dba"})), "only people vote"),
    (Identity("ines", "staff", "user:ines", frozenset({"robots"}), person=True), "only members of dba"),
])
async def test_t58_who_may_not_vote(room: DeskRoom, who: Identity, why: str) -> None:
    """T58: not the owner under any spelling, not a bot, not somebody else's group."""
    asking, held = await room.asked()
    for grant in (True, False):
        with pytest.raises(VoteRefused, match=why) as refused:
            await room.vote(held, who, grant)
        assert refused.value.code == "not-allowed"
    assert held.state == "pending" and room.audit.kinds() == ["approval.requested"]
    asking.cancel()


async def test_t58_a_person_may_not_vote_on_what_they_ask_for(room: DeskRoom) -> None:
    asker = person("ines", "dba")
    asking, held = await room.asked(None, session(1, asker))
    for who in (asker, person("Ines", "dba", subject="user:other"), person("renamed", "dba", subject="user:ines")):
        with pytest.raises(VoteRefused, match="requester"):
            await room.vote(held, who)
    asking.cancel()


@pytest.mark.parametrize("again", [INES, person("INES", "dba", subject="user:2"), person("new-name", "dba", subject="user:ines")])
async def test_t58_each_person_counts_once(room: DeskRoom, again: Identity) -> None:
    """T58: the same person under two accounts or two names is one voter."""
    asking, held = await room.asked(None, None, "two-dba")
    await room.vote(held, INES)
    with pytest.raises(VoteRefused, match="counts once"):
        await room.vote(held, again)
    assert held.state == "pending"
    asking.cancel()


async def test_a_person_in_two_groups_counts_for_the_one_that_needs_it(room: DeskRoom) -> None:
    asking, held = await room.asked(None, None, "dba-and-security")
    await room.vote(held, person("both", "dba", "security"))
    assert held.state == "pending"
    await room.vote(held, INES)
    assert (await asking).id == held.id


async def test_a_vote_nobody_needs_is_refused(room: DeskRoom) -> None:
    asking, held = await room.asked(None, None, "dba-and-security")
    await room.vote(held, INES)
    with pytest.raises(VoteRefused, match="no group of pia still needs a vote") as refused:
        await room.vote(held, person("pia", "dba"))
    assert refused.value.code == "conflict"
    asking.cancel()


@pytest.mark.parametrize("digest", ["sha256:" + "0" * 64, "nonsense", "ü"])
async def test_t57_a_vote_carries_the_digest_that_was_shown(room: DeskRoom, digest: str) -> None:
    asking, held = await room.asked()
    with pytest.raises(VoteRefused, match="digest") as refused:
        await room.vote(held, INES, digest=digest)
    assert refused.value.code == "conflict" and held.state == "pending"
    asking.cancel()


async def test_t59_two_votes_at_once_give_one_grant(room: DeskRoom) -> None:
    asking, held = await room.asked()
    room.audit.hold()
    votes = [asyncio.create_task(room.vote(held, who)) for who in (INES, person("pia", "dba"))]
    for _ in range(5):
        await asyncio.sleep(0)
    room.audit.release()
    answers = await asyncio.gather(*votes, return_exceptions=True)
    assert sum(isinstance(answer, VoteRefused) for answer in answers) == 1
    assert room.audit.kinds("approval.") == ["approval.requested", "approval.vote", "approval.granted"]
    assert (await asking).id == held.id


async def test_t59_a_grant_and_a_denial_at_once(room: DeskRoom) -> None:
    asking, held = await room.asked()
    answers = await asyncio.gather(room.vote(held, INES), room.vote(held, person("pia", "dba"), False), return_exceptions=True)
    assert sum(isinstance(answer, VoteRefused) for answer in answers) == 1 and held.state == "granted"
    asking.cancel()


async def test_t59_it_expires_while_the_vote_is_being_written(room: DeskRoom) -> None:
    asking, held = await room.asked()
    room.audit.hold()
    voting = asyncio.create_task(room.vote(held, INES))
    await asyncio.sleep(0)
    room.clock.advance(901)
    room.audit.release()
    with pytest.raises(VoteRefused, match="expired already"):
        await voting
    with pytest.raises(Refused) as refused:
        await asking
    assert refused.value.code == "expired" and held.state == "expired"


async def test_t59_it_is_withdrawn_while_the_vote_is_being_written(room: DeskRoom) -> None:
    asking, held = await room.asked()
    room.audit.hold()
    voting = asyncio.create_task(room.vote(held, INES))
    await asyncio.sleep(0)
    room.desk.withdraw_session("ses_1", "cancelled by the caller")
    room.audit.release()
    with pytest.raises(VoteRefused, match="withdrawn already"):
        await voting
    with pytest.raises(Refused) as refused:
        await asking
    assert refused.value.code == "withdrawn"
    assert room.audit.kinds("approval.")[-1] == "approval.withdrawn"


async def test_t59_consumed_twice_at_once(room: DeskRoom) -> None:
    asking, held = await room.asked()
    await room.vote(held, INES)
    approval = await asking

    async def consume() -> object:
        return room.desk.consumed(approval)

    answers = await asyncio.gather(consume(), consume(), return_exceptions=True)
    assert sum(isinstance(answer, Refused) for answer in answers) == 1


async def test_t59_a_clock_set_back_revives_nothing(room: DeskRoom) -> None:
    asking, held = await room.asked()
    room.clock.advance(901)
    room.desk.sweep()
    room.clock.advance(-901)
    with pytest.raises(VoteRefused, match="expired already"):
        await room.vote(held, INES)
    with pytest.raises(Refused):
        await asking


async def test_t59_a_voter_revoked_before_the_last_vote_no_longer_counts(room: DeskRoom) -> None:
    asking, held = await room.asked(None, None, "dba-and-security")
    await room.vote(held, INES)
    room.revoked.add("ines")
    assert (await room.vote(held, SAM)).state == "pending"
    assert (await room.vote(held, person("pia", "dba"))).state == "granted"
    assert (await asking).id == held.id


async def test_t59_a_voter_revoked_before_the_use(room: DeskRoom) -> None:
    asking, held = await room.asked()
    await room.vote(held, INES)
    approval = await asking
    room.revoked.add("ines")
    with pytest.raises(Refused, match="a voter was revoked") as refused:
        room.desk.consumed(approval)
    assert (refused.value.code, held.state) == ("withdrawn", "withdrawn")


@pytest.mark.parametrize("reason", ["", "   \n", "\x1b\x07", "x" * 2049, "ä" * 1025, "x" * 10_000_000])
async def test_t60_reasons_without_sense_or_end(room: DeskRoom, reason: str) -> None:
    asking, held = await room.asked()
    with pytest.raises(VoteRefused) as refused:
        await room.vote(held, INES, reason=reason)
    assert refused.value.code == "reason" and not held.votes
    asking.cancel()


async def test_t60_hidden_characters_never_get_into_a_record(room: DeskRoom) -> None:
    asking, held = await room.asked()
    await room.vote(held, INES, reason="fine\x1b[2J\u202e, \r\nreally\x00")
    assert room.audit.of("approval.vote")[0]["reason"] == "fine[2J, really"
    asking.cancel()


async def test_an_unknown_id(room: DeskRoom) -> None:
    with pytest.raises(VoteRefused) as refused:
        await room.desk.vote("apr_nothing", INES, True, "x", "sha256:0")
    assert refused.value.code == "not-found"


async def test_t64_ids_cannot_be_guessed(room: DeskRoom) -> None:
    asking, held = await room.asked()
    other, second = await room.asked(command("delete from customers"), session(2))
    assert len(held.id) == len(second.id) == 24 and held.id != second.id
    assert held.request.digest != second.request.digest
    asking.cancel()
    other.cancel()
