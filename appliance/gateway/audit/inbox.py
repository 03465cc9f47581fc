# SPDX-License-Identifier: Apache-2.0
"""Between the event loop and the writer thread: records one way, what became of them the other. One wake-up a batch each way, no lock.

The interpreter's own lock is the only one: a record is put and seen by single operations on a deque, and whoever is about to sleep looks
once more after saying so.
"""

from __future__ import annotations

import logging
import threading
from asyncio import Future
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.audit.record import MAX_RECORD
from gateway.audit.template import Template, Ticket, Waiter
from gateway.errors import AuditUnavailable
from gateway.native import compiled

_log = logging.getLogger(__name__)
MAX_PENDING = 32 * 2**20
OVERHEAD = 1024
"""What a record is taken to cost beside its own bytes."""
TOO_LARGE = "too large for the audit log"
QUEUE_FULL = "the queue of the audit log is full"
CLOSING = "audit records cannot be written: the gateway is stopping"
Value = int | list[int] | AuditUnavailable | None


class Entry:
    """One call of ``record`` or ``record_together`` on its way to the disk. ``time`` is microseconds since the epoch, ``value`` what the
    future gets once its batch is on disk or has failed."""

    __slots__ = ("cost", "future", "lazy", "recording", "records", "time", "together", "value")

    def __init__(self, future: Future[Any] | None, records: Sequence[tuple[str, Mapping[str, Any]]], time: int, *,
                 recording: bytes | None = None, cost: int = 0, lazy: bool = False, together: bool = False) -> None:
        self.future, self.records, self.time, self.recording = future, records, time, recording
        self.cost, self.lazy, self.together = cost, lazy, together
        self.value: Value = None

    @property
    def kind(self) -> str:
        """The kind of the first record."""
        return self.records[0][0]

    def record(self) -> tuple[str, Mapping[str, Any]]:
        """The first record."""
        return self.records[0]


Queued = Entry | Ticket


class Inbox:
    """``fill``, ``put``, ``settle`` and ``close`` are for the event loop, ``take`` for the writer thread.

    ``pending`` are the estimated bytes queued and not settled, at most ``limit``. ``refusal`` says why nothing is taken, empty while
    something is.
    """

    def __init__(self, clock: Callable[[], float], soon: Callable[..., Any], *, strict: bool) -> None:
        """``clock`` gives seconds since the epoch, ``soon(call, *arguments)`` calls in the event loop, next time round. ``strict``: nothing
        is lazy."""
        self.limit = MAX_PENDING
        self.pending, self.refusal, self.closing = 0, "audit records cannot be written: not open", False
        self._clock, self._soon, self._strict = clock, soon, strict
        self._queue: deque[Queued] = deque()
        self._asleep = False
        self._wake = threading.Lock()
        self._wake.acquire()

    def fill(self, template: Template, values: tuple[bytes, ...], waiter: Waiter | None, lazy: bool = False,
             recording: bytes | None = None) -> Ticket:
        """As ``AuditLog.fill``."""
        cost = OVERHEAD + template.size + sum(map(len, values)) + len(recording or b"")
        ticket = Ticket(template, values, waiter, int(self._clock() * 1e6), cost, lazy=lazy and not self._strict, recording=recording)
        problem = self.problem(cost)
        if problem:
            ticket.failed, ticket.problem = True, problem
            if waiter is not None:
                self._soon(waiter.durable, ticket)
        else:
            self.put(ticket)
        return ticket

    def problem(self, cost: int) -> str:
        """Why a record of ``cost`` bytes cannot be taken now; empty when it can."""
        if self.refusal:
            return self.refusal
        if cost > MAX_RECORD:
            return TOO_LARGE
        return QUEUE_FULL if self.pending + cost > self.limit else ""

    def put(self, entry: Queued) -> None:
        """Queue it. A writer that sleeps is woken once the event loop has looked at all that came with it: earlier it would only wait for
        the interpreter, and its batch would be smaller."""
        self.pending += entry.cost
        self._queue.append(entry)
        if self._asleep:
            self._asleep = False
            self._soon(self._rouse)

    def close(self) -> None:
        """Nothing more is taken; the writer is to write what is queued and end."""
        self.refusal, self.closing = CLOSING, True
        self._rouse()

    def _rouse(self) -> None:
        self._asleep = False
        if self._wake.locked():
            self._wake.release()

    def take(self, timeout: float) -> list[Queued]:
        """Everything queued, after waiting for something at most ``timeout`` seconds."""
        queue = self._queue
        if not queue and not self.closing:
            self._asleep = True
            if not queue and not self.closing:
                self._wake.acquire(timeout=timeout)
            self._asleep = False
        return [queue.popleft() for _ in range(len(queue))]

    def settle(self, entries: Sequence[Queued]) -> list[Entry]:
        """A batch is on disk or has failed: tell the tickets and who waits for them; gives the entries that are none."""
        others = []
        for entry in entries:
            self.pending -= entry.cost
            if isinstance(entry, Ticket):
                _settle(entry)
            else:
                others.append(entry)
        return others


def _settle(ticket: Ticket) -> None:
    if ticket.problem:
        ticket.failed = True
    else:
        ticket.seq = ticket.place
    waiter, ticket.waiter = ticket.waiter, None
    if waiter is not None:
        try:
            waiter.durable(ticket)
        except Exception as error:
            misled(error)


def misled(error: Exception) -> None:
    """A waiter raised, which it must not: the others are told all the same."""
    _log.error("after a record: %s", type(error).__name__)


def parted(entries: Sequence[Queued]) -> tuple[list[Queued], list[Queued], list[Queued], bool]:
    """The lazy ones without a recording and with one, the others, and whether a session ends among these."""
    lazy = [entry for entry in entries if entry.lazy and not entry.recording]
    recorded = [entry for entry in entries if entry.lazy and entry.recording]
    urgent = [entry for entry in entries if not entry.lazy]
    return lazy, recorded, urgent, any(entry.kind == "session.end" for entry in urgent)


def cost_of(entries: Sequence[Queued]) -> int:
    """Estimated bytes of all."""
    return sum([entry.cost for entry in entries])


PureInbox, parted_pure, cost_of_pure = Inbox, parted, cost_of
_fast = compiled("gateway.audit._record")
if _fast is not None:
    Inbox, parted, cost_of = _fast.Inbox, _fast.parted, _fast.cost_of  # type: ignore[misc]
