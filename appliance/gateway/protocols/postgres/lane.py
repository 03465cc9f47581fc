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
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from gateway.audit.template import Ticket
from gateway.errors import AuditUnavailable, Fault
from gateway.govern import Permit
from gateway.protocols.postgres.expect import Running
from gateway.protocols.postgres.laneentry import Entry, affected, bound_command, keep, learn, recording, shown, verify
from gateway.protocols.postgres.lanerecords import Records
from gateway.protocols.postgres.lanewire import BIND, DESCRIBE, MORE, ROWS, answer, plain, sample, split
from gateway.protocols.postgres.masking import mask_rows
from gateway.protocols.postgres.names import Portal
from gateway.protocols.postgres.recorder import ROWS as SAMPLE_ROWS
from gateway.protocols.postgres.recorder import VALUE

if TYPE_CHECKING:
    from gateway.masking.detect import Detectors
    from gateway.protocols.postgres.messages import Field
    from gateway.protocols.postgres.session import Relay

log = logging.getLogger("gateway.postgres")

CHUNK = 16 * 1024
"""The longest group of messages taken, in bytes."""
ANSWER = 32 * 1024
"""The longest answer; a longer one passes as it comes."""
ENTRIES = 64
"""Groups remembered per session."""
SECRET = 6
"""No secret that is concealed is shorter (``scrub.conceal``)."""


class State(Enum):
    """Of the one operation under way: there is none · its record has to be on disk first · the target has it · it is answered, and its
    record not yet on disk."""

    IDLE = 0
    HELD = 1
    SENT = 2
    ANSWERED = 3


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """What the policy said of the session at ``since``, and says until ``until``; ``over``: the lane is not for it."""

    policy: Any
    since: float
    until: float
    over: bool


