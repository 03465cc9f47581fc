# SPDX-License-Identifier: Apache-2.0
"""The audit log as the event loop sees it: ``record()`` queues and returns a future, the writer thread does the rest."""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit.inbox import OVERHEAD, Entry, Inbox, Queued
from gateway.audit.journal import Journal, Place, worker_suffix
from gateway.audit.note import raw_public
from gateway.audit.record import Encoder
from gateway.audit.template import Fill, Template
from gateway.audit.writer import Writer
from gateway.config.schema import AuditConfig
from gateway.errors import AuditUnavailable, GatewayFault

Fields = Mapping[str, Any]
_LOCK_PATIENCE = 2.0
_WORKERS_PATIENCE = 15.0
"""Seconds that workers whose first process was killed have to end their sessions."""


class AuditLog:
    """Implements ``govern.AuditLog``. Futures belong to the event loop that ``open`` was called in.

    A mapping given to ``record`` is read later by another thread: the caller must not change it afterwards. ``command.end`` with status
    ``ok`` or ``error`` may reach the disk up to 20 ms later than asked, together with others: do not await it before an answer.
    """

    def __init__(self, writer: Writer, thread: threading.Thread, lock: int, clock: Callable[[], float], inbox: Inbox, encoder: Encoder, *,
                 strict: bool) -> None:
        self.strict = strict
        self._writer, self._thread, self._lock, self._clock = writer, thread, lock, clock
        self._inbox, self._encoder = inbox, encoder
        self.fill: Fill = inbox.fill
        """``fill(template, values, waiter, lazy=…, recording=…)`` queues one record: ``values`` are JSON, one for each hole. ``lazy`` is
        for a ``command.end`` that nobody waits for. Never raises: what is refused at once is a ticket that has ``failed``; ``waiter`` is
        told of every ticket, later, in the event loop."""
        self._loop = asyncio.get_running_loop()

    @classmethod
    def open(cls, state: Path, origin: str, segment: str, config: AuditConfig, key: Ed25519PrivateKey, *,
             clock: Callable[[], float] = time.time, vfs: str | None = None, worker: int = 0) -> AuditLog:
        """Open or begin the log under ``state``, close what a crash left open, and start the writer thread.

        ``worker`` is the number of a worker, whose log has its own origin beside the gateway's.

        Called inside the event loop. ``clock`` gives seconds since the epoch. Raises ``AuditUnavailable`` (cannot be written) or
        ``GatewayFault`` (another gateway has it, its end was changed, SQLite too old).
        """
        _check_origin(origin)
        place, lock = prepare(state, f"{origin}/{worker}" if worker else origin, segment, vfs, worker)
        try:
            journal, strict = Journal(place, key), config.durability == "strict"
            inbox = Inbox(clock, asyncio.get_running_loop().call_soon, strict=strict)
            writer = Writer(place, journal, config, clock, inbox, lambda entries: log._hand_over(entries))
            writer.open(raw_public(key.public_key()))
            thread = threading.Thread(target=writer.run, name="audit-writer", daemon=True)
            log = cls(writer, thread, lock, clock, inbox, journal.encoder, strict=strict)
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
        return self._inbox.pending

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

    def values(self, template: Template, fields: Fields) -> tuple[bytes, ...]:
        """``fields`` as the values of ``template``'s holes of these names; ``text_secret`` fills ``text_digest``. The holes that are not
        among them have to be the last ones, and their values to be added. Raises ``AuditUnavailable``."""
        try:
            return self._encoder.values(template, fields)
        except (ValueError, TypeError):
            raise AuditUnavailable("not a record the audit log can keep") from None

    def _queue(self, records: Sequence[tuple[str, Fields]], recording: bytes | None, *, lazy: bool, together: bool) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        cost = sum(_cost(fields) for _, fields in records) + len(recording or b"")
        problem = self._inbox.problem(cost) if records else "not a record the audit log can keep"
        if problem:
            _fail(future, AuditUnavailable(problem))
            return future
        self._inbox.put(Entry(future, records, int(self._clock() * 1e6), recording=recording, cost=cost, lazy=lazy, together=together))
        return future

    def _hand_over(self, entries: Sequence[Queued]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._resolve, entries)
        except RuntimeError:
            return      # the event loop is gone, and with it everybody who waited

    def _resolve(self, entries: Sequence[Queued]) -> None:
        for entry in self._inbox.settle(entries):
            future = entry.future
            if future is None or future.done():
                continue
            if isinstance(entry.value, AuditUnavailable):
                _fail(future, entry.value)
            else:
                future.set_result(entry.value)

    async def close(self) -> None:
        """Write everything queued and a last checkpoint, then close. Further records are refused."""
        if self._lock < 0:
            return
        self._inbox.close()
        await asyncio.to_thread(self._thread.join)
        os.close(self._lock)
        self._lock = -1
        await asyncio.sleep(0)


def _fail(future: asyncio.Future[Any], fault: AuditUnavailable) -> None:
    future.set_exception(fault)
    future.exception()  # whoever awaits it still gets it; nobody else needs to hear


def _cost(fields: Fields) -> int:
    """About how many bytes a record will take: enough to bound the queue."""
    size = OVERHEAD + len(fields.get("text", ""))
    parameters = fields.get("parameters")
    return size + sum([len(value) for value in parameters if value]) if parameters else size


def _check_origin(origin: str) -> None:
    if not origin or not origin.isprintable() or any(sign in origin for sign in " +"):
        raise GatewayFault("the gateway's name cannot be an origin: expected printable text without blanks and +")


def prepare(state: Path, origin: str, segment: str, vfs: str | None = None, worker: int = 0) -> tuple[Place, int]:
    """Make the folders, take the lock (a file descriptor to keep), read or make the key of ``text_digest``.

    Raises ``GatewayFault`` where another process has the log, or the gateway's first process would begin while a worker is still there.
    """
    audit = state / "audit"
    for folder in (state, audit, state / "recordings"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(audit / f"lock{worker_suffix(worker)}", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        _take_lock(lock, audit)
        if not worker:
            _await_workers(audit)
        return Place(state, origin, segment, _digest_key(audit / "digest.key"), vfs, worker=worker), lock
    except BaseException:
        os.close(lock)
        raise


def _await_workers(audit: Path) -> None:
    for path in audit.glob("lock.*"):
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            _take_lock(handle, audit, _WORKERS_PATIENCE)
        finally:
            os.close(handle)


def _take_lock(lock: int, audit: Path, seconds: float = _LOCK_PATIENCE) -> None:
    patience = time.monotonic() + seconds
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
