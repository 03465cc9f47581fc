# SPDX-License-Identifier: Apache-2.0
"""Contract section 5, durability, for every protocol: no record on disk, no effect on the target and no answer to the caller.

A protocol joins by giving a ``Case``: a session on a scripted target, operations that read early or have effects, and its refusal's code.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import asyncssh
import pytest

from gateway import protocols
from gateway.protocols.postgres import messages
from gateway.protocols.postgres.messages import Bind, Execute, Parse, Query, Sync
from gateway.testing import FailingAudit, MemoryAudit
from gateway.testing.scripted import ScriptedTarget, rows
from tests.unit.protocols.postgres.talk import Rules, Talk, errors, grant, kinds, make_room, talking
from tests.unit.protocols.ssh import talk as ssh

READ = "select id, total from orders where id = 1"
WRITE = "insert into orders values (99, 1, 1)"
BOUNDED = "update orders set total = 1 where id < 4"
CALLED = "select nextval('some_sequence')"
EXPLAIN = "explain select id from orders"
COPY = "copy orders to stdout"
RULES: Rules = [
    {"name": "data", "allow": {"sql": {"verbs": ["select", "insert"], "relations": ["public.orders"]}}},
    {"name": "few", "allow": {"sql": {"verbs": ["update"], "relations": ["public.orders"]}}, "max_rows": 3},
    {"name": "session", "allow": {"sql": {"verbs": ["begin", "commit", "explain", "copy-to", "set"]}}},
]


class Conversation(Protocol):
    """What a test needs of a session under way, whatever it speaks."""

    async def operate(self, operation: str) -> bool:
        """Send one operation; True when the caller was answered with anything but a refusal."""

    def target_has(self, operation: str) -> bool:
        """Whether any byte of it reached the target."""

    def refused(self) -> bool:
        """Whether the last operation was refused because records cannot be written."""


@dataclass(frozen=True)
class Case:
    """``effects`` may not leave before their record; ``early`` may, unless ``strict``."""

    protocol: str
    open: Callable[[Path, MemoryAudit], AbstractAsyncContextManager[Conversation]]
    effects: tuple[str, ...]
    early: tuple[str, ...]


class PostgresTalk:
    """Operations are statements; one that begins with ``extended:`` goes by Parse, Bind, Execute."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self._refused = False

    async def operate(self, operation: str) -> bool:
        way, _, text = operation.rpartition(": ")
        parts = (Parse("", text), Bind("", ""), Execute(""), Sync()) if way else (Query(text),)
        answer = await self.talk.say(*parts)
        self._refused = errors(answer) == ["58030"]
        return kinds(answer).replace("E", "").replace("Z", "") != ""

    def target_has(self, operation: str) -> bool:
        return operation.rpartition(": ")[2].encode() in bytes(self.talk.to_target)

    def refused(self) -> bool:
        return self._refused


@asynccontextmanager
async def open_postgres(root: Path, audit: MemoryAudit) -> AsyncIterator[Conversation]:
    target = ScriptedTarget({READ: rows(["id", "total"], ("1", "2")), EXPLAIN: rows(["QUERY PLAN"], ("Seq Scan",)),
                             COPY: [messages.CopyResponse("H", 0, (0,)), messages.CopyData(b"1\n"), messages.COPY_DONE,
                                    messages.CommandComplete("COPY 1")]})
    async with talking(make_room(root, grant(RULES), audit=audit), target) as talk:
        yield PostgresTalk(talk)


class SshTalk:
    """Operations are ``exec: TEXT``, ``shell:``, ``subsystem: NAME`` and ``forward: HOST:PORT``; each is a channel of its own."""

    def __init__(self, talk: ssh.Talk) -> None:
        self.talk = talk
        self._said = ""

    async def operate(self, operation: str) -> bool:
        kind, _, text = operation.partition(": ")
        self._said = ""
        work = self._forward(text) if kind == "forward" else self._program(kind, text)
        return bool(await ssh.settled(work))

    async def _program(self, kind: str, text: str) -> bool:
        process = await self.talk.caller.create_process(text if kind == "exec" else None, subsystem=text if kind == "subsystem" else None,
                                                        encoding=None, stdin=asyncssh.DEVNULL)
        done = await process.wait()
        self._said = done.stderr.decode() if isinstance(done.stderr, bytes) else ""
        return done.exit_status == 0

    async def _forward(self, text: str) -> bool:
        host, _, port = text.partition(":")
        try:
            _, writer = await self.talk.caller.open_connection(host, int(port))
        except asyncssh.ChannelOpenError as refused:
            self._said = refused.reason
            return False
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(0.1)                 # the target's end is recorded
        return True

    def target_has(self, operation: str) -> bool:
        kind, _, text = operation.partition(": ")
        return (text or kind) in self.talk.asked

    def refused(self) -> bool:
        return "the audit log cannot be written" in self._said


