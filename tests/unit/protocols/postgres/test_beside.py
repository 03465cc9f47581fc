# SPDX-License-Identifier: Apache-2.0
"""Long texts are understood beside the event loop: the same meaning, and the loop has its turns meanwhile."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from gateway.protocols.postgres.beside import NEAR, beside
from gateway.protocols.postgres.messages import Query
from gateway.protocols.postgres.sql.analyze import analyze
from gateway.protocols.postgres.sql.knowledge import knowledge_of
from gateway.protocols.postgres.sql.lineage import shape_of
from gateway.testing.scripted import ScriptedTarget, rows
from tests.unit.protocols.postgres.sql.shop import CATALOG, CONTEXT
from tests.unit.protocols.postgres.sql.twin import shown
from tests.unit.protocols.postgres.talk import errors, grant, make_room, talking, values

LONG = "select id, ssn from customers where id in (" + ", ".join(map(str, range(9000))) + ")"
CASES = "select case " + " ".join(f"when id = {number} then ssn" for number in range(2500)) + " end from customers"


@pytest.mark.parametrize("text", [LONG, CASES, "select " + "not " * 5000 + "true", ";".join(["select ssn from customers"] * 2000)])
async def test_a_long_text_says_the_same_there(text: str) -> None:
    def said() -> str:
        try:
            return shown(analyze(text, CONTEXT, CATALOG))
        except Exception as fault:
            return repr(fault)

    assert NEAR < len(text) < 65_536
    assert await beside(said) == said()


async def test_the_loop_has_its_turns() -> None:
    """One call that never lets go would leave it one or two."""
    working = asyncio.ensure_future(beside(analyze, CASES, CONTEXT, CATALOG))
    turns = 0
    while not working.done():
        turns += 1
        await asyncio.sleep(0)
    assert (await working)[0].verb == "select" and turns > 10


async def test_each_thread_has_its_own_of_what_is_made_on_the_way() -> None:
    here = knowledge_of(CATALOG, shape_of)
    assert knowledge_of(CATALOG, shape_of) is here
    there = await beside(knowledge_of, CATALOG, shape_of)
    assert there is not here and there.builtin is here.builtin
    assert (await beside(threading.current_thread)).name.startswith("texts")


async def test_depth_is_counted_for_each_thread_alone() -> None:
    deep = "select " + "(select " * 90 + "1" + ")" * 90
    both = asyncio.gather(*(beside(analyze, deep, CONTEXT, CATALOG) for _ in range(20)))
    while not both.done():
        assert analyze(deep, CONTEXT, CATALOG)[0].verb == "select"
        await asyncio.sleep(0)
    assert len(await both) == 20


async def test_through_a_session(tmp_path: Path) -> None:
    async with talking(make_room(tmp_path, grant(masks=True)), ScriptedTarget({LONG: rows(["id", "ssn"], ("1", "078-05-1120"))})) as talk:
        for _ in range(3):                       # understood, kept, found
            assert values(await talk.query(LONG)) == [("1", "****")]
        assert errors(await talk.query(LONG.replace("ssn", "nothing"))) == ["42703"]
        assert errors(await talk.query("drop table orders -- " + "x" * NEAR)) == ["42501"]
        assert errors(await talk.query("select '" + "x" * 70_000 + "'")) == ["54000"]


async def test_a_policy_that_changes_while_a_text_is_understood(tmp_path: Path) -> None:
    """The masks of a plan are those of the policy that decides."""
    where = make_room(tmp_path, grant())
    async with talking(where, ScriptedTarget({LONG: rows(["id", "ssn"], ("1", "078-05-1120"))})) as talk:
        await talk.query("select 1")
        release = threading.Event()
        held = asyncio.ensure_future(beside(release.wait, 20.0))
        talk.client.data_received(Query(LONG).encode())
        for _ in range(50):
            await asyncio.sleep(0)
        where.policy = make_room(tmp_path / "b", grant(masks=True)).policy
        release.set()
        assert await held
        assert values(await talk.quiet()) == [("1", "****")]


async def test_what_is_far_too_long_is_shown_in_part(tmp_path: Path) -> None:
    text = "select '1" + "2" * 100_000 + "', " + "1 + " * 200_000 + "1"
    async with talking(make_room(tmp_path)) as talk:
        assert errors(await talk.query(text)) == ["54000"]
    assert talk.begun()[-1] == ("select **** …", "deny")
