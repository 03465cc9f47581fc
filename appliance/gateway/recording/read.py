# SPDX-License-Identifier: Apache-2.0
"""``Archive``: what was done, read from the log through the index. The console and the command line answer from it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import orjson

from gateway.audit.files import RowError
from gateway.audit.reader import LogReader, Source, by_origin, newest_notes
from gateway.audit.record import time_value
from gateway.errors import ConfigError, GatewayFault
from gateway.recording import terminal
from gateway.recording.index import Index
from gateway.recording.store import read_recording

Document = dict[str, Any]
_SHORTEST_INDEXED = 3
_MOST_RECORDED = 64 * 2**20
"""Bytes of recordings, packed as they are kept, that are read for one session."""


class Archive:
    """Reads ``state`` of a running or a stopped gateway; writes nothing but the index. Every call may block: make it in a thread.

    All raise ``GatewayFault`` where log or index cannot be read.
    """

    def __init__(self, state: Path) -> None:
        self._state = state
        self._lock = threading.Lock()

    def sessions(self, limit: int = 100, *, identity: str | None = None, resource: str | None = None,
                 open_only: bool = False) -> list[Document]:
        """The newest sessions first: id, start, end, duration (seconds), identity, resource, counts, state, …"""
        wanted = [("identity = ?", identity), ("resource = ?", resource), ("end IS NULL OR ? IS NULL", "" if open_only else None)]
        given = [(clause, value) for clause, value in wanted if value is not None]
        where = " AND ".join(f"({clause})" for clause, _ in given) or "1"
        with self._index() as (index, reader):
            query = f"SELECT * FROM sessions WHERE {where} ORDER BY start DESC, id LIMIT ?"  # noqa: S608 - clauses from above
            rows = index.database.query(query, [*(value for _, value in given), limit])
            return [_session(row, live=reader.live) for row in rows]

    def resolve(self, prefix: str) -> str:
        """The one session id that begins so. Raises ``ConfigError`` when there is none, or more than one."""
        found = self._matching(prefix)
        if len(found) != 1:
            several = f"{len(found)} or more sessions begin with {prefix!r}: give more of the id" if found else f"no session {prefix!r}"
            raise ConfigError(several)
        return found[0]

    def _matching(self, prefix: str) -> list[str]:
        with self._index() as (index, _):
            rows = index.database.query("SELECT id FROM sessions WHERE substr(id, 1, ?) = ? ORDER BY id != ?, id LIMIT 3",
                                        [len(prefix), prefix, prefix])
            found = [str(row["id"]) for row in rows]
        return found[:1] if prefix in found else found

    def session(self, session_id: str) -> Document | None:
        """One session with how it began (subject, token id, claims) and its commands in short; ``None`` unless exactly one begins so."""
        found = self._matching(session_id)
        if len(found) != 1:
            return None
        with self._index() as (index, reader):
            row = next(index.database.query("SELECT * FROM sessions WHERE id = ?", [found[0]]))
            events = [record for _, record in self._records(index, reader, found[0])]
        start = next((event for event in events if event.get("kind") == "session.start"), {})
        shown = {key: start.get(key) for key in ("issuer", "subject", "token_id", "groups", "claims", "claimed", "policy") if key in start}
        return _session(row, live=reader.live) | shown | {"list": _commands(events)}

    def events(self, session_id: str) -> list[Document]:
        """Its records in order; those with a sample of the masked result, or a part of what a terminal showed, carry it as
        ``sample`` (or ``sample_error``)."""
        found = self._matching(session_id)
        if len(found) != 1:
            return []
        with self._index() as (index, reader):
            room, made = _MOST_RECORDED, list[Document]()
            for _, record in self._records(index, reader, found[0]):
                room -= _length(record)
                made.append(self._with_sample(record) if room >= 0 else record | {"sample_error": "not read: the session has too many"})
            return made

    def search(self, text: str, limit: int = 100) -> list[Document]:
        """Records that contain ``text`` (no matter the case), newest first."""
        if len(text) >= _SHORTEST_INDEXED:
            clause, value = "words MATCH ?", '"' + text.replace('"', '""').replace("\0", " ") + '"'
        else:
            clause, value = "instr(lower(content), lower(?)) > 0", text
        rowids = f"SELECT rowid FROM words WHERE {clause}"  # noqa: S608 - one of the two clauses above
        query = f"SELECT origin, seq FROM events WHERE rowid IN ({rowids}) ORDER BY time DESC, seq DESC LIMIT ?"  # noqa: S608
        with self._index() as (index, reader):
            places = [(str(row["origin"]), int(row["seq"])) for row in index.database.query(query, [value, limit])]
            return [record for _, record in _at(reader, places)]

    def head(self) -> str:
        """The newest signed note (of every origin, one after the other). Raises ``GatewayFault`` where there is none."""
        with _readable(self._state):
            notes = newest_notes(LogReader(self._state / "audit"))
        if not notes:
            raise GatewayFault("there is no checkpoint yet")
        return "\n".join(notes.values())

    def _records(self, index: Index, reader: LogReader, session: str) -> list[tuple[int, Document]]:
        rows = index.database.query("SELECT origin, seq FROM events WHERE session = ? ORDER BY origin, seq", [session])
        return _at(reader, [(str(row["origin"]), int(row["seq"])) for row in rows])

    def _with_sample(self, record: Document) -> Document:
        if "recording" not in record:
            return record
        try:
            return record | {"sample": _decoded(read_recording(self._state / "recordings", record["recording"]))}
        except (ValueError, OSError) as error:
            return record | {"sample_error": str(error) if isinstance(error, ValueError) else "cannot be read"}

    @contextmanager
    def _index(self) -> Iterator[tuple[Index, LogReader]]:
        with self._lock, _readable(self._state):
            reader = LogReader(self._state / "audit")
            index = Index(self._state, reader)
            try:
                index.update()
                yield index, reader
            finally:
                index.close()


@contextmanager
def _readable(state: Path) -> Iterator[None]:
    try:
        yield
    except (apsw.Error, sqlite3.Error, RowError) as error:
        raise GatewayFault(f"{state}: the log or its index cannot be read ({type(error).__name__}: {error})") from None
    except OSError as error:
        raise GatewayFault(f"{error.filename or state}: {error.strerror}") from None


def _at(reader: LogReader, places: list[tuple[str, int]]) -> list[tuple[int, Document]]:
    """The records at these places, in the order asked for; rows next to each other are unpacked once."""
    files = by_origin(reader.sources())
    found: list[tuple[int, Document]] = []
    kept: tuple[str, int, list[bytes]] = ("", 0, [])
    for origin, seq in places:
        if kept[0] != origin or not kept[1] <= seq < kept[1] + len(kept[2]):
            kept = (origin, *_row(reader, files.get(origin, []), seq))
        if kept[1] <= seq < kept[1] + len(kept[2]):
            found.append((seq, orjson.loads(kept[2][seq - kept[1]])))
    return found


def _row(reader: LogReader, files: list[Source], seq: int) -> tuple[int, list[bytes]]:
    holder = next((source for source in reversed(files) if source.first <= seq), None)
    row = reader.row_at(holder.path, seq) if holder else None
    return (row.first or 0, row.records()) if row else (0, [])


def _length(record: Mapping[str, Any]) -> int:
    reference = record.get("recording")
    length = reference.get("length") if isinstance(reference, dict) else 0
    return length if type(length) is int and length > 0 else 0


def _decoded(data: bytes) -> Any:
    """Raises ``ValueError`` for a part of a terminal's recording that is broken."""
    if data.startswith(terminal.MAGIC):
        return {"terminal": terminal.listed(terminal.decode(data))}
    try:
        return orjson.loads(data)
    except ValueError:
        return data.decode("utf-8", "replace")


def _session(row: Mapping[str, Any], *, live: bool) -> Document:
    """``state`` is open, ended, or unfinished: no gateway runs that it could be open in."""
    end = row["end"]
    taken = (time_value(end) - time_value(row["start"])) / 1e6 if end else None
    return {**row, "duration": taken, "state": "ended" if end else "open" if live else "unfinished"}


def _commands(events: list[Document]) -> list[Document]:
    """Each command in short, with how it ended."""
    ends = {event.get("begin"): event for event in events if event.get("kind") == "command.end"}
    short: list[Document] = []
    for event in events:
        if event.get("kind") != "command.begin":
            continue
        end = ends.get(event.get("seq"), {})
        decision = event.get("decision") or {}
        short.append({"seq": event.get("seq"), "time": event.get("time"), "verb": event.get("verb"), "objects": event.get("objects"),
                      **({"operations": event["operations"]} if "operations" in event else {}),
                      "effect": decision.get("effect"), "rules": decision.get("rules"), "approval": event.get("approval"),
                      "text": event.get("text"), "status": end.get("status"), "rows": end.get("rows"), "masked": end.get("masked"),
                      "error": end.get("error"), "duration": end.get("duration")})
    return short
