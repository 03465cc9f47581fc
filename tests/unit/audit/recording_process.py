# SPDX-License-Identifier: Apache-2.0
"""A gateway's log in a process of its own: records commands and prints each seq once it is acknowledged, until it is killed.

Half of its clients record mappings and wait for futures, half fill templates and are told.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from gateway.audit.log import AuditLog
from gateway.audit.template import Ticket
from tests.unit.audit.log_folder import BASE, begin, end, open_log, settings

SAMPLE = b"a masked sample " * 20


async def main(state: Path) -> None:
    log = open_log(state, settings(database="1MiB"))
    filling = [Filling(log, number) for number in range(4)]
    await asyncio.gather(*(client.start() for client in filling), *(recording(log, number) for number in range(4, 8)))


def session_of(number: int) -> dict[str, Any]:
    return {**BASE, "session": f"s-{number}"}


async def recording(log: AuditLog, number: int) -> None:
    session = session_of(number)
    await log.record("session.start", session)
    for count in range(1_000_000):
        seq = await log.record("command.begin", {**begin(f"SELECT {count}"), **session})
        acknowledge(seq)
        log.record("command.end", {**end(seq), **session}, SAMPLE)


class Filling:
    """One command after the other, each begun when the one before is on disk; every third with a sample."""

    def __init__(self, log: AuditLog, number: int) -> None:
        self._log, self._session = log, session_of(number)
        self._begin = log.template("command.begin", {**begin(), **self._session}, ("count",))
        self._end = log.template("command.end", self._session, ("begin", "status"))
        self._count = 0

    async def start(self) -> None:
        await self._log.record("session.start", self._session)
        self._next()

    def _next(self) -> None:
        self._count += 1
        self._log.fill(self._begin, (b"%d" % self._count,), self)

    def durable(self, ticket: Ticket) -> None:
        acknowledge(ticket.seq)
        sample = SAMPLE if self._count % 3 == 0 else None
        self._log.fill(self._end, (b"%d" % ticket.seq, b'"ok"'), None, lazy=True, recording=sample)
        self._next()


def acknowledge(seq: int) -> None:
    sys.stdout.write(f"{seq}\n")
    sys.stdout.flush()


asyncio.run(main(Path(sys.argv[1])))
