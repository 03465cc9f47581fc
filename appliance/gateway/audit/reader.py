# SPDX-License-Identifier: Apache-2.0
"""Reading the log of a running or stopped gateway without writing to it. Nothing here trusts what it reads."""

from __future__ import annotations

import fcntl
import heapq
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from gateway.audit.files import RowError, log_files, open_for_reading, read_header, unpack
from gateway.audit.note import NoteError, parse_note
from gateway.errors import GatewayFault

_ROWS = 16
_SELECT = """SELECT CASE typeof(first) WHEN 'integer' THEN first END, CASE typeof(count) WHEN 'integer' THEN count END,
CASE typeof(body) WHEN 'blob' THEN body END FROM batch"""
_NEXT = f"{_SELECT} WHERE first > ? ORDER BY first LIMIT {_ROWS}"
_AT = f"{_SELECT} WHERE first <= ? ORDER BY first DESC LIMIT 1"
_LAST = f"{_SELECT} WHERE first < ? ORDER BY first DESC LIMIT {_ROWS}"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of ``batch`` as found: ``None`` where the column has another type than it should."""

    first: int | None
    count: int | None
    body: bytes | None

    def records(self) -> list[bytes]:
        """Raises ``RowError``."""
        if self.first is None:
            raise RowError("its number is not an integer")
        return unpack(self.count, self.body)


@dataclass(frozen=True, slots=True)
class Source:
    """One file of the log; ``first`` is where its header says it begins."""

    path: Path
    origin: str
    first: int
    header: Mapping[str, bytes]


def is_live(audit: Path) -> bool:
    """Whether a gateway, or one of its workers, holds this log. ``audit`` is ``state/audit``. Raises ``OSError``."""
    return any(_is_held(path) for path in (audit / "lock", *audit.glob("lock.*")))


def _is_held(path: Path) -> bool:
    try:
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def audit_folder(path: Path) -> Path:
    """``state/audit`` for either of ``state`` and itself."""
    return path / "audit" if (path / "audit").is_dir() else path


class LogReader:
    """Reads ``state/audit``. ``open()`` may raise ``apsw.Error`` or ``OSError``, as may every iteration."""

    def __init__(self, audit: Path) -> None:
        self.audit = audit
        self.live = is_live(audit)

    def paths(self) -> list[Path]:
        return log_files(self.audit)

    def source(self, path: Path) -> Source | None:
        """What a file says of itself; ``None`` for one that was never committed to."""
        connection = open_for_reading(path, live=self.live)
        try:
            if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()[0][0]:
                return None
            header = read_header(connection)
        finally:
            connection.close()
        first = header.get("first", b"")
        return Source(path, header.get("origin", b"").decode("utf-8", "replace"), int(first) if first.isdigit() else 0, header)

    def sources(self) -> list[Source]:
        return [source for path in self.paths() if (source := self.source(path))]

    def rows(self, path: Path, after: int = 0) -> Iterator[Row]:
        """Rows beginning after seq ``after``, a few at a time, so that a live log is never held up."""
        connection = open_for_reading(path, live=self.live)
        try:
            while found := connection.execute(_NEXT, (after,)).fetchall():
                for row in found:
                    yield Row(*row)  # type: ignore[arg-type]
                if type(found[-1][0]) is not int:
                    return
                after = found[-1][0]
        finally:
            connection.close()

    def row_at(self, path: Path, seq: int) -> Row | None:
        """The row that holds record ``seq``."""
        return self._one(path, _AT, seq)

    def _one(self, path: Path, query: str, seq: int) -> Row | None:
        connection = open_for_reading(path, live=self.live)
        try:
            found = connection.execute(query, (seq,)).fetchall()
        finally:
            connection.close()
        return Row(*found[0]) if found else None  # type: ignore[arg-type]

    def rows_backwards(self, path: Path) -> Iterator[Row]:
        """The newest rows first."""
        connection = open_for_reading(path, live=self.live)
        before = 2**62
        try:
            while found := connection.execute(_LAST, (before,)).fetchall():
                for row in found:
                    yield Row(*row)  # type: ignore[arg-type]
                if type(found[-1][0]) is not int:
                    return
                before = found[-1][0]
        finally:
            connection.close()

    def records(self, source: Source, after: int = 0) -> Iterator[tuple[int, bytes]]:
        """Records of one file with a seq above ``after``, as (seq, bytes). Raises ``GatewayFault`` on a row that cannot be read."""
        start = self.row_at(source.path, after + 1) if after else None
        for row in self.rows(source.path, start.first - 1 if start and start.first is not None else 0):
            try:
                lines = row.records()
            except RowError as error:
                raise GatewayFault(f"{source.path.name}: the row at {row.first}: {error}; run `audit verify`") from None
            yield from ((seq, line) for seq, line in enumerate(lines, row.first or 0) if seq > after)


def by_origin(sources: list[Source]) -> dict[str, list[Source]]:
    """Files of each origin, in order."""
    grouped: dict[str, list[Source]] = {}
    for source in sources:
        grouped.setdefault(source.origin, []).append(source)
    return grouped


def export(reader: LogReader, since: Mapping[str, int], *others: LogReader) -> Iterator[bytes]:
    """All records of one or more logs ordered by time, each origin complete after ``since[origin]``; bounded memory.

    Raises ``GatewayFault``.
    """
    streams = [_stream(one, files, since.get(origin, 0)) for one in (reader, *others)
               for origin, files in sorted(by_origin(one.sources()).items())]
    merged = streams[0] if len(streams) == 1 else heapq.merge(*streams, key=_time_of)
    yield from (line for line in merged)


def _stream(reader: LogReader, files: list[Source], after: int) -> Iterator[bytes]:
    for source, following in zip(files, [*files[1:], None], strict=True):
        if following is None or following.first > after + 1:
            yield from (line for _, line in reader.records(source, after))


def _time_of(line: bytes) -> str:
    return str(orjson.loads(line)["time"])


def newest_notes(reader: LogReader) -> dict[str, str]:
    """The newest signed note of each origin. Raises ``GatewayFault`` on a row that cannot be read."""
    notes: dict[str, str] = {}
    for source in reversed(reader.sources()):
        if source.origin in notes:
            continue
        note = _newest_in(reader, source.path)
        if note:
            notes[source.origin] = note
    return dict(sorted(notes.items()))


def _newest_in(reader: LogReader, path: Path) -> str | None:
    for row in reader.rows_backwards(path):
        try:
            for line in reversed(row.records()):
                record = orjson.loads(line)
                if record.get("kind") == "checkpoint":
                    parse_note(record["note"])
                    return str(record["note"])
        except (RowError, NoteError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise GatewayFault(f"{path.name}: the row at {row.first} cannot be read ({error}); run `audit verify`") from None
    return None
