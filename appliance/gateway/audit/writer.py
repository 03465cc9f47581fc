# SPDX-License-Identifier: Apache-2.0
"""The one thread that writes the log: natural group commit, checkpoints, new files, and what happens when the disk fails.

A batch is what queued while the batch before it was being synced; nothing waits for company. Only a ``lazy`` record (how a command
ended, which nobody waits for) is kept back until there is a batch to ride with, for ``LINGER`` seconds at most.

States: open → full (no space, size limit) → open · open → fenced (an error of the disk) → open · any → closed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import apsw

from gateway.audit.files import check_sqlite
from gateway.audit.inbox import Entry, Inbox, Queued, cost_of
from gateway.audit.journal import Journal, Place
from gateway.audit.note import fingerprint
from gateway.audit.record import FORMAT
from gateway.audit.space import Reserve, used
from gateway.audit.turns import BATCH_BYTES, BATCH_RECORDS, Turns
from gateway.config.schema import AuditConfig
from gateway.errors import AuditUnavailable, GatewayFault

_log = logging.getLogger(__name__)
_PROBE_FIRST, _PROBE_LAST = 0.2, 5.0
_UPKEEP, _MEASURE, _PRUNE = 0.5, 10.0, 3600.0
_MISSED = 10_000
_ENDS = ("command.end", "session.end", "approval.denied", "approval.expired", "approval.withdrawn")
State = Literal["open", "full", "fenced", "closed"]


class Writer:
    """Takes from ``inbox``. ``deliver`` is called with each batch once it is on disk or has failed."""

    def __init__(self, place: Place, journal: Journal, config: AuditConfig, clock: Callable[[], float], inbox: Inbox,
                 deliver: Callable[[Sequence[Queued]], None]) -> None:
        self.state: State = "closed"
        self.reason = "not open"
        self._place, self._journal, self._config, self._clock = place, journal, config, clock
        self._inbox = inbox
        self._turns = Turns(inbox, journal, deliver, config.retention.size)
        self._reserve = Reserve(place.reserve, config.reserve)
        self._missed: list[Queued] = []
        self._started = time.monotonic()
        self._opened_at = clock()
        self._sealed = self._beat = self._measured = self._pruned = self._started
        self._probe_at = self._roll_at = self._upkeep_at = 0.0
        self._backoff = _PROBE_FIRST

    # ---- the beginning and the end

    def open(self, key_public: bytes) -> None:
        """Recover, and write down that the log is open and what a stop or crash had left open. Raises ``GatewayFault``."""
        check_sqlite()
        try:
            found = self._journal.open(self._now(), alone=not self._place.worker)
            self._reserve.ensure()
            fields = {"format": FORMAT, "key": fingerprint(key_public), "sqlite": apsw.sqlite_lib_version(), "unsealed": found.unsealed,
                      "orphaned": len(found.standing.commands), "boot": boot_id()}
            entries = [Entry(None, [("audit.opened", fields)], self._now())]
            entries += [Entry(None, [record], self._now()) for record in self._journal.standing.leftovers()]
            self._journal.commit(entries, self._now())
            self._journal.commit([], self._now(), sign=True)
            self._prune()
        except (apsw.Error, OSError) as error:
            self._journal.abandon()
            raise AuditUnavailable(f"{self._place.audit}: the audit log cannot be opened ({_named(error)})") from None
        except BaseException:
            self._journal.abandon()
            raise
        self._turns.used = used(self._place.audit, self._place.recordings)
        self._become("open", "")

    def _become(self, state: State, reason: str) -> None:
        self.state, self.reason = state, reason
        if not self._inbox.closing:
            self._inbox.refusal = "" if state == "open" else _refusal(reason)

    @property
    def last_time(self) -> float:
        """The time of the newest record, seconds since the epoch."""
        return self._journal.encoder.last / 1e6

    def run(self) -> None:
        """The thread. Ends after the inbox was closed and everything in it was written."""
        inbox = self._inbox
        while not inbox.closing:
            self._round()
        self._last_round(inbox.take(0))
        for batch in _split(self._turns.all_lazy()):
            self._write(batch)
        if self.state == "open":
            self._write([Entry(None, [record], self._now()) for record in self._journal.standing.leftovers()])
            self._write([], sign=True)
        self._tell()
        if self.state == "open":
            self._journal.seal()
        else:
            self._journal.abandon()
        self._become("closed", "the gateway is stopping")

    def _now(self) -> int:
        return int(self._clock() * 1e6)

    def _is_open(self) -> bool:
        return self.state == "open"

    # ---- taking from the queue

    def _round(self) -> None:
        """Write what comes until something else has to be done, and do that; at least sleep until it is due, or something comes."""
        if self.state != "open":
            self._tell()
            self._refuse(self._inbox.take(max(0.0, self._probe_at - time.monotonic())))
            if time.monotonic() >= self._probe_at:
                self._probe()
            return
        until, look = max(self._beat + self._config.heartbeat, self._upkeep_at), self._upkeep_at
        if self._journal.dirty:
            until, look = min(until, self._seal_at()), min(look, self._seal_at())
        ready = self._turns.run(until, look)
        error, self._turns.error = self._turns.error, None
        if error is not None:
            self._failed(error, ready)
        else:
            self._look(ready)

    def _seal_at(self) -> float:
        return self._sealed + self._config.checkpoint.every

    def _look(self, ready: list[Queued]) -> None:
        now = time.monotonic()
        sign = self._journal.dirty and now >= self._seal_at()
        for batch in _split(ready) or [[]]:
            self._write(batch, sign=sign)
            sign = False
        if now >= self._upkeep_at:
            self._tell()
            self._upkeep_at = now + _UPKEEP
            self._upkeep(now)

    def _last_round(self, entries: Sequence[Queued]) -> None:
        if self.state == "open":
            self._look(self._turns.ready(entries, time.monotonic()))
        else:
            self._refuse(entries)

    # ---- writing

    def _write(self, entries: Sequence[Queued], *, sign: bool = False) -> None:
        if self.state != "open":
            self._refuse(entries)
            return
        self._tell()
        if not entries and not sign:
            return
        try:
            self._check_room(entries)
            self._journal.commit(entries, self._now(), sign=sign)
        except Exception as error:  # whatever it is, no record may be taken for written
            self._failed(error, entries)
            return
        if sign:
            self._sealed = time.monotonic()
        self._turns.done = entries

    def _tell(self) -> None:
        self._turns.tell()

    def _check_room(self, entries: Sequence[Queued]) -> None:
        self._turns.used += cost_of(entries) // 2
        if self._turns.used > self._config.retention.size:
            self._turns.used = used(self._place.audit, self._place.recordings)
        if self._turns.used > self._config.retention.size and self._journal.file is not None:
            with contextlib.suppress(apsw.BusyError):  # a reader holds the write-ahead log: it counts as it is
                self._journal.file.settle()
            self._turns.used = used(self._place.audit, self._place.recordings)
        if self._turns.used > self._config.retention.size:
            raise _SizeLimit

    def _upkeep(self, now: float) -> None:
        """Heartbeats, new files, retention."""
        if not self._is_open():
            return
        try:
            if now >= self._beat + self._config.heartbeat:
                self._beat = now
                self._write([Entry(None, [("heartbeat", self._pulse(now))], self._now())])
            if now >= self._measured + _MEASURE:
                self._measured, self._turns.used = now, used(self._place.audit, self._place.recordings)
            if self._is_open() and now >= self._roll_at and self._file_is_over():
                self._roll_at = now + _PROBE_LAST
                self._journal.roll(self._now())
            if self._is_open() and now >= self._pruned + _PRUNE:
                self._prune()
        except Exception as error:
            self._failed(error, [])

    def _file_is_over(self) -> bool:
        file, clock = self._journal.file, self._journal.encoder.clamp(self._now())
        today = time.strftime("%Y-%m-%d", time.gmtime(clock // 1_000_000))
        return file is not None and (self._journal.created[:10] < today or file.bytes() >= self._config.database)

    def _pulse(self, now: float) -> Mapping[str, Any]:
        room = os.statvfs(self._place.audit)
        standing = self._journal.standing
        return {"uptime": round(now - self._started), "sessions": len(standing.sessions), "commands": len(standing.commands),
                "approvals": len(standing.approvals), "disk_free": room.f_bavail * room.f_frsize, "used": self._turns.used,
                "clock_behind": max(0, self._journal.encoder.last - self._now()) / 1e6}

    def _prune(self) -> None:
        """Remove sealed files whose time is over, each on record before it goes. A clock stepped forward meanwhile removes nothing."""
        self._pruned = time.monotonic()
        known = min(self._clock(), self._opened_at + self._pruned - self._started)
        for expired in self._journal.expired(int((known - self._config.retention.local) * 1e6)):
            fields = {"file": expired.path.name, "first": expired.first, "last": expired.last, "recordings": len(expired.recordings)}
            self._journal.commit([Entry(None, [("audit.pruned", fields)], self._now())], self._now())
            expired.remove()

    # ---- when it cannot be written

    def _refuse(self, entries: Sequence[Queued]) -> None:
        for entry in entries:
            if len(self._missed) < _MISSED and entry.kind in _ENDS and self.state != "closed":
                self._missed.append(entry)
        for entry in entries:
            if isinstance(entry, Entry):
                entry.value = AuditUnavailable(_refusal(self.reason))
            else:
                entry.problem = _refusal(self.reason)
        self._tell()
        self._turns.done = entries
        self._tell()

    def _failed(self, error: Exception, entries: Sequence[Queued]) -> None:
        """Stop taking records, tell everybody waiting, and leave a last note if the disk was only full."""
        full = isinstance(error, _SizeLimit | apsw.FullError) or isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        self._become("full" if full else "fenced", _named(error))
        _log.critical("audit log %s: %s", self.state, self.reason)
        self._backoff = _PROBE_FIRST
        self._probe_at = time.monotonic() + self._backoff
        waiting = [*self._turns.all_lazy(), *entries]
        self._refuse(waiting)
        if full:
            self._last_note()

    def _last_note(self) -> None:
        try:
            self._reserve.release()
            self._journal.commit([Entry(None, [("audit.degraded", {"reason": self.reason})], self._now())], self._now())
            self._journal.commit([], self._now(), sign=True)
        except Exception as error:
            _log.critical("audit log: not even the last note could be written (%s)", _named(error))

    def _probe(self) -> None:
        """Try to come back: the reserve whole, room below the limit, the tail of the log verified and synced."""
        was, reason = self.state, self.reason
        try:
            self._reserve.ensure()
            late = self._journal.reopen(self._now())
            self._check_room([])
            fields = {"was": was, "reason": reason, "missed": len(self._missed)}
            entries = [Entry(None, [("audit.restored", fields)], self._now()), *late, *self._still_due()]
            self._journal.commit(entries, self._now())
            self._journal.commit([], self._now(), sign=True)
            self._prune()
        except Exception as error:
            _log.warning("audit log still %s: %s", self.state, _named(error))
            self._backoff = min(self._backoff * 2, _PROBE_LAST)
            self._probe_at = time.monotonic() + self._backoff
            return
        self._missed = []
        self._become("open", "")
        _log.warning("audit log open again after %s", was)

    def _still_due(self) -> list[Entry]:
        """Ends that could not be written when they came, and are not on disk by another way."""
        standing, now = self._journal.standing, self._now()
        due = [record for entry in self._missed if _open_in(standing, *(record := _record_of(entry)))]
        return [Entry(None, [(kind, {**fields, "late": True})], now) for kind, fields in due]


class _SizeLimit(Exception):
    """``retention.size`` is reached."""


def _open_in(standing: Any, kind: str, fields: Mapping[str, Any]) -> bool:
    if kind == "command.end":
        return fields.get("begin") in standing.commands
    if kind == "session.end":
        return fields.get("session") in standing.sessions
    return any(fields.get(key) in standing.approvals for key in ("approval", "id"))


def _refusal(reason: str) -> str:
    return f"audit records cannot be written: {reason}"


def _record_of(entry: Queued) -> tuple[str, Mapping[str, Any]]:
    try:
        return entry.record()
    except (ValueError, TypeError):  # values that are no JSON: there is nothing to write down
        return "", {}


def _split(entries: list[Queued]) -> list[list[Queued]]:
    """Batches of bounded size, order kept."""
    if 0 < len(entries) <= BATCH_RECORDS and cost_of(entries) <= BATCH_BYTES:
        return [entries]
    batches: list[list[Queued]] = []
    room = 0
    for entry in entries:
        if not batches or entry.cost > room or len(batches[-1]) >= BATCH_RECORDS:
            batches.append([])
            room = BATCH_BYTES
        batches[-1].append(entry)
        room -= entry.cost
    return batches


def _named(error: Exception) -> str:
    """The failure in words that hold no data."""
    if isinstance(error, _SizeLimit):
        return "retention.size is reached"
    if isinstance(error, OSError):
        return os.strerror(error.errno) if error.errno else "input/output error"
    if isinstance(error, GatewayFault):
        return str(error)
    return f"{type(error).__name__}: {error}" if isinstance(error, apsw.Error) else type(error).__name__


def boot_id() -> str:
    """Which boot of the machine this is; empty where it does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
