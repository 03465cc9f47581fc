# SPDX-License-Identifier: Apache-2.0
"""``Sample``: the first rows of a result, as replay shows them. Fed with bytes that are already masked; costs nothing once full."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from struct import Struct

from gateway.errors import TargetFault
from gateway.protocols.postgres.copytext import unescape
from gateway.protocols.postgres.messages import Field
from gateway.protocols.postgres.rows import INT32, fields
from gateway.protocols.postgres.scrub import conceal

ROWS = 20
BYTES = 4096
VALUE = 200

_BINARY = {16: Struct("!?"), 20: Struct("!q"), 21: Struct("!h"), 23: Struct("!i"), 26: Struct("!I"), 700: Struct("!f"), 701: Struct("!d")}
_JSONB = 3802
_TEXT = frozenset({18, 19, 25, 114, 142, 705, 1042, 1043, 3802})


def binary_text(oid: int, value: bytes) -> str:
    """A value in binary format as text where its type is a known one, else ``\\x`` and hexadecimal digits. Nothing is lost."""
    shape = _BINARY.get(oid)
    if shape is not None and len(value) == shape.size:
        return str(shape.unpack(value)[0])
    if oid in _TEXT and oid != _JSONB:
        with contextlib.suppress(UnicodeDecodeError):
            return value.decode()
    return "\\x" + value.hex()


def plain_columns(described: Sequence[Field]) -> bool:
    """Whether the values of all these columns are shown as the text that they are."""
    return all(column.format == 0 or column.type_oid in _TEXT for column in described)


class Sample:
    """At most ``ROWS`` rows and about ``room`` bytes, each value cut at ``VALUE`` characters; none of ``secrets`` is kept."""

    __slots__ = ("_columns", "_names", "_room", "_rows", "_secrets", "_truncated", "full")

    def __init__(self, secrets: tuple[str, ...] = (), room: int = BYTES) -> None:
        self.full = False
        self._secrets = secrets
        self._names: list[str] = []
        self._columns: Sequence[Field] = ()
        self._rows: list[list[str | None]] = []
        self._room = room
        self._truncated = False

    def columns(self, described: Sequence[Field]) -> None:
        """The description of the rows that follow; of several results the first is kept."""
        if not self._names:
            self._columns = described
            self._names = [self._kept(column.name) for column in described]

    def rows(self, block: bytes) -> None:
        """Whole DataRow messages (a piece of a large row is noted as cut)."""
        at = 0
        while at < len(block) and not self.full:
            try:
                values, at = fields(block, at)
            except TargetFault:
                self._cut()
                return
            self._add([self._shown(index, value) for index, value in enumerate(values)])
        self._truncated = self._truncated or at < len(block)

    def copy(self, block: bytes) -> None:
        """Whole CopyData messages of a COPY in text format."""
        at = 0
        while at < len(block) and not self.full:
            following = at + 1 + int(INT32(block, at + 1)[0])
            line = block[at + 5:min(following, at + 5 + BYTES)].rstrip(b"\n")
            self._add([None if field == b"\\N" else self._kept(unescape(field).decode(errors="replace")) for field in line.split(b"\t")])
            at = following
        self._truncated = self._truncated or at < len(block)

    def close(self) -> bytes | None:
        """The sample as compact JSON: columns, rows, truncated. ``None`` where there was no result."""
        if not self._names and not self._rows:
            return None
        found = {"columns": self._names, "rows": self._rows, "truncated": self._truncated}
        return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")

    def _add(self, row: list[str | None]) -> None:
        size = sum(4 if value is None else len(value) + 3 for value in row)
        if len(self._rows) >= ROWS or size > self._room:
            self._cut()
            return
        self._room -= size
        self._rows.append(row)

    def _cut(self) -> None:
        self.full = self._truncated = True

    def _shown(self, index: int, value: bytes | None) -> str | None:
        if value is None:
            return None
        column = self._columns[index] if index < len(self._columns) else None
        if column is None or column.format == 0 or column.type_oid in _TEXT:
            return self._kept(value[:VALUE * 4 + 4].decode(errors="replace"))
        return _cut(binary_text(column.type_oid, value[:VALUE]))

    def _kept(self, text: str) -> str:
        return _cut(conceal(text, self._secrets))


def _cut(text: str) -> str:
    return text if len(text) <= VALUE else text[:VALUE - 1] + "…"
