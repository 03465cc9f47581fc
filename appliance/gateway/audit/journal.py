# SPDX-License-Identifier: Apache-2.0
"""The log as the writer thread sees it: entries in, durable rows out. Synchronous, one thread, no queue; raises when the disk does."""

from __future__ import annotations

import logging
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
from gateway.audit.inbox import TOO_LARGE, Entry, Queued, Value
from gateway.audit.note import raw_public
from gateway.audit.record import FORMAT, Encoder, RecordTooLarge, extra_of, fill_many, time_text, time_value
from gateway.audit.recover import Recovered, recover
from gateway.audit.space import Expired
from gateway.audit.standing import Standing, follow_many
from gateway.audit.template import Ticket
from gateway.audit.tree import Tree
from gateway.errors import AuditUnavailable, GatewayFault
from gateway.recording.store import RecordingFile, Samples

_log = logging.getLogger(__name__)
_SNAPSHOT_EVERY = 4096


@dataclass(frozen=True, slots=True)
class Place:
    """Whose log it is and where it is kept. ``mode`` is that of its files. Several processes of a gateway keep logs in one folder, each of
    its own origin: 0 is the gateway's first process, the others are its workers by their number."""

    state: Path
    origin: str
    segment: str
    digest_key: bytes
    vfs: str | None = None
    mode: int = 0o600
    worker: int = 0

    @property
    def reserve(self) -> Path:
        """The file given up to write the last records on a full disk."""
        return self.state / f"reserve{worker_suffix(self.worker)}"

    @property
    def audit(self) -> Path:
        return self.state / "audit"

    @property
    def recordings(self) -> Path:
        return self.state / "recordings"


