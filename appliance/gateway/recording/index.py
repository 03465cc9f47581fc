# SPDX-License-Identifier: Apache-2.0
"""``state/index/index.db``: which sessions there were, where their records are, and the text to search. Derived from the log by
sqlite-utils, brought up to date before each reading, never trusted for what a record says, and free to be deleted at any time."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from sqlite_utils import Database

from gateway.audit.reader import LogReader, Source, by_origin

_VERSION = 1
_UNSEARCHED = ("checkpoint", "heartbeat")
_CHUNK = 2000
_SEARCHED = ("text", "reason", "error", "id", "voter", "identity", "resource", "session", "subject", "verb")
_SESSION = ("identity", "issuer", "owner", "resource", "protocol", "source", "database")


class _Moved(Exception):
    """The index was brought forward by somebody else meanwhile."""


class Index:
    """One connection; use in one thread. ``state`` is the state folder; in memory where its ``index`` cannot be written."""

    def __init__(self, state: Path, reader: LogReader) -> None:
        self._state, self._reader = state, reader
        self.database = self._open()

    def _open(self) -> Database:
        path = self._state / "index" / "index.db"
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            return self._opened(path)
        except sqlite3.DatabaseError as error:
            if "readonly" in str(error) or "unable to open" in str(error):
                return self._prepared(Database(memory=True))
            path.unlink(missing_ok=True)
            return self._opened(path)
        except OSError:
            return self._prepared(Database(memory=True))

    def _opened(self, path: Path) -> Database:
        database = Database(sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False))
        try:
            self._prepared(database)
        except sqlite3.Error:
            database.close()
            raise
        path.chmod(0o600)
        _same_owner(path.parent, self._state)
        _same_owner(path, self._state)
        return database

    def _prepared(self, database: Database) -> Database:
        with _transaction(database):
            if database.execute("PRAGMA user_version").fetchone()[0] == _VERSION:
                return database
            for name in ("words", "events", "sessions", "progress"):
                database.execute(f"DROP TABLE IF EXISTS [{name}]")
            _create(database)
            database.execute(f"PRAGMA user_version = {_VERSION}")
        return database

    def close(self) -> None:
        self.database.close()

    # ---- keeping up

    def update(self) -> None:
        """Read what was recorded since. Raises ``GatewayFault`` where the log cannot be read."""
        while True:
            try:
                return self._catch_up()
            except _Moved:
                continue  # another process was quicker: go on from where it is

    def _catch_up(self) -> None:
        for origin, files in by_origin(self._reader.sources()).items():
            after = self._progress(origin, files)
            self._forget(origin, files[0].first)
            for source, following in zip(files, [*files[1:], None], strict=True):
                if following is None or following.first > after + 1:
                    after = self._read(source, after)

    def _progress(self, origin: str, files: list[Source]) -> int:
        """The last record known of, if the log still has the same one there; otherwise everything of that origin is forgotten."""
        row = self.database.execute("SELECT seq, digest FROM progress WHERE origin = ?", (origin,)).fetchone()
        if row is None:
            return files[0].first - 1
        if row[0] < files[0].first or self._digest_at(files, row[0]) == row[1]:
            return max(int(row[0]), files[0].first - 1)
        with _transaction(self.database):
            self._forget(origin, 2**62)
            self.database.execute("DELETE FROM progress WHERE origin = ?", (origin,))
        return files[0].first - 1

    def _digest_at(self, files: list[Source], seq: int) -> bytes | None:
        line = record_at(self._reader, files, seq)
        return sha256(line).digest() if line is not None else None

    def _forget(self, origin: str, before: int) -> None:
        """Drop what the log does not hold any more."""
        database = self.database
        if database.execute("SELECT 1 FROM events WHERE origin = ? AND seq < ? LIMIT 1", (origin, before)).fetchone() is None:
            return
        database.execute("DELETE FROM words WHERE rowid IN (SELECT rowid FROM events WHERE origin = ? AND seq < ?)", (origin, before))
        database.execute("DELETE FROM events WHERE origin = ? AND seq < ?", (origin, before))
        database.execute("DELETE FROM sessions WHERE id NOT IN (SELECT session FROM events)")

    def _read(self, source: Source, after: int) -> int:
        records = self._reader.records(source, after)
        while chunk := list(islice(records, _CHUNK)):
            with _transaction(self.database):
                self._expect(source.origin, after)
                for seq, line in chunk:
                    self._take(source.origin, seq, orjson.loads(line))
                after, last = chunk[-1]
                self.database.execute("INSERT OR REPLACE INTO progress VALUES (?, ?, ?)", (source.origin, after, sha256(last).digest()))
        return after

    def _expect(self, origin: str, after: int) -> None:
        row = self.database.execute("SELECT seq FROM progress WHERE origin = ?", (origin,)).fetchone()
        if row is not None and row[0] > after:
            raise _Moved

    def _take(self, origin: str, seq: int, record: Mapping[str, Any]) -> None:
        kind, session = record.get("kind"), _text(record.get("session"))
        if not isinstance(kind, str) or kind in _UNSEARCHED:
            return
        execute = self.database.execute
        rowid = execute("INSERT OR REPLACE INTO events (origin, seq, session, time, kind) VALUES (?, ?, ?, ?, ?)",
                        (origin, seq, session, record.get("time"), kind)).lastrowid
        if kind == "command.output":
            return                      # found by its command; there are many
        if kind == "command.end":
            counts = (_number(record, "rows"), _number(record, "bytes"), _number(record, "masked"), record.get("status") == "refused")
            execute("UPDATE sessions SET rows = rows + ?, bytes = bytes + ?, masked = masked + ?, denied = denied + ? WHERE id = ?",
                    (*counts, session))
            return
        execute("INSERT INTO words (rowid, content) VALUES (?, ?)", (rowid, words(record)))
        if kind == "session.start":
            values = [_text(record.get(key)) for key in _SESSION]
            execute("INSERT OR IGNORE INTO sessions (id, origin, start, identity, issuer, owner, resource, protocol, source, database) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (session, origin, record.get("time"), *values))
        elif kind == "session.end":
            execute("UPDATE sessions SET end = ?, reason = ? WHERE id = ?", (record.get("time"), _text(record.get("reason")), session))
        elif kind == "command.begin":
            execute("UPDATE sessions SET commands = commands + 1 WHERE id = ?", (session,))


def _create(database: Database) -> None:
    database.table("progress").create({"origin": str, "seq": int, "digest": bytes}, pk="origin")
    counts = dict.fromkeys(("commands", "denied", "masked", "rows", "bytes"), int)
    texts = dict.fromkeys(("id", "origin", "start", "end", *_SESSION, "reason"), str)
    sessions = database.table("sessions").create({**texts, **counts}, pk="id", defaults=dict.fromkeys(counts, 0))
    sessions.create_index(["start"])
    places: dict[str, Any] = {"rowid": int, "origin": str, "seq": int, "session": str, "time": str, "kind": str}
    events = database.table("events").create(places, pk="rowid")
    events.create_index(["origin", "seq"], unique=True)
    events.create_index(["session"])
    database.execute("CREATE VIRTUAL TABLE words USING fts5(content, tokenize='trigram')")


def words(record: Mapping[str, Any]) -> str:
    """What a search looks at in one record."""
    found = [_text(record.get(key)) for key in _SEARCHED]
    for key in ("objects", "parameters", "voters", "rules"):
        listed = record.get(key)
        found += [_text(value) for value in listed] if isinstance(listed, list) else []
    decision = record.get("decision")
    if isinstance(decision, dict):
        found += [_text(decision.get("effect")), _text(decision.get("reason")), *map(_text, decision.get("rules") or [])]
    return "\n".join(value for value in found if value)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(record: Mapping[str, Any], key: str) -> int:
    value = record.get(key)
    return value if type(value) is int else 0


@contextmanager
def _transaction(database: Database) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _same_owner(path: Path, like: Path) -> None:
    """Root reading a service's state leaves it files that it can use."""
    wanted = like.stat()
    if os.geteuid() == 0 and (path.stat().st_uid, path.stat().st_gid) != (wanted.st_uid, wanted.st_gid):
        os.chown(path, wanted.st_uid, wanted.st_gid)


def record_at(reader: LogReader, files: list[Source], seq: int) -> bytes | None:
    """The bytes of one record, ``None`` where the log has none of that number. Raises ``RowError``, a ``ValueError``."""
    holder = next((source for source in reversed(files) if source.first <= seq), None)
    row = reader.row_at(holder.path, seq) if holder else None
    lines = row.records() if row else []
    at = seq - (row.first or 0) if row else -1
    return lines[at] if 0 <= at < len(lines) else None
