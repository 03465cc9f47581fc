# SPDX-License-Identifier: Apache-2.0
"""``audit verify``: whether a log is what the gateway wrote, where it is not, and how far that can be said.

Trusts the bytes of records, the public keys and the anchors it is given, nothing else. Everything odd is a finding, never a crash.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import apsw
import orjson

from gateway.audit.chain import Chain, Finding
from gateway.audit.checkpoint import Checkpoint, parse_checkpoint
from gateway.audit.files import RowError
from gateway.audit.note import Note, NoteError, parse_notes, verified
from gateway.audit.reader import LogReader, Source, by_origin
from gateway.audit.record import MAX_RECORD
from gateway.errors import ConfigError

_FINDINGS = 100
Progress = Callable[[int], None]


@dataclass(slots=True)
class Report:
    """``findings`` are tampering, ``incomplete`` is what could not be looked at, ``notes`` is what an auditor should know."""

    origins: dict[str, dict[str, Any]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    more: int = 0

    @property
    def status(self) -> int:
        """0 intact, 1 tampered, 2 incomplete or unreadable."""
        return 1 if self.findings else 2 if self.incomplete else 0

    @property
    def verdict(self) -> str:
        return ("intact", "tampered", "incomplete")[self.status]

    def find(self, finding: Finding) -> None:
        if len(self.findings) < _FINDINGS:
            self.findings.append(finding)
        else:
            self.more += 1

    def document(self) -> dict[str, Any]:
        """As printed with ``--json``."""
        found = [{"origin": f.origin, "seq": f.seq, "file": f.file, "what": f.what} for f in self.findings]
        return {"verdict": self.verdict, "origins": self.origins, "findings": found, "more_findings": self.more,
                "incomplete": self.incomplete, "notes": self.notes}


@dataclass(frozen=True, slots=True)
class Trust:
    """Public keys (32 bytes each) that may sign for the gateway, and checkpoints kept elsewhere."""

    keys: tuple[bytes, ...]
    anchors: tuple[Checkpoint, ...] = ()


def read_anchors(data: str, keys: Sequence[bytes], name: str) -> tuple[Checkpoint, ...]:
    """The checkpoints of an anchor file. Raises ``ConfigError`` for one that none of the keys signed: it would prove nothing."""
    try:
        return tuple(_anchor(note, keys) for note in parse_notes(data))
    except NoteError as error:
        raise ConfigError(f"{name}: {error}; expected what `audit head` printed") from None


def _anchor(note: Note, keys: Sequence[bytes]) -> Checkpoint:
    checkpoint = parse_checkpoint(note)
    if not any(verified(note, checkpoint.origin, key) for key in keys):
        raise NoteError(f"the checkpoint of {checkpoint.origin} is not signed by a key that was given")
    return checkpoint


def verify_folder(audit: Path, trust: Trust, progress: Progress = lambda _: None, others: Sequence[Path] = ()) -> Report:
    """Verify ``state/audit`` with ``state/recordings`` beside it, of a gateway that runs or not, and ``others`` like it. Never writes."""
    logs = (audit, *others)
    before = any(map(_live, logs))
    report = _verify_folders(logs, trust, progress)
    if report.status == 1 and (before or any(map(_live, logs))):
        return _verify_folders(logs, trust, progress)  # a gateway at work may have begun or sealed a file under our eyes: look again
    return report


def _verify_folders(logs: Sequence[Path], trust: Trust, progress: Progress) -> Report:
    report = Report()
    for audit in logs:
        _verify_folder(report, audit, trust, progress)
    _absent(report, trust)
    return report


def _live(audit: Path) -> bool:
    try:
        return LogReader(audit).live
    except OSError:
        return False


def _verify_folder(report: Report, audit: Path, trust: Trust, progress: Progress) -> None:
    try:
        reader = LogReader(audit)
        paths = reader.paths()
    except OSError as error:
        report.incomplete.append(f"{audit}: {error.strerror}")
        return
    sources = [source for path in paths if (source := _source(reader, path, report))]
    for origin, files in by_origin(sources).items():
        chain = Chain(origin, trust.keys, trust.anchors, report.find, _recordings(audit))
        for source in files:
            _feed_file(chain, reader, source, report, progress)
        _conclude(report, chain, complete=True)


def _recordings(audit: Path) -> Path | None:
    """``None`` where they are not for this user: what was on the screen of a console session is root's alone."""
    folder = audit.parent / "recordings"
    try:
        mine = folder.stat().st_uid == os.geteuid()
    except OSError:
        return folder
    return folder if mine or os.access(folder, os.R_OK | os.X_OK) else None


