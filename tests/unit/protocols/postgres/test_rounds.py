# SPDX-License-Identifier: Apache-2.0
"""One timer for all sessions: everybody is looked at in each round, nobody who left, and it stops when nobody is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.protocols.postgres import rounds
from gateway.protocols.postgres.rounds import PARTS, Rounds


class Session:
    def __init__(self) -> None:
        self.looks = 0

    def look(self) -> None:
        self.looks += 1


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.001)


async def until_all(sessions: list[Session], looks: int) -> None:
    await until(lambda: all(one.looks >= looks for one in sessions))


async def test_everybody_is_looked_at_and_then_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "EVERY", 0.01)
    held = Rounds(asyncio.get_running_loop())
    sessions = [Session() for _ in range(3 * PARTS + 1)]
    for one in sessions:
        held.join(one)
    await until_all(sessions, 3)
    left = sessions.pop()
    held.leave(left)
    seen = left.looks
    await until_all(sessions, 6)
    assert left.looks == seen
    for one in sessions:
        held.leave(one)
        held.leave(one)
    await until(lambda: held._timer is None)
    assert not any(one.looks < 6 for one in sessions)
    held.join(left)
    await until_all([left], seen + 1)
    held.leave(left)


async def test_who_leaves_while_others_are_looked_at_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "EVERY", 0.01)
    held = Rounds(asyncio.get_running_loop())

    class Leaves(Session):
        def look(self) -> None:
            super().look()
            for one in everybody:
                held.leave(one)

    everybody = [Leaves() for _ in range(2 * PARTS)]
    for one in everybody:
        held.join(one)
    await until(lambda: held._timer is None)
    assert any(one.looks for one in everybody)


async def test_a_loop_has_one() -> None:
    assert rounds.rounds() is rounds.rounds()
