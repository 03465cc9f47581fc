# SPDX-License-Identifier: Apache-2.0
"""The log as the writer thread sees it: entries in, durable rows out. Synchronous, one thread, no queue; raises when the disk does."""

from __future__ import annotations

import logging
from asyncio import Future
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import apsw
import orjson
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit.checkpoint import Signer
from gateway.audit.files import LogFile, file_number, file_path, log_files, open_for_reading, read_header
from gateway.audit.note import raw_public
from gateway.audit.record import FORMAT, Encoder, RecordTooLarge, time_text, time_value
from gateway.audit.recover import Recovered, recover
from gateway.audit.space import Expired
from gateway.audit.standing import Standing
from gateway.audit.template import Ticket
from gateway.audit.tree import Tree
from gateway.errors import AuditUnavailable, GatewayFault
from gateway.recording.store import RecordingFile

_log = logging.getLogger(__name__)
_SNAPSHOT_EVERY = 4096
Value = int | list[int] | AuditUnavailable


class Entry:
    """One call of ``record`` or ``record_together`` on its way to the disk. ``time`` is microseconds since the epoch."""

    __slots__ = ("cost", "future", "lazy", "recording", "records", "time", "together")

    def __init__(self, future: Future[Any] | None, records: Sequence[tuple[str, Mapping[str, Any]]], time: int, *,
                 recording: bytes | None = None, cost: int = 0, lazy: bool = False, together: bool = False) -> None:
        self.future, self.records, self.time, self.recording = future, records, time, recording
        self.cost, self.lazy, self.together = cost, lazy, together

    @property
    def kind(self) -> str:
        """The kind of the first record."""
        return self.records[0][0]

    def record(self) -> tuple[str, Mapping[str, Any]]:
        """The first record."""
        return self.records[0]


Queued = Entry | Ticket

@dataclass(frozen=True, slots=True)
class Place:
    """Whose log it is and where it is kept. ``mode`` is that of its files."""

    state: Path
    origin: str
    segment: str
    digest_key: bytes
    vfs: str | None = None
    mode: int = 0o600

    @property
    def audit(self) -> Path:
        return self.state / "audit"

    @property
    def recordings(self) -> Path:
        return self.state / "recordings"


