# SPDX-License-Identifier: Apache-2.0
"""A worker's end: live sessions, approvals and cancel keys as its sessions see them, asked of the first process where they concern all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from gateway.approvals.view import ApprovalView
from gateway.errors import AuditUnavailable, GatewayFault, Refused
from gateway.govern import Approval, AuditLog, Digested, Fields
from gateway.live import Caps, End, LiveSessions
from gateway.model import Command, Decision, Session
from gateway.net.server import Supervisor
from gateway.recording.live import Hub, Watcher
from gateway.workers.documents import CAPS, COMMAND, DECISION, SESSION, VIEW, rows_written
from gateway.workers.link import Link, LinkLost, TooLong
from gateway.workers.meter import SharedRates

Told = Callable[[ApprovalView], Awaitable[None]]


class SharedSessions(LiveSessions):
    """The sessions of this worker. Whether one more may begin is said where all are counted."""

    def __init__(self, link: Link, rates: SharedRates) -> None:
        super().__init__()
        self._link, self._rates = link, rates

    async def enter(self, session: Session, caps: Caps, end: End) -> None:
        self.add(session, end)
        try:
            row = await self._link.call("enter", {"session": SESSION.write(session), "caps": CAPS.write(caps)})
        except BaseException:
            self.remove(session.id)
            raise
        self._rates.count_in(session.identity.name, row)

    def remove(self, session_id: str) -> None:
        if session_id in self._open:
            super().remove(session_id)
            self._link.tell("leave", session_id)


@dataclass(frozen=True, slots=True)
class Granted:
    """An approval that was given, reserved for one command of a session of this worker."""

    id: str


class SharedDesk:
    """Implements ``govern.Approvals``: the desk is in the first process, and its records are in that one's log.

    An approval is used up there, on disk, before the command's ``command.begin`` is asked for here: what fails in between loses the
    approval and runs nothing.
    """

    def __init__(self, link: Link, audit: AuditLog) -> None:
        self._link, self._audit = link, audit
        self._told: dict[str, Told] = {}

    async def obtain(self, session: Session, command: Command, decision: Decision, policy: Digested) -> Approval:
        about = {"session": session.id, "command": COMMAND.write(command), "decision": DECISION.write(decision), "policy": policy.digest}
        try:
            return Granted(str(await self._asked("obtain", about)))
        except TooLong:
            raise Refused("the command is too long to be held for approval", "denied") from None

    async def use(self, approval: Approval, begin: Fields) -> int:
        await self._asked("use", {"approval": approval.id, "session": begin["session"]})
        return await self._audit.record("command.begin", begin)

    async def _asked(self, name: str, about: Any) -> Any:
        """Without the first process nothing can be approved, and nothing that it should know of be recorded."""
        try:
            return await self._link.call(name, about)
        except LinkLost as lost:
            raise AuditUnavailable(str(lost)) from None

    def listen(self, session_id: str, told: Told) -> None:
        self._told[session_id] = told

    def unlisten(self, session_id: str) -> None:
        self._told.pop(session_id, None)

    def withdraw_session(self, session_id: str, reason: str) -> None:
        self._link.tell("withdraw", {"session": session_id, "reason": reason})

    async def notice(self, about: Any) -> None:
        """One of this worker's sessions waits: its caller is told."""
        view = VIEW.read(about)
        if (told := self._told.get(view.session)) is not None:
            await told(view)


class Shown:
    """Sessions of this worker that somebody watches at the first process. One call at a time: what it does not take in time is dropped."""

    def __init__(self, link: Link, hub: Hub) -> None:
        self._link, self._hub = link, hub
        self._tasks = Supervisor()
        self._watched: dict[str, Watcher] = {}

    def watch(self, about: Any) -> None:
        session = str(about)
        if session not in self._watched:
            self._watched[session] = watcher = self._hub.watch(session)
            self._tasks.start(self._pass_on(watcher), "watched session")

    def unwatch(self, about: Any) -> None:
        if (watcher := self._watched.pop(str(about), None)) is not None:
            self._hub.leave(watcher)

    async def _pass_on(self, watcher: Watcher) -> None:
        try:
            while self._watched.get(watcher.session) is watcher:
                rows = await watcher.take(1.0)
                if watcher.dropped:
                    await self._link.call("shown", {"session": watcher.session, "rows": None})
                    return
                for first in range(0, len(rows), _AT_ONCE):
                    await self._link.call("shown", {"session": watcher.session, "rows": rows_written(rows[first:first + _AT_ONCE])})
        except GatewayFault:
            return                      # too long to be passed on, or the first process is gone
        finally:
            self.unwatch(watcher.session)

    async def close(self) -> None:
        await self._tasks.close()


_AT_ONCE = 8
"""Events in one call: each is as long as a packet, at most."""


async def forward_cancel(link: Link, worker: int, pid: int, secret: bytes) -> None:
    """A CancelRequest for a session of another worker (from 0). Lost when that worker is: so is the session."""
    try:
        await link.call("cancel", {"worker": worker, "pid": pid, "secret": secret.hex()})
    except GatewayFault:
        return
