# SPDX-License-Identifier: Apache-2.0
"""One caller's session: both legs, the two loops that move messages, and every way it can end.

``frontend.py`` decides what the caller sends, ``backend.py`` masks what the target answers; this module owns the sockets, the
clock and the ending. Both loops run in one TaskGroup, so nothing outlives the session.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from gateway.config.schema import Limits
from gateway.errors import TargetFault
from gateway.govern import Gate, Policy, session_fields
from gateway.model import Session, SessionLimits
from gateway.net.stream import ByteStream
from gateway.protocols.postgres import messages
from gateway.protocols.postgres.backend import Backend
from gateway.protocols.postgres.catalog.load import CONTEXT_SQL, Row, one_of_all
from gateway.protocols.postgres.commands import Commands
from gateway.protocols.postgres.context import SessionContext
from gateway.protocols.postgres.ending import Ended, ended_by, fatal
from gateway.protocols.postgres.expect import Pending
from gateway.protocols.postgres.frontend import Frontend
from gateway.protocols.postgres.lane import Lane
from gateway.protocols.postgres.lanerun import Totals
from gateway.protocols.postgres.recorder import BYTES
from gateway.protocols.postgres.rounds import rounds
from gateway.protocols.postgres.target import TargetConnection
from gateway.protocols.postgres.targets import SharedTarget

log = logging.getLogger("gateway.postgres")

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
        client.settle()
        target.stream.settle()
        self.status = "I"
        self.held = self.deciding = self.withdrawn = False
        self.context = SessionContext(session, gate, shared, self._ask, lambda: self.status == "T", secrets, limits.statement_text)
        self.frontend = Frontend(self)
        self.backend = Backend(self)
        self.lane = Lane(self)
        self.commands = Commands(self)
        self._group: asyncio.TaskGroup | None = None      # of the loops, while they run
        self._ended: Ended | None = None
        self._welcome = b""
        self._asked: tuple[str, str] | None = None         # to end, before it began
        self.draining = ""
        self.left_clean = False
        """The caller said goodbye, and nothing of the session is left on the target but what DISCARD ALL takes away."""
        self.keep: Callable[[], None] | None = None       # has the target's connection then, in place of closing it
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
        if self._group is None:
            self._asked = self._asked or (reason, code)
        else:
            self._conclude(Ended(reason, fatal(code, f"session ended: {reason}")))

    def _conclude(self, ended: Ended) -> None:
        """End the loops: by a task that raises, so that one need not wait for it all along."""
        if self._group is None or self._ended is not None:
            return
        self._ended = ended
        ending = _raised(ended)
        try:
            self._group.create_task(ending)
        except RuntimeError:            # they end already
            ending.close()

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
        return self._group is None or self._ended is not None

    def cancel(self) -> None:
        """The caller's CancelRequest: withdraw what is held, else cancel on the target."""
        if self.held:
            self.gate.approvals.withdraw_session(self.session.id, "cancelled by the caller")
            return
        self.withdrawn = self.deciding          # it may become a held command: then it is withdrawn at once
        if self.pending or self.lane.sent:
            self.commands.cancel_target()

    async def begin(self, row: Row | None = None) -> Row | None:
        """Ask the target what names mean in this session, unless it was asked, before the caller says anything: its first statement finds
        it known. Where that fails nothing is known yet, and the first statement asks."""
        if row is None:
            with contextlib.suppress(TargetFault):
                row = next(iter(await self.target.query(CONTEXT_SQL, max_rows=1)), None)
        if row is not None:
            row = one_of_all(row)
            self.context.begin(row)
        return row

    def clean(self) -> bool:
        """Everything that was sent has been answered to the last byte, no transaction is open, and no CancelRequest is on its way to hit
        who comes next."""
        return (self.status == "I" and not self.over and not self.held and not self.deciding and not self.pending
                and not self.pending.skipping and not self.lane.busy and not self.commands.cancelled and self.frontend.settled()
                and self.backend.resting() and not self.target.stream.ended)

    async def run(self, welcome: bytes = b"") -> str:
        """Move messages until something ends the session; tell the caller, record why. ``welcome`` is what the caller is told once it may
        speak."""
        self.totals.active = asyncio.get_running_loop().time()
        self.client.tap, self.target.stream.tap = self.lane.from_caller, self.lane.from_target
        self.client.when_gone = self._gone_while_held
        self._welcome, welcome = welcome, b""
        ended = await self._until_ended()
        await self._say_goodbye(ended)
        return ended.reason

    async def _until_ended(self) -> Ended:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                if self._asked is not None:
                    self.end(*self._asked)
                self.look()
                rounds().join(self)
                group.create_task(self.backend.run())
                await asyncio.sleep(0)                   # the loops wait before the caller can answer
                self.client.write(self._welcome)
                self._welcome = b""
                await self.frontend.run()
        except BaseExceptionGroup as problems:
            return ended_by(problems)
        finally:
            self._group = None
            rounds().leave(self)
        return Ended("closed by the caller")

    def look(self) -> None:
        """Once a second: what may end a session while no command passes."""
        self._limits = None
        try:
            self.lane.look()
            ended = self._found_over()
        except Exception as error:
            log.error("session failed: %s", type(error).__name__)
            self.end("internal error of the gateway", "XX000")
            return
        if ended is not None:
            self._conclude(ended)

    def _found_over(self) -> Ended | None:
        """Policy, windows, length, idle time, a silent caller."""
        limits = self.limits
        if reason := self.gate.policy.ended(self.session, self.gate.now()):
            return Ended(reason, fatal("57P01", f"session ended: {reason}"))
        quiet = asyncio.get_running_loop().time() - self.totals.active
        if limits.idle is not None and not self.pending and not self.lane.busy and not self.held and quiet >= limits.idle:
            return Ended("idle", fatal("57P05", f"session ended: idle for {limits.idle:g} s"))
        if self.client.has_gone() and not self.frontend.leaving:
            if not self.held:
                return Ended("the caller disconnected")
            self._gone_while_held()
        return None

    def _gone_while_held(self) -> None:
        if self.held:
            self.gate.approvals.withdraw_session(self.session.id, "the caller disconnected")

    async def _say_goodbye(self, ended: Ended) -> None:
        self.gate.approvals.withdraw_session(self.session.id, ended.reason)
        self.backend.abandon(ended.reason)
        self.client.tap = self.target.stream.tap = self.client.when_gone = None
        await self.backend.deliver_last()
        if ended.fields is not None and not self.client.gone.is_set() and not self.backend.inside_message():
            self.client.write(messages.ErrorResponse(ended.fields).encode())
        await self.commands.close()
        if self.left_clean and self.keep is not None:
            self.keep()
        else:
            await self.target.close()
        self.client.close()

    async def _ask(self, sql: str) -> list[tuple[str | None, ...]]:
        return await self.frontend.ask(sql)

    def record_end(self, reason: str) -> asyncio.Future[int]:
        """The ``session.end`` record."""
        fields = session_fields(self.session, self.gate.policy)
        fields.update(reason=reason, rows=self.totals.rows, bytes=self.totals.bytes, denials=self.totals.denials)
        return self.gate.audit.record("session.end", fields)


async def _raised(ended: Ended) -> None:
    raise ended
