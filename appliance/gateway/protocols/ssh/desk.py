# SPDX-License-Identifier: Apache-2.0
"""How channels, forwards and file transfers ask: each operation passes ``govern()`` by itself, and what runs on is looked at again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from gateway.approvals.view import ApprovalView
from gateway.errors import Refused, SessionOver
from gateway.govern import Permit, end_fields, govern, refuse
from gateway.model import Binding, Command, Decision, Operation

if TYPE_CHECKING:
    from gateway.protocols.ssh.session import SshSession

Tell = Callable[[str], None]
LOOK_AGAIN = 1.0
"""Seconds for which an operation that runs on is not decided anew under one policy."""


class Running:
    """One operation that was let run. ``seq`` is that of its ``command.begin``."""

    def __init__(self, session: SshSession, command: Command, permit: Permit, seq: int) -> None:
        self.seq, self.decision, self.verb = seq, permit.decision, command.operations[0].verb
        self._session, self._command, self._permit = session, command, permit
        self._seen: object = session.gate.policy
        self._good_until = session.gate.now() + LOOK_AGAIN
        self.finished = False
        self.stop: Callable[[Refused], None] | None = None
        """Ends what runs, where it may not go on."""

    def finish(self, status: str = "ok", *, bytes: int = 0, masked: int = 0, error: str = "", recording: bytes | None = None,
               **fields: Any) -> asyncio.Future[int] | None:
        """The ``command.end`` record, once."""
        if self.finished:
            return None
        self.finished = True
        session = self._session
        session.running.discard(self)
        session.touch()
        known = {name: session.hidden(value) if isinstance(value, str) else value for name, value in fields.items()}
        about = end_fields(session.session, session.gate.policy, self.seq, status, size=bytes, masked=masked, error=error) | known
        return session.gate.audit.record("command.end", about, recording)

    def still(self) -> None:
        """Raises ``Refused`` or ``SessionOver`` where it may not go on. What an approval let begin goes on under another policy, as long as
        that one's rules would let it be approved."""
        session = self._session
        if session.over:
            raise SessionOver("the session is over")
        gate = session.gate
        now = gate.now()
        if gate.policy is self._seen and now < self._good_until:
            return
        if reason := gate.policy.ended(session.session, now):
            raise SessionOver(reason)
        decision = gate.policy.decide(session.session.identity, session.session.resource, self._command.operations, now)
        if decision.effect == "deny" or (decision.effect == "approve" and self._permit.approval is None):
            raise Refused(decision.reason or "the policy changed since this was decided")
        self._seen, self._good_until = gate.policy, now + LOOK_AGAIN


class Desk(Protocol):
    """What file transfers ask of the session they run in."""

    async def run(self, operations: tuple[Operation, ...], text: str, *, shown: str = "", wait: bool = True) -> Running:
        """Decide, wait for an approval, record. Raises ``Refused`` (recorded already), ``SessionOver`` or ``AuditUnavailable``."""

    def still(self, running: Running) -> None:
        """Before each further use: raises ``Refused`` or ``SessionOver``."""

    def masker(self) -> Any:
        """A masker for one stream; ``None`` where nothing is masked."""

    def event(self, kind: str, fields: Mapping[str, Any], recording: bytes | None = None) -> asyncio.Future[int]:
        """One record of this session."""

    async def ended(self) -> None:
        """Until the session is over."""


class SessionDesk:
    """The desk as one channel sees it: ``tell`` gives its caller a line, ``context`` is what an approval is bound to besides."""

    def __init__(self, session: SshSession, tell: Tell, *, wait: bool = True, context: Mapping[str, str] | None = None) -> None:
        self._session, self._tell, self._wait, self._context = session, tell, wait, dict(context or {})

    async def run(self, operations: tuple[Operation, ...], text: str, *, shown: str = "", wait: bool = True) -> Running:
        session, gate = self._session, self._session.gate
        session.check()
        command = self._command(operations, text, shown, wait and self._wait)
        with session.waiting(command.shown_text, self._tell):
            try:
                permit = await govern(gate, session.session, command)
                seq = await permit.recorded
            except Refused as no:
                session.refused(no)
                raise
        running = Running(session, command, permit, seq)
        session.running.add(running)
        if session.over:
            running.finish("cancelled", error="session over")
            raise SessionOver("the session is over")
        session.touch()
        return running

    async def refuse(self, operations: tuple[Operation, ...], text: str, reason: str) -> None:
        """What cannot run whatever the rules say. Raises ``Refused`` once that is recorded."""
        session = self._session
        session.check()
        try:
            await refuse(session.gate, session.session, self._command(operations, text, "", False), Decision("deny", reason=reason))
        except Refused as no:
            session.refused(no)
            raise

    def _command(self, operations: tuple[Operation, ...], text: str, shown: str, wait: bool) -> Command:
        said = printable(text)
        named = tuple(replace(one, objects=tuple(map(self._session.hidden, one.objects))) for one in operations)
        return Command(named, said, self._session.hidden(printable(shown) or said), wait=wait, apart=True,
                       binding=Binding(login=self._session.session.login, context=self._context | {"action": operations[0].verb},
                                       objects=tuple(map(bound, operations))))

    def allowed(self, operations: tuple[Operation, ...]) -> bool:
        """Whether policy has anything against it, without running it."""
        session, gate = self._session.session, self._session.gate
        return gate.policy.decide(session.identity, session.resource, operations, gate.now()).effect != "deny"

    def still(self, running: Running) -> None:
        running.still()

    def masker(self) -> Any:
        return self._session.masker()

    def event(self, kind: str, fields: Mapping[str, Any], recording: bytes | None = None) -> asyncio.Future[int]:
        return self._session.record(kind, fields, recording)

    async def ended(self) -> None:
        await self._session.ended()


def bound(operation: Operation) -> str:
    """What an approval is for beside the text: the action and what it is on, where links lead included; with everything below, if so."""
    path = operation.attributes.get("path")
    on = (path,) if isinstance(path, str) else operation.objects
    return json.dumps([operation.verb, *map(str, on), *(["tree"] if operation.attributes.get("tree") else [])])


def printable(text: str) -> str:
    """Text that can be kept: bytes that are no UTF-8 are spelled out."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def notice(view: ApprovalView) -> str:
    """What a caller that waits is told."""
    return view.notice().replace("held for approval", "held: approval", 1)
