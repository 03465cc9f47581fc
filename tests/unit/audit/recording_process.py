# SPDX-License-Identifier: Apache-2.0
"""A gateway's log in a process of its own: records commands and prints each seq once it is acknowledged, until it is killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.unit.audit.log_folder import BASE, begin, end, open_log, settings


async def main(state: Path) -> None:
    log = open_log(state, settings(database="1MiB"))
    await asyncio.gather(*(client(log, number) for number in range(8)))


async def client(log: object, number: int) -> None:
    session = {**BASE, "session": f"s-{number}"}
    await log.record("session.start", session)  # type: ignore[attr-defined]
    for count in range(1_000_000):
        seq = await log.record("command.begin", {**begin(f"SELECT {count}"), **session})  # type: ignore[attr-defined]
        sys.stdout.write(f"{seq}\n")
        sys.stdout.flush()
        log.record("command.end", {**end(seq), **session}, b"a masked sample " * 20)  # type: ignore[attr-defined]


asyncio.run(main(Path(sys.argv[1])))