@asynccontextmanager
async def open_ssh(root: Path, audit: MemoryAudit) -> AsyncIterator[Conversation]:
    rules = [{"name": "all", "allow": {"ssh": {"actions": ["exec", "shell"]}}},
             {"name": "subsystem", "allow": {"ssh": {"actions": ["subsystem"], "command": ["netconf"]}}},
             {"name": "forward", "allow": {"ssh": {"actions": ["forward-local"], "to": ["127.0.0.1:*"]}}}]
    async with ssh.talking(root, rules, audit) as talk:
        yield SshTalk(talk)


CASES = {"ssh": Case(
    "ssh", open_ssh, effects=("exec: touch /tmp/x", "shell", "subsystem: netconf", "forward: 127.0.0.1:7"), early=("exec: uptime",)),
    "postgres": Case(
    "postgres", open_postgres,
    effects=(WRITE, f"extended: {WRITE}", BOUNDED, f"extended: {BOUNDED}", EXPLAIN, f"extended: {EXPLAIN}", COPY, f"{READ}; {WRITE}",
             f"begin; {WRITE}", "set application_name = 'x'"),
    early=(READ, f"extended: {READ}", "begin", "show server_version"))}

EFFECTS = [pytest.param(case, operation, id=f"{case.protocol}-{operation}") for case in CASES.values() for operation in case.effects]
EARLY = [pytest.param(case, operation, id=f"{case.protocol}-{operation}") for case in CASES.values() for operation in case.early]


def test_every_protocol_is_here() -> None:
    assert set(CASES) == set(protocols.names())


@pytest.mark.parametrize(("case", "operation"), [*EFFECTS, *EARLY])
@pytest.mark.parametrize("durability", ["effects", "strict"])
async def test_a_record_that_cannot_be_written_stops_the_operation(tmp_path: Path, case: Case, operation: str, durability: str) -> None:
    audit = FailingAudit(strict=durability == "strict")
    async with case.open(tmp_path, audit) as session:
        answered = await session.operate(operation)
        assert not answered
        assert session.refused()
        if durability == "strict" or operation in case.effects:
            assert not session.target_has(operation)
    assert audit.of("command.begin") == []


@pytest.mark.parametrize(("case", "operation"), EFFECTS)
async def test_it_works_again_once_records_can_be_written(tmp_path: Path, case: Case, operation: str) -> None:
    audit = FailingAudit()
    async with case.open(tmp_path, audit) as session:
        await session.operate(operation)
        audit.repair()
        assert await session.operate(operation)
        assert session.target_has(operation)
    assert len(audit.of("command.end")) == len(audit.of("command.begin")) > 0


@pytest.mark.parametrize(("case", "operation"), EFFECTS)
async def test_nothing_with_an_effect_leaves_while_the_disk_is_slow(tmp_path: Path, case: Case, operation: str) -> None:
    audit = MemoryAudit()
    async with case.open(tmp_path, audit) as session:
        audit.hold()
        assert not await session.operate(operation)
        assert not session.target_has(operation)
        audit.release()
        assert await session.operate(case.early[0])
        assert session.target_has(operation)


@pytest.mark.parametrize(("case", "operation"), EARLY)
async def test_an_early_read_is_not_answered_while_the_disk_is_slow(tmp_path: Path, case: Case, operation: str) -> None:
    """It may run on the target; not a byte of its answer may pass."""
    audit = MemoryAudit()
    async with case.open(tmp_path, audit) as session:
        await session.operate(case.early[0])
        audit.hold()
        assert not await session.operate(operation)
        audit.release()


@pytest.mark.parametrize(("case", "operation"), EARLY)
async def test_strict_lets_nothing_leave_while_the_disk_is_slow(tmp_path: Path, case: Case, operation: str) -> None:
    audit = MemoryAudit(strict=True)
    async with case.open(tmp_path, audit) as session:
        audit.hold()
        assert not await session.operate(operation)
        assert not session.target_has(operation)
        audit.release()


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5])
async def test_postgres_a_pipeline_whose_records_fail_in_the_middle(tmp_path: Path, at: int) -> None:
    """Wherever the disk breaks: one refusal, one ReadyForQuery, nothing committed whose record is missing."""
    texts = [f"insert into orders values ({number}, 1, 1)" for number in range(3)]
    audit = FailingAudit(at=at)
    async with talking(make_room(tmp_path, grant(RULES), audit=audit)) as talk:
        answer = await talk.say(*[part for text in texts for part in (Parse("", text), Bind("", ""), Execute(""))], Sync())
        assert (errors(answer), kinds(answer).count("Z")) == (["58030"], 1)
        assert talk.target.committed == []
        audit.repair()
        answer = await talk.say(Query(WRITE))
        assert kinds(answer) == "CZ"
    assert talk.target.committed == [WRITE]
