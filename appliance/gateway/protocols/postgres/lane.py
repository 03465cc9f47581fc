# SPDX-License-Identifier: Apache-2.0
"""The lane: what a session says again and again goes straight through, a whole group of messages and a whole answer at a time.

It stands in front of ``Frontend`` and ``Backend`` and takes a chunk only while the session is at rest (``Relay.resting``) and only where
nothing is left to find out: the statement is understood, permitted without approval or bounds, and understood under the same policy,
catalog and settings as now. Everything that decides is asked again each time: whether the session has ended, the decision, the rate.
An operation of the lane is all or nothing:

- Until something was given to the target it can be left as if it had never been: the caller's bytes go to ``Frontend``.
- Until something was given to the caller it can be handed over: ``Frontend.adopt`` puts the session into the state in which it would be
  had it sent the group itself and seen nothing of the answer, and the answer's bytes go to ``Backend`` untouched.
- Only an answer that is whole, of the expected shape, verified, masked and recorded is given to the caller, at once.

So the lane never has half of anything, and whatever it does not know happens where it always did. docs/decisions/0019.

What is done each time is ``lanerun.Run``, compiled where it can be; here is what is not: to learn, to ask anew, to hand over, to give up.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from gateway.audit.template import Ticket
from gateway.errors import AuditUnavailable
from gateway.govern import Permit
from gateway.protocols.postgres import laneentry
from gateway.protocols.postgres.expect import Running
from gateway.protocols.postgres.laneentry import affected, bound_command, keep, learn, recording
from gateway.protocols.postgres.lanerun import ANSWERED, HELD, IDLE, SENT, Entry, Run
from gateway.protocols.postgres.lanewire import ROWS
from gateway.protocols.postgres.names import Portal

log = logging.getLogger("gateway.postgres")

ENTRIES = 64
"""Groups remembered per session."""


class Lane(Run):
    """The lane of one ``Relay``."""

    __slots__ = ()

    def stand(self, policy: Any, now: float) -> None:
        relay = self.relay
        limits, ended = relay.limits, policy.ended(relay.session, now)
        self.over = ended is not None or limits.rows is not None or limits.bytes is not None
        self.policy, self.since, self.until = policy, now, now if self.over else policy.settled(relay.session, now)
        self.stood += 1

    def renew(self, policy: Any, seen: tuple[Any, Any]) -> None:
        self.known = (policy, *seen)
        self.detectors = self.relay.context.masks().detectors
        self.drop()
        self.once.clear()

    def learned(self, key: bytes, data: bytes, now: float) -> Entry | None:
        """Decided now, and kept from its second time on: a text with literals of its own may never come again."""
        entry = learn(self.relay, data, now)
        if entry is None:
            return None
        entry.stood = self.stood
        mark = hash(key)
        if mark not in self.once:
            if len(self.once) >= ENTRIES:
                self.once.clear()
            self.once[mark] = None
            return entry
        if len(self.entries) >= ENTRIES:
            del self.entries[next(iter(self.entries))]
        keep(self.relay, entry)
        self.entries[key] = entry
        return entry

    def decided(self, entry: Entry, now: float) -> bool:
        session = self.relay.session
        decision = self.policy.decide(session.identity, session.resource, entry.command.operations, now)
        if decision is not entry.decision and decision != entry.decision:
            self.drop()
            return False
        entry.stood = self.stood
        return True

    def shown(self, entry: Entry, data: bytes) -> bytes:
        return laneentry.shown(self.relay, entry, data)

    def verify(self, entry: Entry, payload: bytes) -> None:
        laneentry.verify(self.relay, entry, payload)

    def tagged(self, tag: bytes) -> int:
        return affected(tag)

    def recorded(self, entry: Entry, rows: bytes) -> bytes | None:
        return recording(self.relay, entry, rows)

    def look(self) -> None:
        """Once a second: an answer that began and does not go on passes as it comes."""
        if self.state == SENT and self.raw:
            if self.looked is self.raw:
                self.hand_over()
            else:
                self.looked = self.raw

    def durable_late(self, ticket: Ticket) -> None:
        if ticket is self.ticket:
            self._failed()
        elif (promised := self.promised.pop(ticket, None)) is not None:
            _keep(promised, ticket)

    def broken(self, error: Exception) -> None:
        log.error("session failed: %s", type(error).__name__)
        self.relay.end("internal error of the gateway", "XX000")

    def _failed(self) -> None:
        """No record: what was not sent is told by the frontend, what was sent ends in the backend; both would anyway."""
        if self.state != HELD:
            self.hand_over()
            return
        asked, self.state, self.open = self.asked, IDLE, False
        self.forget()
        self.relay.client.given(asked)

    # handing over

    def hand_over(self) -> None:
        entry, ticket, asked, raw, sent = self.entry, self.ticket, self.asked, self.raw, self.state != HELD
        if entry is None or ticket is None:
            return
        self.settle()
        self.state, self.open = IDLE, False
        self.forget()
        self.relay.frontend.adopt(entry, self._running(entry, ticket), bound_command(self.relay, entry, asked), asked, sent=sent)
        if raw:
            self.relay.target.stream.given(raw)

    def _running(self, entry: Entry, ticket: Ticket) -> Running:
        recorded = asyncio.get_running_loop().create_future()
        if ticket.seq or ticket.failed:
            _keep(recorded, ticket)
        else:
            self.promised[ticket] = recorded
        permit = Permit(entry.decision, recorded, entry.early, self.known[0].digest)
        return Running(permit, entry.compiled.statements, sample=self.relay.frontend.sample())

    def give_up(self) -> None:
        """The session ends: what was not sent is withdrawn, what was answered is delivered once it is recorded, the rest is handed over."""
        if self.state == SENT:
            self.hand_over()
        entry, ticket = self.entry, self.ticket
        if entry is None or ticket is None:
            return
        running, state = self._running(entry, ticket), self.state
        if state == ANSWERED:
            running.rows, running.affected, running.size, running.masked = self.count, self.affected, len(self.rows), self.masked
            if running.sample is not None and entry.shape & ROWS:
                if entry.fields:
                    running.sample.columns(entry.fields)
                running.sample.rows(self.rows)
            self.relay.backend.answered(running, self.out)
        else:
            self.relay.commands.finish(running, "withdrawn", {})
        self.state, self.open = IDLE, False
        self.forget()

    def settle(self) -> None:
        """A transaction keeps it until its end, and it may be run once more."""
        entry, asked = self.last, self.last_asked
        if entry is None:
            return
        self.last, self.last_asked = None, b""
        recorded = asyncio.get_running_loop().create_future()
        recorded.set_result(0)
        permit = Permit(entry.decision, recorded, entry.early, self.known[0].digest)
        running = Running(permit, entry.compiled.statements, finished=True, executed=True)
        command = bound_command(self.relay, entry, asked)
        self.relay.frontend.names.kept("", Portal(entry.compiled, command, running, entry.results, 0, described=entry.describes))


def _keep(recorded: asyncio.Future[int], ticket: Ticket) -> None:
    if recorded.done():
        return
    if ticket.failed:
        recorded.set_exception(AuditUnavailable(ticket.problem))
        recorded.exception()
    else:
        recorded.set_result(ticket.seq)
