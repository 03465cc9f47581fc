# SPDX-License-Identifier: Apache-2.0
"""The SQLite files of the log, opened by apsw alone (the interpreter's own SQLite may be old enough to lose a committed transaction).

``header`` (key, value) says what the file is; ``batch`` has one row per commit: the first seq, the number of records, and the records'
bytes joined by newlines, as a zstd frame; ``snapshot`` has what was open at some checkpoints, to make a restart quick. Only ``batch`` is
evidence: ``verify`` trusts nothing else.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import apsw
import zstandard

from gateway.errors import GatewayFault
from gateway.native import compiled

_log = logging.getLogger(__name__)
_NAME = re.compile(r"(\d{6,})\.db")
_SQLITE = (3, 51, 3)
MAX_BATCH = 64 * 2**20
SCHEMA = (
    "CREATE TABLE header (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE batch (first INTEGER PRIMARY KEY, count INTEGER NOT NULL, body BLOB NOT NULL) STRICT",
    "CREATE TABLE snapshot (seq INTEGER PRIMARY KEY, open BLOB NOT NULL) STRICT",
)


def check_sqlite() -> None:
    """Raises ``GatewayFault`` when apsw brings an SQLite older than 3.51.3 (WAL-reset bug)."""
    version = apsw.sqlite_lib_version()
    if tuple(map(int, version.split("."))) < _SQLITE:
        raise GatewayFault(f"apsw brings SQLite {version}; the audit log needs 3.51.3 or later")


def log_files(directory: Path) -> list[Path]:
    """The log's files in order of their number. ``directory`` is ``state/audit``."""
    found = [(int(match[1]), entry) for entry in directory.iterdir() if (match := _NAME.fullmatch(entry.name))]
    return [path for _, path in sorted(found)]


def file_number(path: Path) -> int:
    return int(path.name.removesuffix(".db"))


def file_path(directory: Path, number: int) -> Path:
    return directory / f"{number:06d}.db"


