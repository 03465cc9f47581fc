# SPDX-License-Identifier: Apache-2.0
"""The tokens of ``single_use`` issuers that were seen before, kept in ``state/replay.db`` so that a restart forgets nothing.

A token counts as used when its row is on disk (synchronous=FULL); if that cannot be done it is refused. Rows are dropped once the
token could not be presented any more.
"""

from __future__ import annotations

import threading
from pathlib import Path

import apsw

from gateway.identity.token import TokenRefused

ID_BYTES = 512
_SCHEMA = """
CREATE TABLE IF NOT EXISTS used (issuer TEXT NOT NULL, id TEXT NOT NULL, ends REAL NOT NULL, PRIMARY KEY (issuer, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS used_ends ON used (ends);
"""


class ReplayStore:
    """Opened at first use; safe to call from several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._database: apsw.Connection | None = None

    def use(self, issuer: str, token_id: str, ends: float, now: float) -> None:
        """Mark a token as used until ``ends``, when its age refuses it anyway.

        Raises ``TokenRefused`` if it was used before, or if that cannot be told.
        """
        try:
            with self._lock:
                fresh = self._insert(issuer, token_id, ends, now)
        except (apsw.Error, OSError) as error:
            raise TokenRefused("cannot be checked", f"the replay store cannot be written ({type(error).__name__})") from None
        if not fresh:
            raise TokenRefused("used before", "it was used before, and its issuer is single_use")

    def _insert(self, issuer: str, token_id: str, ends: float, now: float) -> bool:
        database = self._open()
        database.execute("BEGIN IMMEDIATE")
        try:
            database.execute("DELETE FROM used WHERE ends < ?", (now,))
            database.execute("INSERT OR IGNORE INTO used VALUES (?, ?, ?)", (issuer, token_id, ends))
            fresh = database.changes() == 1
            database.execute("COMMIT")
        except apsw.Error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        return fresh

    def _open(self) -> apsw.Connection:
        if self._database is None:
            database = apsw.Connection(str(self._path))
            database.set_busy_timeout(2000)
            database.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
            database.execute(_SCHEMA)
            self._path.chmod(0o600)
            self._database = database
        return self._database

    def close(self) -> None:
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None
