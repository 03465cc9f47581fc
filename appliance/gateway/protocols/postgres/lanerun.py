# SPDX-License-Identifier: Apache-2.0
"""What the lane does each time: one operation's way from the caller's chunk to its answer and its records, with a compiled twin in
``_lanerun.pyx`` that does it without a Python frame of its own. Whatever is not that way is ``lane.Lane``'s, which is built upon it.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.errors import Fault
from gateway.native import compiled
from gateway.protocols.postgres.lanerecords import Records
from gateway.protocols.postgres.lanewire import BIND, DESCRIBE, MORE, PARSE, ROWS, TYPED, Answer, answer, plain, sample, split
from gateway.protocols.postgres.masking import mask_rows
from gateway.protocols.postgres.recorder import ROWS as SAMPLE_ROWS
from gateway.protocols.postgres.recorder import VALUE

if TYPE_CHECKING:
    from gateway.audit.template import Template, Ticket
    from gateway.masking.detect import Detectors
    from gateway.model import Command, Decision
    from gateway.protocols.postgres.context import Compiled
    from gateway.protocols.postgres.masking import MaskPlan
    from gateway.protocols.postgres.messages import Field
    from gateway.protocols.postgres.names import Prepared
    from gateway.protocols.postgres.session import Relay

CHUNK = 16 * 1024
"""The longest group of messages taken, in bytes."""
ANSWER = 32 * 1024
"""The longest answer; a longer one passes as it comes."""
SECRET = 6
"""No secret that is concealed is shorter (``scrub.conceal``)."""
IDLE, HELD, SENT, ANSWERED = range(4)
"""Of the one operation under way: there is none · its record has to be on disk first · the target has it · it is answered, and its
record not yet on disk."""
NONE_HIDDEN: frozenset[int] = frozenset()


@dataclass(slots=True)
class Totals:
    """Counted per session, as sent to the caller."""

    rows: int = 0
    bytes: int = 0
    denials: int = 0
    active: float = 0.0      # loop time of the last command activity


@dataclass(slots=True, eq=False)
class Entry:
    """One group of messages as the lane may take it again, for as long as its generation lasts.

    ``shape`` is of ``lanewire.answer``; ``silent``: the gateway asks for the description, the caller did not. ``described``, ``fields`` and
    ``plan`` are those of the last description that passed the second lock; ``head`` begins the recording of such rows.
    """

    compiled: Compiled
    command: Command
    decision: Decision
    template: Template
    values: tuple[bytes, ...]             # of the template, but those that are known only when it runs
    shape: int
    early: bool
    statement: str | None = None          # the name that Bind gives; ``None`` of a Query
    prepared: Prepared | None = None
    binary: bool = False                  # a parameter is
    results: tuple[int, ...] = ()
    silent: bool = False
    hidden: frozenset[int] = NONE_HIDDEN  # numbers of the parameters that are not shown
    described: bytes = b""
    fields: tuple[Field, ...] = ()
    plan: MaskPlan | None = None
    head: bytes | None = None
    stood: int = 0                        # the ``Run.stood`` under which it was decided last

    @property
    def parses(self) -> bool:
        return bool(self.shape & PARSE)

    @property
    def describes(self) -> bool:
        return bool(self.shape & TYPED)


class Run(ABC):
    """``open``: the session is at rest, the next chunk may be taken. ``taken``: operations that went through to their end.

    ``since``, ``until`` and ``over``: when ``policy`` was asked of the session, until when it says nothing else, and whether the lane is
    not for it; ``stood`` counts how often it was asked. ``known`` are policy, context and catalog: what all entries depend on.
    """

    __slots__ = ("affected", "after", "asked", "client", "context", "count", "detectors", "entries", "entry", "gate", "head", "known",
                 "last", "last_asked", "looked", "masked", "once", "open", "out", "over", "policy", "promised", "raw", "recording",
                 "records", "relay", "rows", "secrets", "since", "state", "status", "stood", "stream", "taken", "ticket", "time", "totals",
                 "until")

    def __init__(self, relay: Relay) -> None:
        self.relay, self.gate, self.context, self.totals = relay, relay.gate, relay.context, relay.totals
        self.client, self.stream = relay.client, relay.target.stream
        self.records = Records(relay)
        self.open = False
        self.state = IDLE
        self.taken = 0
        self.secrets = tuple(one.encode() for one in relay.secrets if len(one) >= SECRET)
        self.entries: dict[bytes, Entry] = {}
        self.once: dict[int, None] = {}
        self.time = asyncio.get_running_loop().time
        self.policy: Any = None
        self.since = self.until = 0.0
        self.over = True
        self.stood = 0
        self.detectors: Detectors | None = None
        self.known: tuple[Any, Any, Any] = (None, None, None)
        self.head: tuple[tuple[Field, ...], bytes | None] = ((), None)      # what a recording begins with, of the last description
        self.last: Entry | None = None                   # whose portal is the unnamed one, in a transaction
        self.last_asked = b""
        self.promised: dict[Ticket, asyncio.Future[int]] = {}
        self.after = 0                                   # where Bind ends in what was asked
        self.count = self.masked = self.affected = self.status = 0
        self.forget()

    def forget(self) -> None:
        """Nothing is under way. Of the last operation only what is set anew with the next is left."""
        self.entry: Entry | None = None
        self.ticket: Ticket | None = None
        self.asked = self.raw = self.out = self.rows = self.looked = b""
        self.recording: bytes | None = None

    def drop(self) -> None:
        """No group is known any more."""
        self.entries.clear()

    @property
    def busy(self) -> bool:
        """An operation is under way."""
        return self.state != IDLE

    @property
    def sent(self) -> bool:
        """The target works on it."""
        return self.state == SENT

    # what is not done each time: ``lane.Lane`` does

    @abstractmethod
    def stand(self, policy: Any, now: float) -> None:
        """Ask the policy whether the session has ended, and until when it will say nothing else of anything."""

    @abstractmethod
    def renew(self, policy: Any, seen: tuple[Any, Any]) -> None:
        """Policy, context or catalog are others than those known."""

    @abstractmethod
    def learned(self, key: bytes, data: bytes, now: float) -> Entry | None:
        """An entry for a group that is not known."""

    @abstractmethod
    def decided(self, entry: Entry, now: float) -> bool:
        """Whether the decision is what it was."""

    @abstractmethod
    def shown(self, entry: Entry, data: bytes) -> bytes:
        """The parameters as the record may keep them, where they are not plain."""

    @abstractmethod
    def verify(self, entry: Entry, payload: bytes) -> None:
        """The second lock. Raises ``Fault``."""

    @abstractmethod
    def tagged(self, tag: bytes) -> int:
        """The rows of a command tag that has no rows of its own to count."""

    @abstractmethod
    def recorded(self, entry: Entry, rows: bytes) -> bytes | None:
        """The recording of rows that are not plain."""

    @abstractmethod
    def durable_late(self, ticket: Ticket) -> None:
        """A record of no operation under way is on disk, or never will be; or that of this one has failed."""

    @abstractmethod
    def broken(self, error: Exception) -> None:
        """Something raised that must not."""

    @abstractmethod
    def settle(self) -> None:
        """Tell the names whose the unnamed portal is."""

    @abstractmethod
    def hand_over(self) -> None:
        """Put the frontend and the backend where they would be had they sent the group and seen nothing of the answer."""

    # the caller

    def from_caller(self, data: bytes) -> bool:
        """A chunk of the caller's: True when the lane took it."""
        if self.state != IDLE:
            self.hand_over()
        elif self.open and self._begin(data):
            return True
        self.open = False
        self.settle()
        return False

    def _begin(self, data: bytes) -> bool:
        if len(data) > min(CHUNK, self.relay.message_limit) or self.client.congested or self.stream.congested:
            return False
        group = split(data)
        if group is None:
            return False
        gate = self.gate
        now, policy = gate.now(), gate.policy
        if policy is not self.policy or not self.since <= now < self.until:
            self.stand(policy, now)
        if self.over or not self._current(policy):
            return False
        key, _, at, end, _ = group
        entry = self.entries.get(key) or self.learned(key, data, now)
        if entry is None or not self._stands(entry, now) or not gate.may_start(self.relay.session.identity.name):
            return False
        values = (*entry.values, self._parameters(entry, data, at, end)) if entry.shape & BIND else entry.values
        ticket = gate.audit.fill(entry.template, values, self)
        if ticket.failed:
            return False
        self.entry, self.ticket, self.asked, self.after = entry, ticket, data, group[4]
        self.totals.active = self.time()
        if entry.early:
            self.send()
        else:
            self.state = HELD
        return True

    def _current(self, policy: Any) -> bool:
        """Whether the entries are of this policy, catalog and context; where they were not, they have been forgotten."""
        seen = self.context.generation()
        if seen is None:
            return False
        known = self.known
        if known[0] is not policy or known[1] is not seen[0] or known[2] is not seen[1]:
            self.renew(policy, seen)
        return True

    def _stands(self, entry: Entry, now: float) -> bool:
        """Whether a name means what it meant, and the decision is what it was."""
        if entry.statement is not None and not entry.parses and self.relay.frontend.names.known(entry.statement) is not entry.prepared:
            return False
        return entry.stood == self.stood or self.decided(entry, now)

    def _parameters(self, entry: Entry, data: bytes, at: int, end: int) -> bytes:
        """The parameters as the record may keep them."""
        if at == end:
            return b"[]"
        found = None if entry.binary else plain(data, at, end, entry.hidden)
        if found is None or self._telling(data[at:end]):
            return self.shown(entry, data)
        return found

    def _telling(self, section: bytes) -> bool:
        return self.detectors is not None and self.detectors.candidates(section) or self.holds_secret(section)

    def holds_secret(self, data: bytes) -> bool:
        """Whether a secret of the gateway's stands in it."""
        for secret in self.secrets:                      # noqa: SIM110 - once a statement
            if secret in data:
                return True
        return False

    def send(self) -> None:
        """Give the group to the target."""
        entry, asked, after = self.entry, self.asked, self.after
        if entry is None:
            return
        self.state = SENT
        self.stream.write(asked[:after] + DESCRIBE + asked[after:] if entry.silent else asked)

    # the target

    def from_target(self, data: bytes) -> bool:
        """A chunk of the target's: True when the lane took it."""
        if self.state == IDLE:
            self.open = False
            return False
        if self.state != SENT:
            if self.state == ANSWERED:
                self.hand_over()
            return False
        entry = self.entry
        if entry is None or not self.relay.backend.resting():
            self.hand_over()
            return False
        self.raw = raw = self.raw + data if self.raw else data
        longest = min(ANSWER, self.relay.message_limit)
        found = answer(raw, entry.shape)
        if isinstance(found, int):
            if found == MORE and len(raw) <= longest:
                return True
        elif len(raw) <= longest and self._answered(entry, raw, found):
            return True
        self.hand_over()
        return True

    def _answered(self, entry: Entry, raw: bytes, found: Answer) -> bool:
        """Verify, mask and count a whole answer; False where it is not the lane's."""
        first, described, rows, end, self.count, complete, self.status = found
        policy, context, catalog = self.known
        if policy is not self.gate.policy or not self.context.still(context, catalog):
            return False
        try:
            if described > first and raw[first + 5:described] != entry.described:
                self.verify(entry, raw[first + 5:described])
            self.masked, block = 0, raw[rows:end] if self.count else b""
            if block and entry.plan is not None and entry.plan.any:
                block, self.masked = mask_rows(entry.plan, block)
            self.affected = 0 if self.count else self.tagged(raw[end + 5:complete])
        except Fault:
            return False
        self.rows = block
        head = raw[:first] if entry.silent else raw[:rows]
        self.out = raw if not self.masked and not entry.silent else head + block + raw[end:]
        self.recording = self._recording(entry, block) if entry.shape & ROWS else None
        if self.ticket is not None and self.ticket.seq:
            self._finish(entry, self.ticket.seq)
        else:
            self.state = ANSWERED
        return True

    def _recording(self, entry: Entry, rows: bytes) -> bytes | None:
        room = self.relay.sample_bytes
        if not room or not rows and not entry.fields:
            return None
        if entry.head is not None and not self.holds_secret(rows):
            found = sample(rows, entry.head, room, SAMPLE_ROWS, VALUE)
            if found is not None:
                return found
        return self.recorded(entry, rows)

    # the disk

    def durable(self, ticket: Ticket) -> None:
        """A ``command.begin`` is on disk, or never will be (``audit.template.Waiter``). Raises nothing: others wait for the batch too."""
        try:
            entry = self.entry
            if ticket is not self.ticket or ticket.failed or entry is None:
                self.durable_late(ticket)
            elif self.state == ANSWERED:
                self._finish(entry, ticket.seq)
            elif self.state == HELD and not self.relay.over:
                self.send()
        except Exception as error:
            self.broken(error)

    def _finish(self, entry: Entry, begin: int) -> None:
        """Give the answer to the caller, and record how the command ended."""
        relay, totals = self.relay, self.totals
        out, before = self.out, relay.status
        self.client.write(out)
        totals.bytes += len(out)
        totals.rows += self.count
        totals.active = self.time()
        values = (b"%d" % begin, b"%d" % (self.count or self.affected), b"%d" % len(self.rows), b"%d" % self.masked)
        self.gate.audit.fill(self.records.end(), values, None, True, self.recording)
        relay.status = status = chr(self.status)
        if entry.parses and entry.prepared is not None:
            relay.frontend.names.reparsed(entry.prepared)
        if status == "T" and entry.statement is not None:
            self.last, self.last_asked = entry, self.asked
        elif before != "I" and status == "I":
            self.last, self.last_asked = None, b""
            relay.frontend.names.transaction_over()
        self.state = IDLE
        self.taken += 1
        self.forget()
        if not self.open or relay.draining:
            relay.rested()


PureRun, PureEntry, PureTotals = Run, Entry, Totals
_fast = compiled("gateway.protocols.postgres._lanerun")
if _fast is not None:
    Run, Entry, Totals = _fast.Run, _fast.Entry, _fast.Totals  # type: ignore[misc]