def file_bytes(path: Path) -> int:
    """Bytes on disk of one log file with what belongs to it."""
    return sum(size_of(Path(f"{path}{suffix}")) for suffix in ("", "-wal", "-shm", "-journal"))


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def sync_directory(directory: Path) -> None:
    """Make names created or removed in ``directory`` durable."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class RowError(ValueError):
    """A row of ``batch`` that is not what the writer wrote. The message says what is wrong with it."""


def unpack(count: object, body: object) -> list[bytes]:
    """The records of one row. Raises ``RowError`` for wrong types, a broken frame, or another number of records."""
    if type(count) is not int or not isinstance(body, bytes):
        raise RowError("a column has another type")
    try:
        size = zstandard.frame_content_size(body)
        if not 0 < size <= MAX_BATCH:
            raise RowError("the compressed frame gives no usable size")
        lines = zstandard.ZstdDecompressor().decompress(body, max_output_size=MAX_BATCH, allow_extra_data=False).split(b"\n")
    except zstandard.ZstdError as error:
        raise RowError(f"the compressed frame is broken ({error})") from None
    if len(lines) != count:
        raise RowError(f"{len(lines)} records where the row says {count}")
    return lines


class Appender(Protocol):
    """Commits rows of ``batch``, each a transaction of its own. Made for one connection, closed before it."""

    def append(self, first: int, count: int, data: bytes) -> int:
        """``data``: the lines of ``count`` records, ``first`` the seq of the first one. On return they are on disk. Gives the bytes of the
        row. Raises ``apsw.Error``, and then nothing is on disk."""

    def close(self) -> None:
        """It is not used any more."""


class PureAppender:
    """The same by apsw and zstandard."""

    def __init__(self, connection: apsw.Connection, packer: zstandard.ZstdCompressor) -> None:
        self._cursor, self._compress = connection.cursor(), packer.compress

    def append(self, first: int, count: int, data: bytes) -> int:
        body = self._compress(data)
        self._cursor.execute("INSERT INTO batch VALUES (?, ?, ?)", (first, count, body))
        return len(body)

    def close(self) -> None:
        self._cursor.close(True)


_fast = compiled("gateway.audit._files")


def appender(connection: apsw.Connection, packer: zstandard.ZstdCompressor) -> Appender:
    """The compiled one where SQLite lets itself be reached. Raises ``apsw.Error``."""
    if _fast is not None:
        try:
            found: Appender = _fast.Appender(connection, packer.compress)
            return found
        except (apsw.ExtensionLoadingError, AttributeError, RuntimeError) as error:
            _log.warning("the audit log is written the slow way: SQLite takes no extension (%s)", type(error).__name__)
    return PureAppender(connection, packer)


class LogFile:
    """The live file: one connection, used by the writer thread alone. Every method may raise ``apsw.Error``."""

    def __init__(self, path: Path, vfs: str | None = None) -> None:
        self.path = path
        self._header: Mapping[str, bytes] | None = None
        self._packer = zstandard.ZstdCompressor(level=1, write_content_size=True, write_checksum=False)
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_NOMUTEX
        self.connection = apsw.Connection(str(path), flags=flags, vfs=vfs)
        try:
            self._configure()
        except apsw.Error:
            self.connection.close(True)
            raise
        self._cursor = self.connection.cursor()
        self.appender: Appender | None = None
        """What adds a plain batch, once there is something in the file."""

    def _configure(self) -> None:
        self.connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self.connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        self.connection.set_busy_timeout(10_000)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=1000", "trusted_schema=OFF", "temp_store=MEMORY",
                       "cache_size=-2048", "journal_size_limit=8388608"):
            self.connection.execute(f"PRAGMA {pragma}").fetchall()

    @classmethod
    def create(cls, path: Path, header: Mapping[str, bytes], vfs: str | None = None, mode: int = 0o600) -> LogFile:
        """A new file, its tables and header committed together with its first batch. What SQLite puts beside it gets the same mode."""
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode))
        file = cls(path, vfs)
        file._header = header
        return file

    @property
    def fresh(self) -> bool:
        """Whether nothing was committed to it yet."""
        return self._header is not None

    def header(self) -> dict[str, bytes]:
        """Empty when nothing was ever committed to the file."""
        if not self.connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()[0][0]:
            return {}
        return read_header(self.connection)

    def append(self, first: int, lines: list[bytes], snapshot: bytes | None = None) -> int:
        """Commit one batch; on return it is on disk. Gives the bytes of the row."""
        data = b"\n".join(lines)
        if self._header is None and snapshot is None:
            if self.appender is None:
                self.appender = appender(self.connection, self._packer)
            return self.appender.append(first, len(lines), data)
        body = self._packer.compress(data)
        row = (first, len(lines), body)
        self._cursor.execute("BEGIN IMMEDIATE")
        try:
            self._create_tables()
            self._cursor.execute("INSERT INTO batch VALUES (?, ?, ?)", row)
            if snapshot is not None:
                self._cursor.execute("INSERT INTO snapshot VALUES (?, ?)", (first, snapshot))
            self._cursor.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise
        if self._header is not None:
            sync_directory(self.path.parent)
            self._header = None
        return len(body)

    def _create_tables(self) -> None:
        if self._header is None:
            return
        for statement in SCHEMA:
            self._cursor.execute(statement)
        self._cursor.executemany("INSERT INTO header VALUES (?, ?)", list(self._header.items()))

    def bytes(self) -> int:
        """Bytes on disk, write-ahead log included."""
        return file_bytes(self.path)

    def settle(self) -> None:
        """Move the write-ahead log into the file, synced."""
        busy, _, _ = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0]
        if busy:
            raise apsw.BusyError("a reader keeps the write-ahead log")

    def seal(self) -> None:
        """Make it one plain file (no write-ahead log beside it) and close it."""
        self._let_go()
        self.connection.set_busy_timeout(200)
        try:
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self.connection.execute("PRAGMA journal_mode=DELETE").fetchall()
        except apsw.BusyError:
            pass  # a reader is on it; the write-ahead log stays beside the file, complete
        self.close()

    def close(self) -> None:
        self._let_go()
        self.connection.close(True)

    def _let_go(self) -> None:
        if self.appender is not None:
            self.appender.close()
        self.appender = None


def read_header(connection: apsw.Connection) -> dict[str, bytes]:
    """What the file says of itself; not evidence."""
    rows = connection.execute("SELECT CAST(key AS BLOB), CAST(value AS BLOB) FROM header").fetchall()
    return {key.decode("utf-8", "replace"): value for key, value in rows if isinstance(key, bytes) and isinstance(value, bytes)}


def open_for_reading(path: Path, *, live: bool) -> apsw.Connection:
    """A connection that never writes to the log. ``live``: a gateway holds the lock and may be writing now.

    Without a live writer nothing beside the file is touched either: a left-over write-ahead log is read into memory.
    """
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    waiting = Path(f"{path}-wal").exists()
    if not live:
        uri += "&vfs=unix-none" if waiting else "&immutable=1"
    elif not waiting:
        uri += "&immutable=1"
    connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.set_busy_timeout(5_000)
    connection.execute("PRAGMA trusted_schema=OFF").fetchall()
    if not live and waiting:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
    return connection
