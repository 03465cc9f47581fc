# SPDX-License-Identifier: Apache-2.0
"""Finding the log's end again: after a clean stop, a crash, or an error of the disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import orjson
import zstandard

from gateway.audit.checkpoint import parse_checkpoint
from gateway.audit.files import LogFile, RowError, file_number, log_files, unpack
from gateway.audit.note import NoteError, parse_note
from gateway.audit.record import NO_PREV, time_value
from gateway.audit.standing import Standing
from gateway.audit.tree import Tree, leaf_hash
from gateway.errors import GatewayFault


@dataclass(slots=True)
class Recovered:
    """Where the log ends. ``file`` is open for more, ``None``: a new one has to begin. ``unsealed`` records follow the last checkpoint."""

    number: int = 0
    file: LogFile | None = None
    created: str = ""
    tree: Tree = field(default_factory=Tree)
    prev: str = NO_PREV
    last: int = 0
    standing: Standing = field(default_factory=Standing)
    unsealed: int = 0


def recover(directory: Path, origin: str, vfs: str | None = None, known: Tree | None = None, *, discard: bool = False) -> Recovered:
    """Open the newest file of ``origin`` and check its tail against the last signed tree, and that it begins with ``known``.

    ``discard``: files that nothing was ever committed to are removed; nobody else may be about to commit to one.

    Raises ``GatewayFault`` when the tail is not what was written, ``apsw.Error`` when it cannot be read.
    """
    found = _recover(directory, origin, vfs, known, discard)
    if known is not None and found.tree.size < known.size:
        if found.file is not None:
            found.file.close()
        raise GatewayFault(f"acknowledged records after {found.tree.size} are missing")
    return found


def _recover(directory: Path, origin: str, vfs: str | None, known: Tree | None, discard: bool) -> Recovered:
    found = Recovered()
    for path in reversed(log_files(directory)):
        file = LogFile(path, vfs)
        try:
            header = file.header()
            if not header:
                (_discard if discard else LogFile.close)(file)
                continue
            found.number = max(found.number, file_number(path))
            if header.get("origin") == origin.encode():
                return _resume(found, file, header, known)
        except BaseException:
            file.close()
            raise
        file.close()
    return found


def _discard(file: LogFile) -> None:
    """A file that a crash left before its first commit."""
    file.close()
    for suffix in ("-wal", "-shm", ""):
        Path(f"{file.path}{suffix}").unlink(missing_ok=True)


def _resume(found: Recovered, file: LogFile, header: dict[str, bytes], known: Tree | None) -> Recovered:
    try:
        _scan(found, file, known)
    except (RowError, NoteError, ValueError, KeyError, TypeError, zstandard.ZstdError) as error:
        raise GatewayFault(
            f"{file.path}: the end of the audit log is not what was written ({error}); "
            "run `audit verify`, then move the folder away to begin a new log") from None
    found.file, found.number, found.created = file, file_number(file.path), header.get("created", b"").decode()
    return found


def _scan(found: Recovered, file: LogFile, known: Tree | None) -> None:
    snapshot = file.connection.execute("SELECT seq, open FROM snapshot ORDER BY seq DESC LIMIT 1").fetchall()
    if not snapshot:
        raise ValueError("no snapshot")
    start, standing = snapshot[0]
    if type(start) is not int or not isinstance(standing, bytes):
        raise ValueError("a snapshot of another type")
    found.standing = Standing.from_json(orjson.loads(zstandard.decompress(standing, max_output_size=2**30)))
    begun = False
    for seq, line in _records(file.connection, start):
        record = orjson.loads(line)
        if not begun:
            found.tree = Tree(seq - 1, [bytes.fromhex(peak) for peak in record["peaks"]])
            begun = True
        if seq != found.tree.size + 1 or record["seq"] != seq:
            raise ValueError(f"record {found.tree.size + 1} is missing")
        _compare(found.tree, known)
        _follow(found, record, line)
    if not begun:
        raise ValueError("no records after the last snapshot")
    _compare(found.tree, known)


def _compare(tree: Tree, known: Tree | None) -> None:
    if known is not None and tree.size == known.size and tree.root() != known.root():
        raise ValueError(f"the records up to {tree.size} are not those that were acknowledged")


def _records(connection: apsw.Connection, start: int) -> Iterator[tuple[int, bytes]]:
    for first, count, body in connection.execute("SELECT first, count, body FROM batch WHERE first >= ? ORDER BY first", (start,)):
        yield from enumerate(unpack(count, body), first)


def _follow(found: Recovered, record: dict[str, Any], line: bytes) -> None:
    kind, seq = record["kind"], record["seq"]
    if kind == "checkpoint":
        checkpoint = parse_checkpoint(parse_note(record["note"]))
        if checkpoint.size != seq - 1 or checkpoint.root != found.tree.root():
            raise ValueError(f"the records up to {seq - 1} do not give the root of checkpoint {seq}")
        found.unsealed = 0
    else:
        found.unsealed += 1
    leaf = leaf_hash(line)
    found.tree.append(leaf)
    found.prev = leaf[:8].hex()
    found.last = time_value(record["time"])
    found.standing.follow(kind, seq, found.last, record)