class Lane:
    """The lane of one ``Relay``. ``open``: the session is at rest, the next chunk may be taken."""

    __slots__ = ("_affected", "_after", "_asked", "_chunk", "_count", "_detectors", "_entries", "_entry", "_known", "_last", "_longest",
                 "_looked", "_masked", "_once", "_out", "_promised", "_raw", "_recording", "_rows", "_secrets", "_standing", "_status",
                 "_ticket", "_time", "head", "open", "records", "relay", "state", "taken")

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.records = Records(relay)
        self.open = False
        self.state = State.IDLE
        self.taken = 0                                   # operations that went through to their end
        self._chunk = min(CHUNK, relay.message_limit)
        self._longest = min(ANSWER, relay.message_limit)
        self.head: tuple[tuple[Field, ...], bytes | None] = ((), None)      # what a recording begins with, of the last description
        self._secrets = tuple(one.encode() for one in relay.secrets if len(one) >= SECRET)
        self._entries: dict[bytes, Entry] = {}
        self._once: dict[int, None] = {}
        self._time = asyncio.get_running_loop().time
        self._standing = Standing(None, 0.0, 0.0, over=True)
        self._detectors: Detectors | None = None
        self._known: tuple[Any, Any, Any] = (None, None, None)    # policy, context and catalog: what all entries depend on
        self._last: tuple[Entry, bytes] | None = None    # whose portal is the unnamed one, in a transaction
        self._promised: dict[Ticket, asyncio.Future[int]] = {}
        self._after = 0                                  # where Bind ends in what was asked
        self._count = self._masked = self._affected = self._status = 0
        self._forget()

    def _forget(self) -> None:
        """Nothing is under way. Of the last operation only what is set anew with the next is left."""
        self._entry: Entry | None = None
        self._ticket: Ticket | None = None
        self._asked = self._raw = self._out = self._rows = self._looked = b""
        self._recording: bytes | None = None

    @property
    def busy(self) -> bool:
        """An operation is under way."""
        return self.state is not State.IDLE

    @property
    def sent(self) -> bool:
        """The target works on it."""
        return self.state is State.SENT

    # the caller

    def from_caller(self, data: bytes) -> bool:
        """A chunk of the caller's: True when the lane took it."""
        if self.state is not State.IDLE:
            self.hand_over()
        elif self.open and self._begin(data):
            return True
        self.open = False
        self._settle()
        return False

    def _begin(self, data: bytes) -> bool:
        relay = self.relay
        if len(data) > self._chunk or relay.client.congested or relay.target.stream.congested:
            return False
        group = split(data)
        if group is None:
            return False
        gate = relay.gate
        now, standing = gate.now(), self._standing
        if gate.policy is not standing.policy or not standing.since <= now < standing.until:
            standing = self._stand(gate.policy, now)
        if standing.over or not self._current(standing.policy):
            return False
        key, _, at, end, _ = group
        entry = self._entries.get(key) or self._learned(key, data, standing, now)
        if entry is None or not self._stands(entry, standing, now) or not gate.may_start(relay.session.identity.name):
            return False
        values = (*entry.values, self._shown(entry, data, at, end)) if entry.shape & BIND else entry.values
        ticket = gate.audit.fill(entry.template, values, self)
        if ticket.failed:
            return False
        self._entry, self._ticket, self._asked, self._after = entry, ticket, data, group[4]
        relay.totals.active = self._time()
        if entry.early:
            self._send(entry)
        else:
            self.state = State.HELD
        return True

    def _stand(self, policy: Any, now: float) -> Standing:
        """Ask the policy whether the session has ended, and until when it will say nothing else of anything."""
        relay = self.relay
        limits, ended = relay.limits, policy.ended(relay.session, now)
        over = ended is not None or limits.rows is not None or limits.bytes is not None
        self._standing = Standing(policy, now, now if over else policy.settled(relay.session, now), over)
        return self._standing

    def _stands(self, entry: Entry, standing: Standing, now: float) -> bool:
        """Whether a name means what it meant, and the decision is what it was."""
        if entry.statement is not None and not entry.parses and self.relay.frontend.names.known(entry.statement) is not entry.prepared:
            return False
        if entry.standing is standing:
            return True
        session = self.relay.session
        decision = standing.policy.decide(session.identity, session.resource, entry.command.operations, now)
        if decision is not entry.decision and decision != entry.decision:
            self._entries.clear()
            return False
        entry.standing = standing
        return True

    def _current(self, policy: Any) -> bool:
        """Whether the entries are still of this policy, catalog and context; where they are not, they are forgotten."""
        seen = self.relay.context.generation()
        if seen is None:
            return False
        known = self._known
        if known[0] is not policy or known[1] is not seen[0] or known[2] is not seen[1]:
            self._known = (policy, *seen)
            self._detectors = self.relay.context.masks().detectors
            self._entries.clear()
            self._once.clear()
        return True

    def _learned(self, key: bytes, data: bytes, standing: Standing, now: float) -> Entry | None:
        """An entry for this group, decided now, and kept from its second time on: a text with literals of its own may never come again."""
        entry = learn(self.relay, data, now)
        if entry is None:
            return None
        entry.standing = standing
        mark = hash(key)
        if mark not in self._once:
            if len(self._once) >= ENTRIES:
                self._once.clear()
            self._once[mark] = None
            return entry
        if len(self._entries) >= ENTRIES:
            del self._entries[next(iter(self._entries))]
        keep(self.relay, entry)
        self._entries[key] = entry
        return entry

    def _shown(self, entry: Entry, data: bytes, at: int, end: int) -> bytes:
        """The parameters as the record may keep them."""
        if at == end:
            return b"[]"
        found = None if any(entry.formats) else plain(data, at, end, entry.hidden)
        if found is None:
            return shown(self.relay, entry, data)
        section = data[at:end]
        if self._detectors is not None and self._detectors.candidates(section) or len(section) >= SECRET and self._holds_secret(section):
            return shown(self.relay, entry, data)
        return found

    def _holds_secret(self, data: bytes) -> bool:
        for secret in self._secrets:                     # noqa: SIM110 - once a statement
            if secret in data:
                return True
        return False

    def _send(self, entry: Entry) -> None:
        self.state = State.SENT
        asked, after = self._asked, self._after
        self.relay.target.stream.write(asked[:after] + DESCRIBE + asked[after:] if entry.silent else asked)

    # the target

    def from_target(self, data: bytes) -> bool:
        """A chunk of the target's: True when the lane took it."""
        if self.state is State.IDLE:
            self.open = False
            return False
        if self.state is not State.SENT:
            if self.state is State.ANSWERED:
                self.hand_over()
            return False
        entry = self._entry
        if entry is None or not self.relay.backend.resting():
            self.hand_over()
            return False
        self._raw = raw = self._raw + data if self._raw else data
        found = answer(raw, entry.shape)
        if isinstance(found, int):
            if found == MORE and len(raw) <= self._longest:
                return True
        elif len(raw) <= self._longest and self._answered(entry, raw, found):
            return True
        self.hand_over()
        return True

    def _answered(self, entry: Entry, raw: bytes, found: tuple[int, int, int, int, int, int, int]) -> bool:
        """Verify, mask and count a whole answer; False where it is not the lane's."""
        relay = self.relay
        first, described, rows, end, self._count, complete, self._status = found
        policy, context, catalog = self._known
        if policy is not relay.gate.policy or not relay.context.still(context, catalog):
            return False
        try:
            if described > first and (raw[first + 5:described] != entry.described):
                verify(relay, entry, raw[first + 5:described])
            self._masked, block = 0, raw[rows:end] if self._count else b""
            if block and entry.plan is not None and entry.plan.any:
                block, self._masked = mask_rows(entry.plan, block)
            self._affected = 0 if self._count else affected(raw[end + 5:complete])
        except Fault:
            return False
        self._rows = block
        head = raw[:first] if entry.silent else raw[:rows]
        self._out = raw if not self._masked and not entry.silent else head + block + raw[end:]
        self._recording = self._recorded(entry, block) if entry.shape & ROWS else None
        ticket = self._ticket
        if ticket is not None and ticket.seq:
            self._finish(entry, ticket.seq)
        else:
            self.state = State.ANSWERED
        return True

    def _recorded(self, entry: Entry, rows: bytes) -> bytes | None:
        room = self.relay.sample_bytes
        if not room or not rows and not entry.fields:
            return None
        if entry.head is not None and not self._holds_secret(rows):
            found = sample(rows, entry.head, room, SAMPLE_ROWS, VALUE)
            if found is not None:
                return found
        return recording(self.relay, entry, rows)

    def look(self) -> None:
        """Once a second: an answer that began and does not go on passes as it comes."""
        if self.state is State.SENT and self._raw:
            if self._looked is self._raw:
                self.hand_over()
            else:
                self._looked = self._raw

    # the disk

    def durable(self, ticket: Ticket) -> None:
        """A ``command.begin`` is on disk, or never will be (``audit.template.Waiter``). Raises nothing: others wait for the batch too."""
        try:
            if ticket is self._ticket and (entry := self._entry) is not None:
                if ticket.failed:
                    self._failed()
                elif self.state is State.ANSWERED:
                    self._finish(entry, ticket.seq)
                elif self.state is State.HELD and not self.relay.over:
                    self._send(entry)
            elif (promised := self._promised.pop(ticket, None)) is not None:
                _keep(promised, ticket)
        except Exception as error:
            log.error("session failed: %s", type(error).__name__)
            self.relay.end("internal error of the gateway", "XX000")

    def _failed(self) -> None:
        """No record: what was not sent is told by the frontend, what was sent ends in the backend; both would anyway."""
        if self.state is not State.HELD:
            self.hand_over()
            return
        asked, self.state, self.open = self._asked, State.IDLE, False
        self._forget()
        self.relay.client.data_received(asked)

    def _finish(self, entry: Entry, begin: int) -> None:
        """Give the answer to the caller, and record how the command ended."""
        relay = self.relay
        out, before = self._out, relay.status
        rows, size = self._count, len(self._rows)
        relay.client.write(out)
        relay.totals.bytes += len(out)
        relay.totals.rows += rows
        relay.totals.active = self._time()
        values = (b"%d" % begin, b"%d" % (rows or self._affected), b"%d" % size, b"%d" % self._masked)
        relay.gate.audit.fill(self.records.end(), values, None, lazy=True, recording=self._recording)
        relay.status = status = chr(self._status)
        if entry.parses and entry.prepared is not None:
            relay.frontend.names.reparsed(entry.prepared)
        if status == "T" and entry.statement is not None:
            self._last = (entry, self._asked)
        elif before != "I" and status == "I":
            self._last = None
            relay.frontend.names.transaction_over()
        self.state = State.IDLE
        self.taken += 1
        self._forget()
        if not self.open or relay.draining:
            relay.rested()

    # handing over

    def hand_over(self) -> None:
        """Put the frontend and the backend where they would be had they sent the group and seen nothing of the answer."""
        entry, ticket, asked, raw, sent = self._entry, self._ticket, self._asked, self._raw, self.state is not State.HELD
        if entry is None or ticket is None:
            return
        self._settle()
        self.state, self.open = State.IDLE, False
        self._forget()
        self.relay.frontend.adopt(entry, self._running(entry, ticket), bound_command(self.relay, entry, asked), asked, sent=sent)
        if raw:
            self.relay.target.stream.data_received(raw)

    def _running(self, entry: Entry, ticket: Ticket) -> Running:
        recorded = asyncio.get_running_loop().create_future()
        if ticket.seq or ticket.failed:
            _keep(recorded, ticket)
        else:
            self._promised[ticket] = recorded
        permit = Permit(entry.decision, recorded, entry.early, self._known[0].digest)
        return Running(permit, entry.compiled.statements, sample=self.relay.frontend.sample())

    def give_up(self) -> None:
        """The session ends: what was not sent is withdrawn, what was answered is delivered once it is recorded, the rest is handed over."""
        if self.state is State.SENT:
            self.hand_over()
        entry, ticket = self._entry, self._ticket
        if entry is None or ticket is None:
            return
        running, state = self._running(entry, ticket), self.state
        if state is State.ANSWERED:
            running.rows, running.affected, running.size, running.masked = self._count, self._affected, len(self._rows), self._masked
            if running.sample is not None and entry.shape & ROWS:
                if entry.fields:
                    running.sample.columns(entry.fields)
                running.sample.rows(self._rows)
            self.relay.backend.answered(running, self._out)
        else:
            self.relay.commands.finish(running, "withdrawn", {})
        self.state, self.open = State.IDLE, False
        self._forget()

    def _settle(self) -> None:
        """Tell the names whose the unnamed portal is: a transaction keeps it until its end, and it may be run once more."""
        if self._last is None:
            return
        (entry, asked), self._last = self._last, None
        recorded = asyncio.get_running_loop().create_future()
        recorded.set_result(0)
        permit = Permit(entry.decision, recorded, entry.early, self._known[0].digest)
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
