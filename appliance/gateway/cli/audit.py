# SPDX-License-Identifier: Apache-2.0
"""``lockgate audit export | verify | head``: read, check and anchor the audit log, of a running or a stopped gateway."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from gateway.audit.note import load_public_keys
from gateway.audit.place import kept
from gateway.audit.reader import LogReader, audit_folder, export, newest_notes
from gateway.audit.verify import Report, Trust, read_anchors, verify_export, verify_folder
from gateway.cli.options import add_config, add_json
from gateway.cli.output import emit, printable, write
from gateway.errors import ConfigError, GatewayFault

_EVERY = 0.2


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser("audit", help="export, verify and anchor the audit log", description=__doc__)
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    _register_export(verbs)
    _register_verify(verbs)
    head = verbs.add_parser("head", help="print the newest signed checkpoint: keep it elsewhere, as an anchor")
    add_config(head)
    add_json(head)
    head.set_defaults(run=run_head)


def _register_export(verbs: Any) -> None:
    parser = verbs.add_parser("export", help="print all records as JSON lines, ordered by time")
    parser.add_argument("--since", action="append", default=[], metavar="ORIGIN:SEQ",
                        help="only what comes after SEQ of that origin (and everything of the others); may be given again")
    add_config(parser)
    add_json(parser)
    parser.set_defaults(run=run_export)


def _register_verify(verbs: Any) -> None:
    parser = verbs.add_parser("verify", help="check that nothing was changed, removed, added or reordered",
                              description="Exit status: 0 intact, 1 tampered, 2 incomplete or unreadable.")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE",
                        help="what `audit export` printed, or a copy of the state folder (default: the log of --config)")
    parser.add_argument("--anchor", action="append", default=[], type=Path, metavar="FILE",
                        help="what `audit head` printed earlier, kept elsewhere; may be given again")
    parser.add_argument("--key", action="append", default=[], type=Path, metavar="FILE",
                        help="public keys that may sign, one a line (default: those of --config); may be given again")
    parser.add_argument("--recordings", type=Path, metavar="DIR", help="recordings that belong to FILE")
    add_config(parser)
    add_json(parser)
    parser.set_defaults(run=run_verify)


def run_export(args: argparse.Namespace) -> int:
    """JSON lines on standard output, with or without ``--json``."""
    since = dict(_since(text) for text in args.since)
    reader, *others = _readers(args)
    out = sys.stdout.buffer
    with _reading(reader.audit):
        for line in export(reader, since, *others):
            out.write(line + b"\n")
    out.flush()
    return 0


def _since(text: str) -> tuple[str, int]:
    origin, colon, seq = text.rpartition(":")
    if not colon or not origin or not (seq.isascii() and seq.isdigit()):
        raise ConfigError(f"--since {text}: expected ORIGIN:SEQ")
    return origin, int(seq)


def run_head(args: argparse.Namespace) -> int:
    """The newest signed note of each origin."""
    notes: dict[str, str] = {}
    readers = _readers(args)
    for reader in readers:
        with _reading(reader.audit):
            notes |= newest_notes(reader)
    if not notes:
        raise GatewayFault(f"{readers[0].audit}: there is no checkpoint yet")
    if args.json:
        emit(args, ({"origin": origin, "note": note} for origin, note in notes.items()), str)
    else:
        write("\n".join(notes.values()).rstrip("\n"))
    return 0


def run_verify(args: argparse.Namespace) -> int:
    """Exit status 0 intact, 1 tampered, 2 incomplete or unreadable."""
    keys = tuple(key for path in args.key for key in load_public_keys(path)) or _configured_keys(args)
    anchors = [anchor for path in args.anchor for anchor in read_anchors(_text(path), keys, str(path))]
    trust = Trust(keys, tuple(anchors))
    with _progress() as progress:
        if args.file is None:
            first, *others = kept(args.config).logs
            report = verify_folder(first, trust, progress, others)
        else:
            report = _verify(args.file, trust, args.recordings, progress)
    emit(args, report.document(), lambda _: _lines(report))
    return report.status


def _configured_keys(args: argparse.Namespace) -> tuple[bytes, ...]:
    try:
        return kept(args.config).public_keys()
    except ConfigError as problem:
        raise ConfigError(f"{problem}\nwithout the gateway's configuration the public key is needed: --key FILE") from None


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > 2**20:
            raise ConfigError(f"{path}: too long; expected what `audit head` printed")
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({type(error).__name__}); expected what `audit head` printed") from None


def _verify(place: Path, trust: Trust, recordings: Path | None, progress: Callable[[int], None]) -> Report:
    if place.is_dir():
        return verify_folder(audit_folder(place), trust, progress)
    try:
        with place.open("rb") as file:
            return verify_export(file, place.name, trust, recordings, progress)
    except OSError as error:
        report = Report()
        report.incomplete.append(f"{place}: {error.strerror}")
        return report


def _lines(report: Report) -> Iterator[str]:
    for origin, said in report.origins.items():
        yield (f"{printable(origin)}: records {said['first']} to {said['last']}, {said['checkpoints']} checkpoints, "
               f"{said['recordings']} recordings")
        if said["vouched_time"]:
            yield f"  vouched for up to record {said['vouched']} by the checkpoint of {said['vouched_time']}, signed with {said['key']}"
        if said["unsealed"] and not report.findings:
            yield f"  {said['unsealed']} records after it are not covered by a signature yet"
        if said["anchored"] is not None:
            yield f"  compared with the anchor of {said['anchored_time']}, which covers records 1 to {said['anchored']}"
    for note in report.notes:
        yield f"  note: {printable(note)}"
    for problem in report.incomplete:
        yield f"  INCOMPLETE {printable(problem)}"
    for finding in report.findings:
        yield f"  TAMPERED {printable(str(finding))}"
    if report.more:
        yield f"  … and {report.more} more"
    yield report.verdict


def _readers(args: argparse.Namespace) -> list[LogReader]:
    """The gateway's log first."""
    found = []
    for audit in kept(args.config).logs:
        with _reading(audit):
            found.append(LogReader(audit))
    return found


@contextmanager
def _reading(audit: Path) -> Iterator[None]:
    """Trouble of the disk in words. Raises ``GatewayFault``."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise GatewayFault(f"{error.filename or audit}: {error.strerror}") from None
    except apsw.Error as error:
        raise GatewayFault(f"{audit}: cannot be read ({type(error).__name__}); run `audit verify`") from None


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Counts records on a terminal's standard error."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    count, shown = 0, time.monotonic()

    def step(records: int) -> None:
        nonlocal count, shown
        count += records
        if time.monotonic() - shown > _EVERY:
            shown = time.monotonic()
            sys.stderr.write(f"\r{count} records")
            sys.stderr.flush()

    yield step
    sys.stderr.write("\r\x1b[K")
    sys.stderr.flush()