class Journal:
    """``dirty``: records since the last checkpoint. ``encoder`` and ``standing`` describe what is on disk, nothing else."""

    def __init__(self, place: Place, key: Ed25519PrivateKey) -> None:
        self._place, self._key = place, key
        self._signer = Signer(place.origin, key)
        self.encoder = Encoder(place.origin, place.segment, place.digest_key)
        self.standing = Standing()
        self.file: LogFile | None = None
        self.number, self.created, self.dirty = 0, "", False
        self._recording: RecordingFile | None = None
        self._snapshot_at = -_SNAPSHOT_EVERY
        self._known: tuple[Tree, Standing] | None = None

    def open(self, now: int) -> Recovered:
        """Find the end of the log, or begin one. ``now`` is microseconds since the epoch. Nothing is written to an existing log yet."""
        found = recover(self._place.audit, self._place.origin, self._place.vfs, self._known[0] if self._known else None)
        self.encoder.tree, self.encoder.prev, self.encoder.last = found.tree, found.prev, found.last
        self.standing, self.number, self.dirty = found.standing, found.number, found.unsealed > 0
        self._signer = Signer(self._place.origin, self._key)
        self._snapshot_at = found.tree.size
        if found.file is None:
            self.roll(now)
        else:
            self._use(found.file, found.created)
        return found

    def reopen(self, now: int) -> list[Entry]:
        """After a failure: open again, check that every acknowledged record is there and synced; gives the entries that close what was
        begun on disk but never acknowledged. Raises ``GatewayFault``, ``apsw.Error`` or ``OSError``."""
        if self._known is None:
            self._known = (self.encoder.tree.copy(), self.standing)
        self.abandon()
        found = self.open(now)
        if self.file is not None:
            self.file.settle()
        late = [Entry(None, [record], now) for record in _unknown(found.standing, self._known[1]).leftovers()]
        return late

    def _use(self, file: LogFile, created: str) -> None:
        self.file, self.created = file, created
        self._recording = RecordingFile(self._place.recordings, f"{created[:10]}/{self.number:06d}.rec")

    def abandon(self) -> None:
        """Close without touching the disk more than closing does."""
        if self._recording is not None:
            self._recording.close()
        if self.file is not None:
            try:
                self.file.close()
            except apsw.Error as error:
                _log.warning("closing %s: %s", self.file.path.name, type(error).__name__)
        self.file = self._recording = None

    def roll(self, now: int) -> None:
        """Begin a new file; its first record is a checkpoint over everything before it. The old one is sealed once that is on disk."""
        before = (self.file, self._recording, self.number, self.created)
        self.number += 1
        created = time_text(self.encoder.clamp(now))
        file = LogFile.create(file_path(self._place.audit, self.number), self._header(created), self._place.vfs, self._place.mode)
        try:
            self._use(file, created)
            self.commit([], now, sign=True)
        except BaseException:
            file.close()
            file.path.unlink(missing_ok=True)
            self.file, self._recording, self.number, self.created = before
            raise
        self._seal(before[0], before[1])

    def _header(self, created: str) -> dict[str, bytes]:
        values = {"format": FORMAT, "origin": self._place.origin, "segment": self._place.segment, "created": created,
                  "first": str(self.encoder.tree.size + 1)}
        return {key: value.encode() for key, value in values.items()} | {"key": raw_public(self._key.public_key())}

    def _seal(self, file: LogFile | None, recording: RecordingFile | None) -> None:
        if recording is not None:
            recording.close()
        if file is None:
            return
        try:
            file.seal()
        except apsw.Error as error:
            _log.warning("sealing %s: %s; it stays complete with its write-ahead log", file.path.name, type(error).__name__)
            file.close()

    def seal(self) -> None:
        """A clean end."""
        self._seal(self.file, self._recording)
        self.file = self._recording = None

    def commit(self, entries: Sequence[Queued], now: int, *, sign: bool = False) -> list[tuple[Queued, Value]]:
        """Make entries durable in one row, after a checkpoint of what was there before if ``sign``.

        Gives what each future gets. Raises ``apsw.Error`` or ``OSError``, and then nothing has changed.
        """
        if self.file is None or self._recording is None:
            raise GatewayFault("the audit log is not open")
        mark = self.encoder.mark()
        first, snapshot = mark[0] + 1, None
        lines: list[bytes] = []
        parts: list[bytes] = []
        try:
            if sign:
                line, snapshot = self._checkpoint(now)
                lines.append(line)
            done = [(entry, self._line(entry, lines, parts)) for entry in entries]
            if parts:
                self._recording.append(parts)
            if lines:
                self.file.append(first, lines, snapshot)
        except BaseException:
            self.encoder.rewind(mark)
            raise
        self._committed(done, sign=sign, snapshot=snapshot, recorded=sum(map(len, parts)))
        return done

    def _committed(self, done: list[tuple[Queued, Value]], *, sign: bool, snapshot: bytes | None, recorded: int) -> None:
        assert self._recording is not None
        self._known = None
        self._recording.commit(recorded)
        if sign:
            self._signer.committed()
        if snapshot is not None:
            self._snapshot_at = self.encoder.tree.size
        self.dirty = False if sign and not done else self.dirty or bool(done)
        follow = self.standing.follow
        for entry, value in done:
            if isinstance(value, AuditUnavailable):
                continue
            seqs = value if isinstance(value, list) else (value,)
            if isinstance(entry, Ticket):
                self.standing.fill(entry, seqs[0])
                continue
            for seq, (kind, fields) in zip(seqs, entry.records, strict=True):
                follow(kind, seq, entry.time, fields)

    def _checkpoint(self, now: int) -> tuple[bytes, bytes | None]:
        """The checkpoint record, and what is open where the log can be picked up again from here."""
        moment = self.encoder.clamp(now)
        fields: dict[str, Any] = {"note": self._signer.sign(self.encoder.tree, time_text(moment))}
        snapshot = None
        if self._fresh() or self.encoder.tree.size - self._snapshot_at >= max(_SNAPSHOT_EVERY, 8 * len(self.standing)):
            fields["peaks"] = [peak.hex() for peak in self.encoder.tree.peaks]
            snapshot = zstandard.compress(orjson.dumps(self.standing.to_json()), 1)
        return self.encoder.encode("checkpoint", fields, moment), snapshot

    def _fresh(self) -> bool:
        return self.file is not None and self.file.fresh

    def _line(self, entry: Queued, lines: list[bytes], parts: list[bytes]) -> Value:
        return self._fill(entry, lines, parts) if isinstance(entry, Ticket) else self._encode(entry, lines, parts)

    def _fill(self, ticket: Ticket, lines: list[bytes], parts: list[bytes]) -> Value:
        try:
            line = self.encoder.fill(ticket, self._extra_of(ticket, parts))
        except (TypeError, ValueError) as error:
            return _unkept(ticket.kind, error)
        lines.append(line)
        if ticket.recording:
            parts.append(ticket.recording)
        return self.encoder.tree.size

    def _extra_of(self, ticket: Ticket, parts: list[bytes]) -> dict[str, Any] | None:
        begin = ticket.template.begin
        number = ticket.values[begin] if 0 <= begin < len(ticket.values) else b""
        begun = self.standing.commands.get(int(number)) if number.isdigit() and len(number) <= 18 else None
        if begun is None and not ticket.recording:
            return None
        return self._extras(begun, ticket.time, ticket.recording, parts)

    def _encode(self, entry: Entry, lines: list[bytes], parts: list[bytes]) -> Value:
        encode = self.encoder.encode
        mark = self.encoder.mark() if len(entry.records) > 1 else None
        made: list[bytes] = []
        try:
            for kind, fields in entry.records:
                made.append(encode(kind, fields, entry.time, self._extra(kind, fields, entry, parts)))
        except (TypeError, ValueError) as error:
            if mark is not None:
                self.encoder.rewind(mark)
            return _unkept(kind, error)
        lines.extend(made)
        if entry.recording:
            parts.append(entry.recording)
        last = self.encoder.tree.size
        return list(range(last - len(made) + 1, last + 1)) if entry.together else last

    def _extra(self, kind: str, fields: Mapping[str, Any], entry: Entry, parts: list[bytes]) -> dict[str, Any] | None:
        begun = self.standing.commands.get(fields.get("begin", 0)) if kind == "command.end" else None
        return self._extras(begun, entry.time, entry.recording, parts) or None

    def _extras(self, begun: tuple[int, Any] | None, time: int, recording: bytes | None, parts: list[bytes]) -> dict[str, Any]:
        extra: dict[str, Any] = {}
        if begun:
            extra["duration"] = max(0, time - begun[0]) / 1e6
        if recording:
            assert self._recording is not None
            extra["recording"] = self._recording.refer(recording, self._recording.end + sum(map(len, parts)))
        return extra

    def expired(self, horizon: int) -> list[Expired]:
        """Sealed files of this origin whose last record is older than ``horizon`` (microseconds), oldest first."""
        found: list[Expired] = []
        spans = [span for path in log_files(self._place.audit) if (span := self._span(path))]
        for (path, first, _), (_, after, created) in pairwise(spans):
            if created >= horizon:
                break
            recordings = tuple(self._place.recordings.glob(f"*/{file_number(path):06d}.rec"))
            found.append(Expired(path, first, after - 1, recordings))
        return found

    def _span(self, path: Path) -> tuple[Path, int, int] | None:
        connection = open_for_reading(path, live=True)
        try:
            header = read_header(connection)
        finally:
            connection.close()
        if header.get("origin") != self._place.origin.encode():
            return None
        return path, int(header["first"]), time_value(header["created"].decode())


def _unkept(kind: str, error: Exception) -> AuditUnavailable:
    _log.error("a record of kind %s cannot be kept: %s", kind, type(error).__name__)
    large = isinstance(error, RecordTooLarge)
    return AuditUnavailable("too large for the audit log" if large else "not a record the audit log can keep")


def _unknown(after: Standing, before: Standing) -> Standing:
    """What is open on disk that the gateway was never told of."""
    fresh = Standing()
    fresh.sessions = {key: value for key, value in after.sessions.items() if key not in before.sessions}
    fresh.commands = {key: value for key, value in after.commands.items() if key not in before.commands}
    fresh.approvals = {key: value for key, value in after.approvals.items() if key not in before.approvals}
    return fresh
