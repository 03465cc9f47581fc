# SPDX-License-Identifier: Apache-2.0
"""One worker: ``python -m gateway.workers.worker FD``, started by the first process with its end of the link as an open file.

It ends when the first process says so, or is gone: it cannot go on alone. Signals that reach all processes of the service (systemd's
SIGTERM, a terminal's SIGINT) are for the first one.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import uvloop

from gateway.config.load import Folder, load_folder
from gateway.datapath import Change, DataPath, Seat, calm_collector
from gateway.errors import AuditUnavailable, ConfigError, GatewayFault
from gateway.policy.policy import compile_policy
from gateway.protocols.postgres.cancelkeys import CancelKeys
from gateway.workers.link import Link
from gateway.workers.meter import Meter, SharedConnections, SharedRates
from gateway.workers.seat import SharedDesk, SharedSessions, Shown, forward_cancel

log = logging.getLogger("gateway")


class WorkerPath(DataPath):
    """The data path of one worker."""

    approvals: SharedDesk

    def __init__(self, folder: Folder, seat: Seat, link: Link) -> None:
        super().__init__(folder, seat)
        self.approvals = SharedDesk(link, self.audit)

    async def start(self, sockets: dict[str, list[socket.socket]]) -> None:
        await self._record_start()
        for name, mine in sockets.items():
            await self._listen(name, self.folder.gateway.listeners[name], mine)
        self.ready = True

    async def stop(self, reason: str, *, at_once: bool) -> None:
        self.ready = False
        await self._background.close()
        await self._drain(at_once=at_once)
        await self._last_record(reason)


class Worker:
    """The process's side of the conversation: what the first process may ask of it."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.why = "stopping"
        self._link: Link | None = None
        self._path: WorkerPath | None = None
        self._next: Change | None = None
        self._stopped: asyncio.Task[None] | None = None
        self._shown: Shown | None = None

    async def run(self, sock: socket.socket, limit: int) -> None:
        answers = {"begin": self.begin, "prepare": self.prepare, "commit": self.commit, "stop": self.stop, "cancel": self.cancel,
                   "notice": self.notice, "ping": self.ping}
        self._link = await Link.over(sock, answers, {
            "end": self.end, "abandon": self.abandon, "watch": self.watch, "unwatch": self.unwatch}, limit)
        reading = asyncio.get_running_loop().create_task(self._link.run())
        reading.add_done_callback(lambda _: self._lost())
        await self.over.wait()
        if self._shown is not None:
            await self._shown.close()
        if self._path is not None:
            await self._path.stop(self.why, at_once=self._link.lost.is_set())
        await self._link.close()
        await reading

    def _lost(self) -> None:
        if not self.over.is_set():
            self.why = "the gateway's first process is gone"
            self.over.set()

    @property
    def path(self) -> WorkerPath:
        if self._path is None:
            raise GatewayFault("this worker has not begun")
        return self._path

    # --- what the first process asks

    async def begin(self, about: Any) -> None:
        """Serve. Raises ``ConfigError`` where the folder is not the one that is in force there, or ``GatewayFault``."""
        folder = load_folder(Path(about["folder"]))
        if compile_policy(folder).digest != about["digest"]:
            raise ConfigError(f"{folder.path} was changed since it was loaded: reload the gateway")
        column, link = about["worker"] - 1, self._link
        assert link is not None
        meter = Meter(about["meter"], about["rows"], about["workers"])
        rates = SharedRates(folder.gateway.limits.operations_per_identity, meter, column)
        keys = CancelKeys(column, about["workers"], functools.partial(forward_cancel, link))
        seat = Seat(SharedSessions(link, rates), rates, SharedConnections(meter, column), keys, about["worker"])
        self._path = WorkerPath(folder, seat, link)
        sockets = {name: [socket.socket(fileno=fd) for fd in fds] for name, fds in about["sockets"].items()}
        await self._path.start(sockets)
        self._path.when_warm(calm_collector)

    async def prepare(self, about: Any) -> None:
        """See whether another folder can be followed. Raises ``ConfigError``."""
        change = self.path.prepare(Path(about["folder"]))
        if change.policy.digest != about["digest"]:
            raise ConfigError(f"{change.folder.path} was changed while it was read")
        self._next = change

    async def commit(self, _: Any) -> None:
        """Follow it. A worker that cannot record that is of no more use: it ends, and another begins with the new folder."""
        change, self._next = self._next, None
        if change is None:
            raise GatewayFault("nothing was prepared")
        try:
            await self.path.record_change(change)
        except AuditUnavailable:
            self.why = "the new policy could not be recorded"
            self.over.set()
            raise
        await self.path.follow(change)

    def abandon(self, _: Any) -> None:
        """Another worker cannot follow: neither does this one."""
        self._next = None

    async def stop(self, about: Any) -> None:
        """The answer is that the process ends."""
        self.why = str(about)
        self.over.set()
        await asyncio.get_running_loop().create_future()

    async def cancel(self, about: Any) -> None:
        """A CancelRequest that came to another worker."""
        self.path.keys.use(about["pid"], bytes.fromhex(about["secret"]))

    async def notice(self, about: Any) -> None:
        """Tell a caller that its command waits."""
        await self.path.approvals.notice(about)

    async def ping(self, _: Any) -> dict[str, str]:
        """Alive; and why records cannot be written, where they cannot."""
        return {"audit": self.path.audit.why_not}

    def end(self, about: Any) -> None:
        """End one session, as soon as it can be."""
        self.path.live.end(about["session"], about["reason"])

    def watch(self, about: Any) -> None:
        """Somebody watches one session."""
        if self._path is not None and self._link is not None:
            self._shown = self._shown or Shown(self._link, self._path.watching)
            self._shown.watch(about)

    def unwatch(self, about: Any) -> None:
        """Nobody does any more."""
        if self._shown is not None:
            self._shown.unwatch(about)


def main() -> None:
    """``FD LIMIT LEVEL``: the link, its longest frame in bytes, what goes to standard error."""
    fd, limit, level = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    logging.basicConfig(level=level, format=f"%(asctime)s %(levelname)s %(name)s[{os.getpid()}]: %(message)s")
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(socket.socket(fileno=fd), limit))


async def _main(sock: socket.socket, limit: int) -> None:
    await Worker().run(sock, limit)


if __name__ == "__main__":
    main()
