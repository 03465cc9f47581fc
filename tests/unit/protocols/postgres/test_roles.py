# SPDX-License-Identifier: Apache-2.0
"""The administrative connection: opened when needed, rolled back after a failure, closed when nobody uses it, never believed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.credentials import Credential
from gateway.errors import GatewayFault, TargetFault
from gateway.protocols.postgres.ephemeral import Mark
from gateway.protocols.postgres.roles import Admin, Left, drop_role, instance, named
from gateway.protocols.postgres.settings import PostgresResource
from gateway.protocols.postgres.target import TargetConnection
from gateway.protocols.postgres.towards import Towards

MARK = Mark("gw", "seg", "0" * 16, "a" * 32, "db", "db")
ROLE = "lockgate_gw_aaaaaaaaaaaaaaaa"
Rows = list[tuple[str | None, ...]]


class Stream:
    """What of a ``ByteStream`` is looked at."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.buffered = 0

    def abort(self) -> None:
        self.gone.set()


class Connection:
    """Answers by the beginning of the text; an answer that is a fault is raised, and leaves the transaction failed."""

    def __init__(self, answers: dict[str, Rows | TargetFault]) -> None:
        self.answers, self.asked, self.stream, self.status, self.closed = answers, list[str](), Stream(), "I", False

    async def query(self, text: str, **_: Any) -> Rows:
        self.asked.append(text)
        if self.stream.gone.is_set():
            raise TargetFault("the target closed the connection", "08006")
        if text == "rollback" or text.endswith("commit"):
            self.status = "I"
        answer = next((answer for start, answer in self.answers.items() if text.startswith(start)), [])
        if text.startswith("begin"):
            self.status = "T"
        if isinstance(answer, TargetFault):
            raise answer
        return answer

    async def close(self) -> None:
        self.closed = True


class Door:
    """A ``Towards`` that gives these connections, one after the other; a fault is raised."""

    def __init__(self, *given: Connection | TargetFault) -> None:
        self.given, self.opened = list(given), 0

    async def open(self, *_: Any) -> Connection:
        self.opened += 1
        one = self.given.pop(0)
        if isinstance(one, TargetFault):
            raise one
        return one


VERSION: dict[str, Rows | TargetFault] = {"show server_version_num": [("180001",)]}


def admin(*given: Connection | TargetFault, owner: str = "") -> tuple[Admin, Door]:
    door = Door(*given)
    credential = Credential("db", "ephemeral-role", "admin", member_of=("reader",), owner=owner)
    return Admin(cast(Towards, door), cast(PostgresResource, None), "db", credential), door


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def work_of(text: str) -> Any:
    async def work(connection: TargetConnection) -> Any:
        return await connection.query(text)
    return work


def test_it_is_opened_once_and_again_when_it_is_lost() -> None:
    async def scenario() -> None:
        first, second = Connection(VERSION), Connection(VERSION)
        one, door = admin(first, second)
        await one.run(work_of("a"))
        await one.run(work_of("b"))
        assert (door.opened, one.version) == (1, 18)
        first.stream.gone.set()
        await one.run(work_of("c"))
        assert door.opened == 2
        assert second.asked[-1] == "c"
    run(scenario())


def test_what_spoke_without_being_asked_is_not_used_again() -> None:
    async def scenario() -> None:
        first, second = Connection(VERSION), Connection(VERSION)
        one, _ = admin(first, second)
        await one.run(work_of("a"))
        first.stream.buffered = 5
        await one.run(work_of("b"))
        assert second.asked[-1] == "b"
        assert first.stream.gone.is_set()
    run(scenario())


def test_work_that_failed_is_rolled_back() -> None:
    async def scenario() -> None:
        only = Connection(VERSION | {"begin": TargetFault("no", "42501")})
        one, door = admin(only)
        with pytest.raises(TargetFault):
            await one.run(work_of("begin; x"))
        assert only.asked[-1] == "rollback"
        await one.run(work_of("again"))
        assert door.opened == 1
    run(scenario())