def worker_suffix(worker: int) -> str:
    """Ends the name of what each process of a gateway has for itself."""
    return f".{worker}" if worker else ""


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

    def open(self, now: int, *, alone: bool = False) -> Recovered:
        """Find the end of the log, or begin one. ``now`` is microseconds since the epoch. Nothing is written to an existing log yet.

        ``alone``: no other process has a log in the folder now, so that a file nothing was committed to is what a crash left.
        """
        found = recover(self._place.audit, self._place.origin, self._place.vfs, self._known[0] if self._known else None, discard=alone)
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
        created = time_text(self.encoder.clamp(now))
        file = self._next_file(self._header(created))
        try:
            self._use(file, created)
            self.commit([], now, sign=True)
        except BaseException:
            file.close()
            file.path.unlink(missing_ok=True)
            self.file, self._recording, self.number, self.created = before
            raise
        self._seal(before[0], before[1])

    def _next_file(self, header: Mapping[str, bytes]) -> LogFile:
        """The first number that no other origin of the folder has taken."""
        while True:
            self.number += 1
            try:
                return LogFile.create(file_path(self._place.audit, self.number), header, self._place.vfs, self._place.mode)
            except FileExistsError:
                continue

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

    def commit(self, entries: Sequence[Queued], now: int, *, sign: bool = False) -> None:
        """Make entries durable in one row, after a checkpoint of what was there before if ``sign``.

        Each entry then has its ``value``, each ticket its ``place`` or ``problem``. Raises ``apsw.Error`` or ``OSError``, and then nothing
        is on disk.
        """
        if self.file is None or self._recording is None:
            raise GatewayFault("the audit log is not open")
        mark = self.encoder.mark()
        first, snapshot = mark[0] + 1, None
        lines: list[bytes] = []
        samples = self._recording.batch()
        try:
            if sign:
                line, snapshot = self._checkpoint(now)
                lines.append(line)
            self._encode(entries, lines, samples)
            if samples.parts:
                self._recording.append(samples.parts)
            if lines:
                self.file.append(first, lines, snapshot)
        except BaseException:
            self.encoder.rewind(mark)
            raise
        self._committed(entries, sign=sign, snapshot=snapshot, recorded=samples.end)

    def _committed(self, entries: Sequence[Queued], *, sign: bool, snapshot: bytes | None, recorded: int) -> None:
        assert self._recording is not None
        self._known = None
        self._recording.commit(recorded)
        if sign:
            self._signer.committed()
        if snapshot is not None:
            self._snapshot_at = self.encoder.tree.size
        self.dirty = bool(entries) or self.dirty and not sign
        for entry in follow_many(self.standing.commands, entries):
            self.follow(entry)

    def follow(self, entry: Queued) -> None:
        """Take a committed entry into account."""
        if isinstance(entry, Ticket):
            self.standing.follow(entry.kind, entry.place, entry.time, entry.record()[1])
        elif not isinstance(entry.value, AuditUnavailable):
            seqs = entry.value if isinstance(entry.value, list) else (entry.value or 0,)
            for seq, (kind, fields) in zip(seqs, entry.records, strict=True):
                self.standing.follow(kind, seq, entry.time, fields)

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

    def _encode(self, entries: Sequence[Queued], lines: list[bytes], samples: Samples) -> None:
        at, commands = 0, self.standing.commands
        while (at := fill_many(self.encoder, entries, at, lines, commands, samples)) < len(entries):
            entry = entries[at]
            if isinstance(entry, Ticket):
                self._one(entry, lines, samples)
            else:
                entry.value = self._all(entry, lines, samples)
            at += 1

    def _one(self, ticket: Ticket, lines: list[bytes], samples: Samples) -> None:
        try:
            lines.append(self.encoder.fill(ticket, extra_of(ticket, self.standing.commands, samples)))
        except (TypeError, ValueError) as error:
            ticket.problem = _unkept(ticket.kind, error)
            return
        ticket.place = self.encoder.tree.size
        if ticket.recording:
            samples.add(ticket.recording)

    def _all(self, entry: Entry, lines: list[bytes], samples: Samples) -> Value:
        encode = self.encoder.encode
        mark = self.encoder.mark() if len(entry.records) > 1 else None
        made: list[bytes] = []
        try:
            for kind, fields in entry.records:
                extra = self._extra(self._took(kind, fields, entry.time), entry.recording, samples)
                made.append(encode(kind, fields, entry.time, extra))
        except (TypeError, ValueError) as error:
            if mark is not None:
                self.encoder.rewind(mark)
            return AuditUnavailable(_unkept(kind, error))
        lines.extend(made)
        if entry.recording:
            samples.add(entry.recording)
        last = self.encoder.tree.size
        return list(range(last - len(made) + 1, last + 1)) if entry.together else last

    def _took(self, kind: str, fields: Mapping[str, Any], time: int) -> float | None:
        begun = self.standing.commands.get(fields.get("begin", 0)) if kind == "command.end" else None
        return None if begun is None else max(0, time - begun[0]) / 1e6

    @staticmethod
    def _extra(took: float | None, recording: bytes | None, samples: Samples) -> dict[str, Any]:
        extra: dict[str, Any] = {} if took is None else {"duration": took}
        if recording:
            extra["recording"] = samples.refer(recording)
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
        except apsw.SQLError:           # another origin's, which nothing was committed to yet
            return None
        finally:
            connection.close()
        if header.get("origin") != self._place.origin.encode():
            return None
        return path, int(header["first"]), time_value(header["created"].decode())


def _unkept(kind: str, error: Exception) -> str:
    _log.error("a record of kind %s cannot be kept: %s", kind, type(error).__name__)
    return TOO_LARGE if isinstance(error, RecordTooLarge) else "not a record the audit log can keep"


def _unknown(after: Standing, before: Standing) -> Standing:
    """What is open on disk that the gateway was never told of."""
    fresh = Standing()
    fresh.sessions = {key: value for key, value in after.sessions.items() if key not in before.sessions}
    fresh.commands = {key: value for key, value in after.commands.items() if key not in before.commands}
    fresh.approvals = {key: value for key, value in after.approvals.items() if key not in before.approvals}
    return fresh
