# SPDX-License-Identifier: Apache-2.0
"""The only place that wires things together: from a configuration folder to a running gateway.

Order matters: the audit log opens first and closes last, so that whatever happens in between is recorded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.approvals.book import DeskLimits
from gateway.approvals.desk import ApprovalsDesk
from gateway.approvals.notify import Notifier
from gateway.audit.former import close_former
from gateway.audit.note import load_private_key
from gateway.break_glass.watch import Watch
from gateway.config.load import Folder
from gateway.console.server import ConsoleServer
from gateway.datapath import Change, DataPath, Seat, waiting_for_a_restart
from gateway.errors import AuditUnavailable, ConfigError
from gateway.identity.clock import keep_floor
from gateway.workers.crew import Crew

log = logging.getLogger("gateway")

KEEP_TIME_EVERY = 10.0
"""Seconds between two looks at the clock's floor on disk."""


class Gateway(DataPath):
    """One gateway on one folder. ``start()``, then ``stop()``; ``reload()`` in between. Made inside the event loop.

    With ``workers: N`` it is the first process: it has the console, and the listeners are its workers'.

    Raises ``ConfigError``, or ``GatewayFault`` when the audit log cannot be opened.
    """

    approvals: ApprovalsDesk

    def __init__(self, folder: Folder) -> None:
        super().__init__(folder, Seat.alone(folder))
        settings = folder.gateway
        self.notifier = Notifier(folder)
        self._watch = self._console_watch(folder)
        limits = settings.limits
        self.approvals = ApprovalsDesk(
            self.audit, self.now, lambda: self.policy, lambda view: self.notifier.tell(view), gateway=settings.name,
            revoked=lambda person: self.policy.untrusted(person, self.now()) is not None,
            limits=DeskLimits(total=limits.approvals_pending, per_identity=limits.approvals_pending_per_identity, held=limits.held))
        self._crew = Crew(self, settings.workers) if settings.workers > 1 else None
        self._console: ConsoleServer | None = None

    @property
    def break_glass(self) -> Mapping[str, int]:
        """What was seen of the break-glass console: open, begin, end, refused."""
        return self._watch.counts if self._watch is not None else {}

    @property
    def workers(self) -> Mapping[str, int]:
        """How many there should be, how many serve, and how many had to be replaced: configured, serving, replaced."""
        return self._crew.counts if self._crew is not None else {"configured": 1, "serving": int(self.ready), "replaced": 0}

    @property
    def not_ready(self) -> str:
        """Why it does not serve; empty where it does."""
        if not self.ready or not self.workers["serving"]:
            return "the gateway is starting or stopping"
        return "" if self.audit_available else "the audit log cannot be written"

    @property
    def audit_available(self) -> bool:
        """Whether records can be written now, by every worker."""
        return self.audit.available and (self._crew is None or self._crew.audit_available)

    def _console_watch(self, folder: Folder) -> Watch | None:
        place = folder.gateway.audit.console
        if place is None:
            return None
        return Watch(folder.resolve(place) / "audit", folder.state / "console.seen", folder.gateway.name, self.audit,
                     lambda event: self.notifier.tell(event), self.now)

    @property
    def address(self) -> dict[str, tuple[str, int]]:
        found = super().address | (self._crew.address if self._crew is not None else {})
        if self._console is not None:
            found["console"] = self._console.address
        return found

    async def start(self) -> None:
        """Record the start and open the listeners. Raises ``AuditUnavailable``, ``ConfigError`` or ``OSError``."""
        await self._record_start()
        await self._close_former()
        await self.notifier.start()
        for name, settings in self.folder.gateway.listeners.items():
            if name == "console":
                self._console = ConsoleServer(self, settings)
                await self._console.start()
            elif self._crew is None:
                await self._listen(name, settings)
        if self._crew is not None:
            await self._crew.start()
        self._background.start(self._keep_time(), "clock floor")
        if self._watch is not None:
            self._background.start(self._watch.run(), "console log")
        self.ready = True

    async def _close_former(self) -> None:
        settings = self.folder.gateway
        workers = settings.workers if settings.workers > 1 else 0
        key = load_private_key(self.folder.resolve(settings.audit.checkpoint.key))
        await close_former(self.folder.state, settings.name, settings.segment, workers, settings.audit, key, clock=self.now)

    async def _keep_time(self) -> None:
        """A clock set back revives nothing even after a crash: the floor is kept on disk while the gateway runs."""
        while True:
            try:
                await asyncio.to_thread(keep_floor, self._floor, self.clock.floor)
            except OSError as error:
                log.warning("the clock's floor could not be kept: %s", error.strerror)
            await asyncio.sleep(KEEP_TIME_EVERY)

    async def reload(self, path: Path | None = None) -> str | None:
        """Read the folder again. A good one reaches live sessions at their next operation; a bad one changes nothing.

        Gives what is wrong, or ``None``. Listeners, limits of the gateway and audit settings stay as at start; what a protocol's listener
        shows and believes in TLS is read again. All workers follow, or none.
        """
        try:
            change = self.prepare(path or self.folder.named)
            notifier = Notifier(change.folder)
            async with self._followed(change):
                await self.record_change(change)
                former, self.notifier = self.notifier, notifier
                await self.follow(change)
        except (ConfigError, AuditUnavailable) as problem:
            return await self._rejected(str(problem))
        await notifier.take_over(former)
        log.info("policy %s loaded", self.policy.digest)
        if keys := waiting_for_a_restart(self.started, self.folder.gateway):
            log.warning("gateway.yaml: %s: changed, and not in force until a restart", ", ".join(keys))
        return None

    def _put_in_force(self, change: Change) -> None:
        super()._put_in_force(change)
        self.approvals.policy_changed(change.policy.digest)

    @asynccontextmanager
    async def _followed(self, change: Change) -> AsyncIterator[None]:
        if self._crew is None:
            yield
            return
        async with self._crew.following(change):
            yield

    async def _rejected(self, why: str) -> str:
        log.error("reload refused, the old policy stays: %s", why)
        try:
            await self.audit.record("policy.rejected", {"policy": self.policy.digest, "reason": why})
        except AuditUnavailable:
            log.error("the audit log cannot be written; the refused reload is not recorded")
        return why

    async def stop(self, reason: str = "stopping") -> None:
        """Close the listeners, end sessions, record the end. Idempotent."""
        if self.ready:
            log.info("%s: no new connections, %d sessions may end their running command", reason, len(self.live))
        self.ready = False
        for one in self._listeners:
            one.server.stop_accepting()
        await self._background.close()
        await self.approvals.close()
        if self._crew is not None:
            await self._crew.stop(reason)
        await self._drain()
        if self._console is not None:
            await self._console.stop()
            self._console = None
        await self.notifier.stop()
        await self._last_record(reason)
        self._keep_floor()
        log.info("stopped")
