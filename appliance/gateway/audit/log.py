# SPDX-License-Identifier: Apache-2.0
"""The audit log as the event loop sees it: ``record()`` queues and returns a future, the writer thread does the rest."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit.journal import Entry, Journal, Place, Value
from gateway.audit.note import raw_public
from gateway.audit.record import MAX_RECORD, Encoder
from gateway.audit.template import ENVELOPE, Template, Ticket, Waiter
from gateway.audit.writer import Outcomes, Writer
from gateway.config.schema import AuditConfig
from gateway.errors import AuditUnavailable, GatewayFault

Fields = Mapping[str, Any]
MAX_PENDING = 32 * 2**20
_OVERHEAD = 1024
_LOCK_PATIENCE = 2.0


class AuditLog:
    """Implements ``govern.AuditLog``. Futures belong to the event loop that ``open`` was called in.

    A mapping given to ``record`` is read later by another thread: the caller must not change it afterwards. ``command.end`` with status
    ``ok`` or ``error`` may reach the disk up to 20 ms later than asked, together with others: do not await it before an answer.
    """

    def __init__(self, writer: Writer, thread: threading.Thread, lock: int, clock: Callable[[], float], encoder: Encoder, *,
                 strict: bool) -> None:
        self.strict = strict
        self._encoder = encoder
        self._writer, self._thread, self._lock, self._clock = writer, thread, lock, clock
        self._loop = asyncio.get_running_loop()
        self._pending = 0

    @classmethod
    def open(cls, state: Path, origin: str, segment: str, config: AuditConfig, key: Ed25519PrivateKey, *,
             clock: Callable[[], float] = time.time, vfs: str | None = None) -> AuditLog:
        """Open or begin the log under ``state``, close what a crash left open, and start the writer thread.

        Called inside the event loop. ``clock`` gives seconds since the epoch. Raises ``AuditUnavailable`` (cannot be written) or
        ``GatewayFault`` (another gateway has it, its end was changed, SQLite too old).
        """
        _check_origin(origin)
        place, lock = prepare(state, origin, segment, vfs)
        try:
            journal = Journal(place, key)
            writer = Writer(place, journal, config, clock, lambda outcomes: log._hand_over(outcomes))
            writer.open(raw_public(key.public_key()))
            thread = threading.Thread(target=writer.run, name="audit-writer", daemon=True)
            log = cls(writer, thread, lock, clock, journal.encoder, strict=config.durability == "strict")
        except BaseException:
            os.close(lock)
            raise
        thread.start()
        return log

    @property
    def available(self) -> bool:
        """Whether records can be written right now."""
        return self._writer.state == "open"

    @property
    def last_time(self) -> float:
        """The time of the newest record on disk, seconds since the epoch; 0 when there is none."""
        return self._writer.last_time

    @property
    def why_not(self) -> str:
        """Why they cannot: empty when available."""
        return self._writer.reason

    @property
    def pending(self) -> int:
        """Estimated bytes queued and not yet on disk."""
        return self._pending

    def record(self, kind: str, fields: Fields, recording: bytes | None = None) -> asyncio.Future[int]:
        """Queue one record. The future gives its seq once it is on disk, or raises ``AuditUnavailable``."""
        lazy = kind == "command.end" and not self.strict and fields.get("status") in ("ok", "error")
        return self._queue(((kind, fields),), recording, lazy=lazy, together=False)

    def record_together(self, records: Sequence[tuple[str, Fields]]) -> asyncio.Future[list[int]]:
        """Queue several that become durable in one transaction or not at all; gives their seq in order."""
        return self._queue(tuple(records), None, lazy=False, together=True)

    def template(self, kind: str, fields: Fields, holes: Sequence[str]) -> Template:
        """Encode ``fields`` once, for records that differ in ``holes`` only. ``text_secret`` becomes ``text_digest`` here.

        Raises ``AuditUnavailable``: not a record the log can keep.
        """
        try:
            return self._encoder.template(kind, fields, holes)
        except (ValueError, TypeError):
            raise AuditUnavailable("not a record the audit log can keep") from None

    def fill(self, template: Template, values: tuple[bytes, ...], waiter: Waiter | None, *, lazy: bool = False,
             recording: bytes | None = None) -> Ticket:
        """Queue one record: ``values`` are JSON, one for each hole. ``lazy`` is for a ``command.end`` that nobody waits for.

        Never raises: what is refused at once is a ticket that has ``failed``; ``waiter`` is told of every ticket, later, in the event loop.
        """
        cost = _OVERHEAD + template.size + sum(map(len, values)) + len(recording or b"")
        ticket = Ticket(template, values, waiter, int(self._clock() * 1e6), cost, lazy=lazy and not self.strict, recording=recording)
        problem = self._refused(cost)
        if problem:
            ticket.failed, ticket.problem = True, problem
            if waiter is not None:
                self._loop.call_soon(waiter.durable, ticket)
            return ticket
        self._pending += cost
        self._writer.inbox.put(ticket)
        return ticket

    def _queue(self, records: Sequence[tuple[str, Fields]], recording: bytes | None, *, lazy: bool, together: bool) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        cost = sum(_cost(fields) for _, fields in records) + len(recording or b"")
        problem = self._problem(records, cost)
        if problem:
            future.set_exception(AuditUnavailable(problem))
            future.exception()  # whoever awaits it still gets it; nobody else needs to hear
            return future
        self._pending += cost
        entry = Entry(future, records, int(self._clock() * 1e6), recording=recording, cost=cost, lazy=lazy, together=together)
        self._writer.inbox.put(entry)
        return future

    def _problem(self, records: Sequence[tuple[str, Fields]], cost: int) -> str:
        if not records or not all(ENVELOPE.isdisjoint(fields) for _, fields in records):
            return "not a record the audit log can keep"
        return self._refused(cost)

    def _refused(self, cost: int) -> str:
        if self._writer.state != "open":
            return f"audit records cannot be written: {self._writer.reason}"
        if cost > MAX_RECORD:
            return "too large for the audit log"
        if self._pending + cost > MAX_PENDING:
            return "the queue of the audit log is full"
        return ""

    def _hand_over(self, outcomes: Outcomes) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is gone, and with it everybody who waited
            self._loop.call_soon_threadsafe(self._resolve, outcomes)

    def _resolve(self, outcomes: Outcomes) -> None:
        for entry, value in outcomes:
            self._pending -= entry.cost
            if isinstance(entry, Ticket):
                _settle(entry, value)
                continue
            future = entry.future
            if future is None or future.done():
                continue
            if isinstance(value, AuditUnavailable):
                future.set_exception(value)
                future.exception()
            else:
                future.set_result(value)

    async def close(self) -> None:
        """Write everything queued and a last checkpoint, then close. Further records are refused."""
        if self._lock < 0:
            return
        self._writer.inbox.put(None)
        await asyncio.to_thread(self._thread.join)
        os.close(self._lock)
        self._lock = -1
        await asyncio.sleep(0)


def _settle(ticket: Ticket, value: Value) -> None:
    if isinstance(value, int):
        ticket.seq = value
    else:
        ticket.failed, ticket.problem = True, str(value)
    if ticket.waiter is not None:
        ticket.waiter.durable(ticket)


def _cost(fields: Fields) -> int:
    """About how many bytes a record will take: enough to bound the queue."""
    size = _OVERHEAD + len(fields.get("text", ""))
    parameters = fields.get("parameters")
    return size + sum([len(value) for value in parameters if value]) if parameters else size


def _check_origin(origin: str) -> None:
    if not origin or not origin.isprintable() or any(sign in origin for sign in " +"):
        raise GatewayFault("the gateway's name cannot be an origin: expected printable text without blanks and +")


def prepare(state: Path, origin: str, segment: str, vfs: str | None = None) -> tuple[Place, int]:
    """Make the folders, take the lock (a file descriptor to keep), read or make the key of ``text_digest``."""
    audit = state / "audit"
    for folder in (state, audit, state / "recordings"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(audit / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        _take_lock(lock, audit)
        return Place(state, origin, segment, _digest_key(audit / "digest.key"), vfs), lock
    except BaseException:
        os.close(lock)
        raise


def _take_lock(lock: int, audit: Path) -> None:
    patience = time.monotonic() + _LOCK_PATIENCE
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > patience:
                raise GatewayFault(f"{audit}: another gateway is writing this audit log") from None
            time.sleep(0.05)


def _digest_key(path: Path) -> bytes:
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = secrets.token_bytes(32)
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(handle)
    if len(key) != 32:
        raise GatewayFault(f"{path}: expected 32 bytes")
    return key
