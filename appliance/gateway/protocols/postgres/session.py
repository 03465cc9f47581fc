# SPDX-License-Identifier: Apache-2.0
"""One caller's session: both legs, the two loops that move messages, and every way it can end.

``frontend.py`` decides what the caller sends, ``backend.py`` masks what the target answers; this module owns the sockets, the
clock and the ending. Both loops run in one TaskGroup, so nothing outlives the session.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from gateway.config.schema import Limits
from gateway.govern import Gate, Policy, session_fields
from gateway.model import Session, SessionLimits
from gateway.net.stream import ByteStream
from gateway.protocols.postgres import messages
from gateway.protocols.postgres.backend import Backend
from gateway.protocols.postgres.commands import Commands
from gateway.protocols.postgres.context import SessionContext
from gateway.protocols.postgres.ending import Ended, ended_by, fatal
from gateway.protocols.postgres.expect import Pending
from gateway.protocols.postgres.frontend import Frontend
from gateway.protocols.postgres.lane import Lane
from gateway.protocols.postgres.recorder import BYTES
from gateway.protocols.postgres.target import TargetConnection
from gateway.protocols.postgres.targets import SharedTarget

LOOK_EVERY = 1.0
"""Seconds between looks at what may end an idle or long-running session."""


@dataclass(slots=True)
class Totals:
    """Counted per session, as sent to the caller."""

    rows: int = 0
    bytes: int = 0
    denials: int = 0
    active: float = 0.0      # loop time of the last command activity


class Relay:
    """The session. ``run()`` returns the reason it ended; it never raises for what a peer or the policy did."""

    lanes = True
    """Whether sessions have a lane. Without one everything takes the long way."""

    def __init__(self, session: Session, gate: Gate, client: ByteStream, target: TargetConnection, shared: SharedTarget,
                 secrets: tuple[str, ...], wait: bool, limits: Limits, sample: int = BYTES) -> None:
        self.session, self.gate, self.client, self.target = session, gate, client, target
        self.pending = Pending()
        self.totals = Totals()
        self.wait = wait
        self.secrets = secrets
        self.message_limit, self.names_limit, self.sample_bytes = limits.message, limits.statements, sample
        client.bound(limits.buffer)
        target.stream.bound(limits.buffer)
        self.status = "I"
        self.held = self.deciding = self.withdrawn = False
        self.context = SessionContext(session, gate, shared, self._ask, lambda: self.status == "T", secrets, limits.statement_text)
        self.frontend = Frontend(self)
        self.backend = Backend(self)
        self.lane = Lane(self)
        self.commands = Commands(self)
        self._over: asyncio.Future[Ended] | None = None
        self._asked: tuple[str, str] | None = None         # to end, before it began
        self.draining = ""
        self._limits: tuple[Policy, SessionLimits] | None = None

    @property
    def limits(self) -> SessionLimits:
        """The bounds that hold now; asked of the policy once per policy and once per look of the watch."""
        if self._limits is None or self._limits[0] is not self.gate.policy:
            self._limits = (self.gate.policy, self._ask_limits())
        return self._limits[1]

    def _ask_limits(self) -> SessionLimits:
        return self.gate.policy.session_limits(self.session.identity, self.session.resource, self.gate.now())

    def end(self, reason: str, code: str = "57P01") -> None:
        """Ask the session to end; safe to call from anywhere on the loop, more than once."""
        self.lane.open = False
        if self._over is None:
            self._asked = self._asked or (reason, code)
        elif not self._over.done():
            self._over.set_result(Ended(reason, fatal(code, f"session ended: {reason}")))

    def drain(self, reason: str) -> None:
        """Ask the session to end once the command that is running has ended; at once where none is."""
        self.draining = reason
        self.rested()

    def rested(self) -> None:
        """A loop has done what there was to do; maybe everything sent has been answered."""
        if self.draining and not self.backend.busy() and not self.deciding:
            self.end(self.draining)
        self.lane.open = self.lanes and self._resting()

    def _resting(self) -> bool:
        """Everything that came has been answered to the last byte, and nothing is under way: the lane may take the next message."""
        return (not self.over and not self.draining and self.status in ("I", "T")
                and not self.held and not self.deciding and not self.pending and not self.pending.skipping
                and self.frontend.resting() and self.backend.resting())

    @property
    def over(self) -> bool:
        """It has been asked to end."""
        return self._over is None or self._over.done()

    def cancel(self) -> None:
        """The caller's CancelRequest: withdraw what is held, else cancel on the target."""
        if self.held:
            self.gate.approvals.withdraw_session(self.session.id, "cancelled by the caller")
            return
        self.withdrawn = self.deciding          # it may become a held command: then it is withdrawn at once
        if self.pending or self.lane.sent:
            self.commands.cancel_target()

    async def run(self) -> str:
        """Move messages until something ends the session; tell the caller, record why."""
        loop = asyncio.get_running_loop()
        self._over = loop.create_future()
        self.totals.active = loop.time()
        self.client.tap, self.target.stream.tap = self.lane.from_caller, self.lane.from_target
        if self._asked is not None:
            self.end(*self._asked)
        ended = await self._until_ended()
        await self._say_goodbye(ended)
        return ended.reason

    async def _until_ended(self) -> Ended:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.frontend.run())
                group.create_task(self.backend.run())
                group.create_task(self._watch())
                group.create_task(self._asked_to_end())
        except BaseExceptionGroup as problems:
            return ended_by(problems)
        return Ended("closed by the caller")

    async def _asked_to_end(self) -> None:
        if self._over is not None:
            raise await self._over

    async def _watch(self) -> None:
        """What may end a session while no command passes: policy, windows, length, idle time, a silent caller."""
        loop = asyncio.get_running_loop()
        while True:
            self._limits = None
            limits = self.limits
            if reason := self.gate.policy.ended(self.session, self.gate.now()):
                raise Ended(reason, fatal("57P01", f"session ended: {reason}"))
            quiet = loop.time() - self.totals.active
            if limits.idle is not None and not self.pending and not self.lane.busy and not self.held and quiet >= limits.idle:
                raise Ended("idle", fatal("57P05", f"session ended: idle for {limits.idle:g} s"))
            if self.client.gone.is_set() and not self.frontend.leaving:
                if not self.held:
                    raise Ended("the caller disconnected")
                self.gate.approvals.withdraw_session(self.session.id, "the caller disconnected")
            await self._a_moment()

    async def _a_moment(self) -> None:
        """A second; less when a caller whose command is held goes away meanwhile."""
        if not self.held or self.client.gone.is_set():
            await asyncio.sleep(LOOK_EVERY)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY):       # wait_for may swallow a cancellation before Python 3.12
                await self.client.until_gone()

    async def _say_goodbye(self, ended: Ended) -> None:
        self.gate.approvals.withdraw_session(self.session.id, ended.reason)
        self.backend.abandon(ended.reason)
        self.client.tap = self.target.stream.tap = None
        await self.backend.deliver_last()
        if ended.fields is not None and not self.client.gone.is_set() and not self.backend.inside_message():
            self.client.write(messages.ErrorResponse(ended.fields).encode())
        await self.commands.close()
        await self.target.close()
        self.client.close()

    async def _ask(self, sql: str) -> list[tuple[str | None, ...]]:
        return await self.frontend.ask(sql)

    def record_end(self, reason: str) -> asyncio.Future[int]:
        """The ``session.end`` record."""
        fields = session_fields(self.session, self.gate.policy)
        fields.update(reason=reason, rows=self.totals.rows, bytes=self.totals.bytes, denials=self.totals.denials)
        return self.gate.audit.record("session.end", fields)
