# SPDX-License-Identifier: Apache-2.0
"""What one audit record costs: CPU of the whole process per record, by records in a batch, on the disk of ``--folder``.

    python -m tests.bench.records [--folder DIR] [--seconds 2] [--batches 1,8,32,128] [--way fill,record] [--slow-sync 0.005]

Each batch is half ``command.begin`` and half the ``command.end`` of the commands before, as the PostgreSQL lane writes them. ``fill`` uses
templates and a waiter, ``record`` a mapping and a future for each. Nothing but the log runs in the process; medians of three.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit.files import log_files, open_for_reading
from gateway.audit.log import AuditLog
from gateway.audit.template import Ticket
from gateway.config.schema import AuditConfig
from tests.bench.slow_vfs import slow_syncs

SESSION: dict[str, Any] = {
    "session": "s-01hzy0p2m3n4q5r6", "identity": "nightly-report", "issuer": "gitlab", "owner": "data-team",
    "groups": ["reports", "robots"], "resource": "orders-db", "protocol": "postgres", "source": "192.0.2.7:50001",
    "policy": "sha256:" + "5e" * 32,
}
TEXT = "SELECT abalance FROM pgbench_accounts WHERE aid = $1;"
BEGIN: dict[str, Any] = SESSION | {
    "verb": "select", "verbs": ["select"], "objects": ["public.pgbench_accounts"], "text": TEXT, "text_secret": TEXT,
    "decision": {"effect": "allow", "rules": ["reports/read"], "reason": ""},
}
END = ("begin", "status", "rows", "bytes", "masked", "error")


class Filling:
    """``size`` records a batch by ``fill``; ``run`` ends when they are durable."""

    def __init__(self, log: AuditLog, size: int) -> None:
        self._fill, self._size = log.fill, size
        self._begin = log.template("command.begin", BEGIN, ("parameters",))
        self._end = log.template("command.end", SESSION, END)
        self._begun: list[Ticket] = []
        self._left = 0
        self._done: asyncio.Future[None] | None = None

    def durable(self, ticket: Ticket) -> None:
        self._left -= 1
        if not self._left and self._done is not None:
            self._done.set_result(None)

    async def run(self) -> None:
        self._done = asyncio.get_running_loop().create_future()
        begun, half = self._begun, (self._size + 1) // 2
        self._left = self._size
        fill, begin, end = self._fill, self._begin, self._end
        self._begun = [fill(begin, (b'["%d"]' % (70000 + number),), self) for number in range(half)]
        for ticket in begun[:self._size - half]:
            fill(end, (b"%d" % ticket.seq, b'"ok"', b"1", b"14", b"0", b'""'), self)
        self._left -= (self._size - half) - len(begun[:self._size - half])
        await self._done


class Recording:
    """The same by ``record``."""

    def __init__(self, log: AuditLog, size: int) -> None:
        self._log, self._size = log, size
        self._begun: list[int] = []

    async def run(self) -> None:
        half, record = (self._size + 1) // 2, self._log.record
        fresh = [record("command.begin", {**BEGIN, "parameters": [str(70000 + number)]}) for number in range(half)]
        ends = [record("command.end", {**SESSION, "begin": seq, "status": "ok", "rows": 1, "bytes": 14, "masked": 0, "error": ""})
                for seq in self._begun[:self._size - half]]
        self._begun = list(await asyncio.gather(*fresh))
        await asyncio.gather(*ends)


WAYS: dict[str, Callable[[AuditLog, int], Filling | Recording]] = {"fill": Filling, "record": Recording}


async def measured(folder: Path, way: str, size: int, seconds: float, vfs: str | None) -> dict[str, float]:
    """Microseconds of CPU a record (all, the writer thread's, in the kernel), records a batch, batches a second."""
    log = AuditLog.open(folder, "bench", "bench", AuditConfig.model_validate({"reserve": "64KiB"}), Ed25519PrivateKey.generate(), vfs=vfs)
    thread = next(thread for thread in threading.enumerate() if thread.name == "audit-writer")
    clock = time.pthread_getcpuclockid(thread.ident or 0)
    turn = WAYS[way](log, size)
    for _ in range(50):
        await turn.run()
    rows = _rows(folder)
    before, started = _spent(clock), time.monotonic()
    turns = 0
    while time.monotonic() < started + seconds:
        await turn.run()
        turns += 1
    after, elapsed = _spent(clock), time.monotonic() - started
    count = turns * size
    every, writer, kernel = ((now - then) * 1e6 / count for now, then in zip(after, before, strict=True))
    result = {"us": every, "writer": writer, "kernel": kernel, "batch": count / max(1, _rows(folder) - rows), "syncs": turns / elapsed}
    await log.close()
    return result


def _spent(clock: int) -> tuple[float, float, float]:
    return time.process_time(), time.clock_gettime(clock), resource.getrusage(resource.RUSAGE_SELF).ru_stime


def _rows(folder: Path) -> int:
    connection = open_for_reading(log_files(folder / "audit")[-1], live=True)
    try:
        return int(str(connection.execute("SELECT count(*) FROM batch").fetchall()[0][0]))
    finally:
        connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build"), help="on the disk to be measured")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--batches", default="1,8,32,128")
    parser.add_argument("--way", default="fill,record")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slow-sync", type=float, default=0.0, help="seconds that each sync takes longer")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    print("way     batch   us/record  writer  kernel   records/row  batches/s")
    for way in args.way.split(","):
        for size in map(int, args.batches.split(",")):
            print(_line(args, way, size), flush=True)


def _line(args: argparse.Namespace, way: str, size: int) -> str:
    found = []
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory(dir=args.folder) as state, ExitStack() as stack:
            vfs = stack.enter_context(slow_syncs(args.slow_sync)) if args.slow_sync else None
            found.append(uvloop.run(measured(Path(state), way, size, args.seconds, vfs)))
    middle = {key: statistics.median(one[key] for one in found) for key in found[0]}
    return (f"{way:7} {size:5} {middle['us']:11.2f} {middle['writer']:7.2f} {middle['kernel']:7.2f} {middle['batch']:13.1f}"
            f" {middle['syncs']:10.0f}")


if __name__ == "__main__":
    main()