def test_a_target_that_is_down_is_not_asked_by_everybody() -> None:
    async def scenario() -> None:
        one, door = admin(TargetFault("cannot be reached", "08006"), Connection(VERSION))
        for _ in range(3):
            with pytest.raises(TargetFault, match="cannot be reached") as fault:
                await one.run(work_of("a"))
            assert fault.value.code == "08006"
        assert door.opened == 1
    run(scenario())


@pytest.mark.parametrize("answer", [[], [("",)], [("x",)], [(None,)], [("15", "16")], [("1",), ("2",)]])
def test_a_version_of_another_shape_is_a_fault_of_the_targets(answer: Rows) -> None:
    async def scenario() -> None:
        one, _ = admin(Connection({"show server_version_num": answer}))
        with pytest.raises(TargetFault):
            await one.run(work_of("a"))
    run(scenario())


@pytest.mark.parametrize("rows", [[()], [("a",)], [("a", "b", "c", "d", "e")]])
def test_roles_of_another_shape_are_a_fault_of_the_targets(rows: Rows) -> None:
    async def scenario() -> None:
        one, _ = admin(Connection(VERSION | {"select r.rolname": rows}))
        with pytest.raises(TargetFault):
            await one.run(lambda connection: named(connection, "gw"))
    run(scenario())


def test_it_is_closed_after_the_work_that_is_going_on() -> None:
    async def scenario() -> None:
        only, begun, may_end = Connection(VERSION), asyncio.Event(), asyncio.Event()
        one, _ = admin(only)

        async def slow(connection: TargetConnection) -> None:
            begun.set()
            await may_end.wait()

        working = asyncio.ensure_future(one.run(slow))
        await begun.wait()
        await one.close()
        assert not only.closed
        may_end.set()
        await working
        assert only.closed
    run(scenario())


def dropping(answers: dict[str, Rows | TargetFault], owner: str = "") -> tuple[Connection, Coroutine[Any, Any, bool]]:
    only = Connection(VERSION | answers)
    one, _ = admin(only, owner=owner)
    return only, one.run(lambda connection: drop_role(connection, ROLE, MARK, one))


@pytest.mark.parametrize("comment", [None, "", "a comment", Mark("gw", "seg", "0" * 16, "b" * 32, "db", "db").text()])
def test_without_its_mark_no_role_is_touched(comment: str | None) -> None:
    async def scenario() -> None:
        only, drop = dropping({"select r.rolname": [(ROLE, comment, "true", "true")]})
        assert await drop is False
        assert all(text.startswith(("show", "select")) for text in only.asked)
    run(scenario())


@pytest.mark.parametrize("gone", [[("f",)], [("t",), ("f",)], [(None,)], [("t", "t")]])
def test_a_connection_that_does_not_go_keeps_the_role(gone: Rows) -> None:
    async def scenario() -> None:
        only, drop = dropping({"select r.rolname": [(ROLE, MARK.text(), "false", "true")], "begin": gone})
        with pytest.raises(Left):
            await drop
        assert only.asked[-1] == "rollback"
        assert not any("drop role" in text for text in only.asked)
        assert any(text.startswith("alter role") and text.endswith("nologin") for text in only.asked)
    run(scenario())


def test_in_what_order_a_role_is_dropped() -> None:
    async def scenario() -> None:
        only, drop = dropping({"select r.rolname": [(ROLE, MARK.text(), "false", "true")], "begin": [("t",)]}, owner="keeper")
        assert await drop is True
        last = only.asked[-1]
        order = ["reassign owned", "drop owned", "drop role", "revoke", "commit"]
        assert [last.index(part) for part in order] == sorted(last.index(part) for part in order)
        assert " cascade" not in " ".join(only.asked)
    run(scenario())


def test_the_number_of_a_state_folder_stays(tmp_path: Path) -> None:
    path = tmp_path / "roles.instance"
    number = instance(path)
    assert instance(path) == number
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("short\n")
    with pytest.raises(GatewayFault):
        instance(path)