def _source(reader: LogReader, path: Path, report: Report) -> Source | None:
    try:
        return reader.source(path)
    except (apsw.Error, OSError) as error:
        _unreadable(report, path, "?", 0, error)
    return None


def _feed_file(chain: Chain, reader: LogReader, source: Source, report: Report, progress: Progress) -> None:
    try:
        for row in reader.rows(source.path):
            try:
                lines = row.records()
            except RowError as error:
                chain.lost(source.path.name, f"the row at {row.first}: {error}")
                continue
            chain.row(row.first or 0, source.path.name)
            for line in lines:
                chain.feed(line, source.path.name)
            progress(len(lines))
    except (apsw.Error, OSError) as error:
        _unreadable(report, source.path, chain.origin, chain.next, error)
        chain.skip()


def _unreadable(report: Report, path: Path, origin: str, seq: int, error: Exception) -> None:
    """What may be damage is a finding; what may be a missing right or a busy file is not."""
    if isinstance(error, apsw.CorruptError | apsw.NotADBError | apsw.SQLError | apsw.FormatError):
        report.find(Finding(origin, seq, path.name, f"not the database it was ({type(error).__name__})"))
    elif not path.exists():
        report.incomplete.append(f"{path.name}: removed while it was read")
    else:
        report.incomplete.append(f"{path.name}: cannot be read ({type(error).__name__})")


def verify_export(file: BinaryIO, name: str, trust: Trust, recordings: Path | None = None, progress: Progress = lambda _: None) -> Report:
    """Verify what ``audit export`` printed. Without ``recordings`` the recordings that records name are not looked at."""
    report = Report()
    chains: dict[str, Chain] = {}
    for number, line in _lines(file):
        where = f"{name}:{number}"
        origin = _origin(line)
        if origin is None:
            report.find(Finding("?", 0, where, "not a record"))
            continue
        if origin not in chains:
            chains[origin] = Chain(origin, trust.keys, trust.anchors, report.find, recordings)
        chains[origin].feed(line, where)
        progress(1)
    for chain in chains.values():
        _conclude(report, chain, complete=False)
    _absent(report, trust)
    return report


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(MAX_RECORD + 2):
        number += 1
        yield number, line.removesuffix(b"\n")


def _origin(line: bytes) -> str | None:
    try:
        origin = orjson.loads(line)["origin"]
    except (ValueError, KeyError, TypeError):
        return None
    return origin if isinstance(origin, str) else None


def _conclude(report: Report, chain: Chain, *, complete: bool) -> None:
    """What is known after the last record. ``complete``: everything that is kept was looked at, so what is missing was removed."""
    report.origins[chain.origin] = chain.finish()
    said = f"{chain.origin}: "
    if chain.begins > 1 and chain.pruned < chain.begins - 1:
        missing = f"records 1 to {chain.begins - 1} are not there"
        if complete:
            report.find(Finding(chain.origin, 1, "", f"{missing}, and no record says that their time was over"))
        else:
            report.incomplete.append(f"{said}{missing}")
    elif chain.begins > 1:
        report.notes.append(f"{said}records 1 to {chain.begins - 1} were removed when their time was over")
    if chain.unproved:
        report.incomplete.append(f"{said}{chain.unproved} records before the first checkpoint with peaks cannot be proved")
    if not chain.checkpoints:
        report.incomplete.append(f"{said}no checkpoint, so nothing vouches for its records")
    if chain.unseen_recordings:
        why = "not part of this file, or not for this user to read"
        report.notes.append(f"{said}{chain.unseen_recordings} recordings are named but {why}: not looked at")
    for seq, why in chain.resets[1:] if chain.begins == 1 else chain.resets:
        report.notes.append(f"{said}the chain of one-time keys begins anew at checkpoint {seq} ({why})")
    if not chain.given:
        report.notes.append(f"{said}no anchor given: a tail cut off at a checkpoint, or a log put back to an older state, cannot be seen")
    report.notes.extend(said + note for note in chain.notes)


def _absent(report: Report, trust: Trust) -> None:
    for anchor in trust.anchors:
        if anchor.origin not in report.origins:
            report.find(Finding(anchor.origin, anchor.size, "", f"no records, but the anchor says there are {anchor.size}"))
    if not report.origins and not report.findings and not report.incomplete:
        report.incomplete.append("there are no records")
