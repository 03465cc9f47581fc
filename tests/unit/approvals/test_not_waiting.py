# SPDX-License-Identifier: Apache-2.0
"""``wait=off``: the id at once, and the identical command again while the approval is valid."""

from __future__ import annotations

import asyncio

import pytest

from gateway.approvals.book import Held
from gateway.errors import Refused
from gateway.model import Command
from gateway.testing.desk import DeskRoom, command, person, session

INES = person("ines", "dba")


async def held_now(room: DeskRoom, what: Command, number: int = 1) -> Held:
    with pytest.raises(Refused) as refused:
        await room.obtain(what, session(number))
    assert refused.value.code == "held"
    found = room.desk.show(refused.value.detail)
    assert found is not None
    return found


@pytest.fixture
def room() -> DeskRoom:
    return DeskRoom()


async def test_the_id_comes_at_once_and_once(room: DeskRoom) -> None:
    first = await held_now(room, command(wait=False))
    again = await held_now(room, command(wait=False), 2)
    assert first is again and room.audit.kinds("approval.") == ["approval.requested"]


async def test_identical_requests_at_the_same_time_are_one(room: DeskRoom) -> None:
    answers = await asyncio.gather(*(room.obtain(command(wait=False), session(n)) for n in range(5)), return_exceptions=True)
    assert len({answer.detail for answer in answers if isinstance(answer, Refused)}) == 1
    assert room.audit.kinds("approval.") == ["approval.requested"]


async def test_the_grant_is_used_by_the_next_identical_command_of_any_session(room: DeskRoom) -> None:
    held = await held_now(room, command(wait=False))
    await room.vote(held, INES)
    approval = await room.obtain(command(wait=False), session(2))
    used = room.desk.consumed(approval)
    assert (approval.id, used["session"]) == (held.id, "ses_2")
    assert (await held_now(room, command(wait=False), 3)).id != held.id


async def test_a_command_that_waits_uses_such_a_grant_too(room: DeskRoom) -> None:
    held = await held_now(room, command(wait=False))
    await room.vote(held, INES)
    assert (await room.obtain(command(), session(2))).id == held.id


async def test_of_two_that_come_for_one_grant_one_gets_it(room: DeskRoom) -> None:
    held = await held_now(room, command(wait=False))
    await room.vote(held, INES)
    answers = await asyncio.gather(*(room.obtain(command(wait=False), session(n)) for n in (2, 3)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, Refused)]
    assert len(refused) == 1 and refused[0].code == "held" and refused[0].detail != held.id


@pytest.mark.parametrize("other", [
    command("delete from orders ", wait=False),
    command(wait=False, context={"search_path": "evil, public"}),
    command(wait=False, objects=("99999",)),
    command(wait=False, parameters=(("int4", "1"),)),
    command(wait=False, parameters=(("text", None),)),
])
async def test_t57_anything_else_is_another_request(room: DeskRoom, other: Command) -> None:
    """T57: what was approved is what runs: text, parameters, settings and objects."""
    held = await held_now(room, command(wait=False))
    await room.vote(held, INES)
    assert (await held_now(room, other)).id != held.id
    assert held.state == "granted"


async def test_t57_another_identity_database_or_policy_is_another_request(room: DeskRoom) -> None:
    held = await held_now(room, command(wait=False))
    await room.vote(held, INES)
    robot = session(2, person("other-bot"))
    with pytest.raises(Refused) as refused:
        await room.obtain(command(wait=False), robot)
    assert refused.value.detail != held.id
    room.policy.digest = "sha256:policy-2"
    room.desk.policy_changed(room.policy.digest)
    assert (await held_now(room, command(wait=False))).id != held.id


async def test_a_denied_request_stays_denied_until_it_expires(room: DeskRoom) -> None:
    held = await held_now(room, command(wait=False))
    await room.vote(held, INES, grant=False, reason="no")
    with pytest.raises(Refused) as refused:
        await room.obtain(command(wait=False), session(2))
    assert (refused.value.code, refused.value.detail) == ("denied", held.id)
    room.clock.advance(901)
    assert (await held_now(room, command(wait=False))).id != held.id


async def test_an_expired_request_is_asked_anew(room: DeskRoom) -> None:
    held = await held_now(room, command(wait=False))
    room.clock.advance(900)
    assert (await held_now(room, command(wait=False))).id != held.id
    assert held.state == "expired"


async def test_it_outlives_its_session_and_gives_a_reservation_back(room: DeskRoom) -> None:
    held = await held_now(room, command(wait=False))
    room.desk.withdraw_session("ses_1", "client gone")
    assert held.state == "pending"
    await room.vote(held, INES)
    await room.obtain(command(wait=False), session(2))
    room.desk.withdraw_session("ses_2", "the session ended before it ran")
    assert (held.state, held.user) == ("granted", None)
    assert (await room.obtain(command(wait=False), session(3))).id == held.id


async def test_nothing_is_told_to_a_session_that_does_not_wait(room: DeskRoom) -> None:
    held = await held_now(room, command(wait=False))
    assert [view.id for view in room.noticed] == [held.id]
    assert not held.request.waits
