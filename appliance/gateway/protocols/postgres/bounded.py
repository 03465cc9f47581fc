# SPDX-License-Identifier: Apache-2.0
"""``max_rows``: a statement runs inside a transaction, and its count is looked at before anything of it can stay.

Where the caller has no transaction the gateway opens one of its own around the statement; in a transaction or a pipeline an error that
the target must raise takes the place of what the caller sees, so that nothing can be committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gateway.errors import Refused
from gateway.model import Decision
from gateway.protocols.postgres import messages
from gateway.protocols.postgres.answers import IDLE, NOT_WRITTEN, OWN, command_complete_of, too_many
from gateway.protocols.postgres.context import Compiled
from gateway.protocols.postgres.expect import QUERY, Expect, Fields, Running
from gateway.protocols.postgres.sql.parse import parse

if TYPE_CHECKING:
    from gateway.protocols.postgres.frontend import Frontend

WRITES = frozenset({"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})


def bound_of(decision: Decision, compiled: Compiled, prepared: Mapping[str, str]) -> int | None:
    """The bound that this command is under, if any.

    Raises ``Refused`` (42501) for what cannot be bounded: several statements in one text, and statements whose command tag does not
    say how many rows they changed (writes inside WITH, EXPLAIN ANALYZE, COPY FROM, which is over before its count is known).
    """
    if decision.max_rows is None or not any(statement.dml for statement in compiled.statements):
        return None
    if len(compiled.statements) != 1:
        raise Refused("a statement under max_rows has to be sent alone", "42501")
    name = compiled.statements[0].uses_prepared
    text = compiled.text if name is None else prepared.get(name, "")
    parsed = parse(text)[0]
    if len(parsed) != 1 or parsed[0].kind not in WRITES or _writes(parsed[0].body):
        raise Refused("this form of the statement cannot be counted, and a rule allows it with max_rows only: "
                      "use a plain INSERT, UPDATE, DELETE or MERGE", "42501")
    return decision.max_rows


def _writes(node: Any) -> int:
    """How many writing statements are somewhere inside a parse tree."""
    if isinstance(node, dict):
        return sum((key in WRITES) + _writes(value) for key, value in node.items())
    return sum(map(_writes, node)) if isinstance(node, list) else 0


async def query(frontend: Frontend, payload: bytes, compiled: Compiled, running: Running, most: int) -> None:
    """A simple query under a bound."""
    await frontend.settle()
    own = frontend.relay.status == "I"
    if own:
        frontend.send(messages.Query("begin").encode(), Expect(QUERY, silent=True))
    expect = frontend.send_query(payload, compiled, running, hold=bytearray())
    expect.answered = asyncio.get_running_loop().create_future()
    await frontend.flush()
    failed = await expect.answered
    if failed is NOT_WRITTEN:
        return
    over = not failed and expect.affected > most
    if over:
        running.status = "refused"
    if own:
        failed = await _end_own(frontend, expect, failed, over, most)
    elif over:
        frontend.send(messages.Query(f"{OWN}refused").encode(), Expect(QUERY, instead=too_many(expect.affected, most)))
    else:
        frontend.answer(bytes(expect.hold or b""))
    frontend.relay.commands.finish(running, "error" if failed else "ok", failed or {})


async def _end_own(frontend: Frontend, expect: Expect, failed: Fields | None, over: bool, most: int) -> Fields | None:
    """End the gateway's own transaction; the error that the statement ended with, if any."""
    end = Expect(QUERY, silent=True, plans=expect.plans, answered=asyncio.get_running_loop().create_future())
    frontend.send(messages.Query("rollback" if failed or over else "commit").encode(), end)
    await frontend.flush()
    refused = await end.answered if end.answered is not None else None
    if failed:
        frontend.answer(IDLE)
    elif over:
        frontend.answer(messages.ErrorResponse(too_many(expect.affected, most)).encode() + IDLE)
    elif refused:
        frontend.answer(messages.ErrorResponse(frontend.relay.backend.shown(refused, expect)).encode() + IDLE)
    else:
        frontend.answer(command_complete_of(expect) + IDLE)
    return failed or refused


async def execute(frontend: Frontend, expect: Expect, running: Running, most: int) -> None:
    """An Execute under a bound: nothing is committed before Sync, so the count is looked at before anything follows. Raises ``Refused``."""
    expect.hold = bytearray()
    expect.answered = asyncio.get_running_loop().create_future()
    await frontend.flush(now=True)
    failed = await expect.answered
    commands = frontend.relay.commands
    if failed:
        if failed is not NOT_WRITTEN:
            commands.finish(running, "error", failed)
        return
    if expect.affected <= most:
        frontend.answer(bytes(expect.hold))
        commands.finish(running, "ok", {})
        return
    commands.finish(running, "refused", {"C": "42501"})
    raise Refused(too_many(expect.affected, most)["M"], "42501")
