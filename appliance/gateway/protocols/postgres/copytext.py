# SPDX-License-Identifier: Apache-2.0
"""Masking of COPY … TO STDOUT in text and csv format (manual, COPY, "Text Format" and "CSV Format"), with default options alone.

A row may be spread over several CopyData messages and a message may hold several rows; out comes one message per row. Whole messages that
hold one row each are masked in a run: ``mask_lines_pure``, or its compiled twin in ``_rows.pyx``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.errors import GatewayFault, TargetFault
from gateway.masking.rules import GONE
from gateway.native import compiled
from gateway.protocols.postgres.codec import frame
from gateway.protocols.postgres.rows import BEGUN, INT32, NULL, Change, Column, Passed, begins, scan_run_pure

if TYPE_CHECKING:
    from gateway.protocols.postgres.masking import MaskPlan

ROW_LIMIT = 64 * 1024 * 1024

_ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_MEANT = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_SPECIAL = re.compile(rb"[\b\f\n\r\t\v\\]")
_WRITTEN = {meant: b"\\" + letter for letter, meant in _MEANT.items()} | {b"\\": b"\\\\"}

Columns = tuple[tuple[int, Column], ...]
"""Columns of a COPY: ``constant`` is a field as it stands in the stream, ``change`` takes and gives such fields."""
Lines = Callable[[bytes, int, int, Columns, bool], tuple[bytes, int, int]]

COPY_DATA = 0x64
END = b"\\."
NULL_FIELD = (b"\\N", b"")
"""How NULL is written: in text, in csv."""


def unescape(field: bytes) -> bytes:
    """The value a column stands for."""
    return _ESCAPE.sub(_meaning, field) if b"\\" in field else field


def escape(value: bytes) -> bytes:
    """A value as PostgreSQL writes it."""
    return _SPECIAL.sub(lambda match: _WRITTEN[match.group()], value)


def _meaning(match: re.Match[bytes]) -> bytes:
    code: bytes = match.group(1)
    if code[:1] == b"x" and len(code) > 1:
        return bytes([int(code[1:], 16)])
    if code[:1].isdigit() and code[0] < 0x38:
        return bytes([int(code, 8) & 0xFF])
    return _MEANT.get(code, code)


def unquote(field: bytes) -> bytes:
    """The value of a csv field that is not NULL."""
    return field[1:-1].replace(b'""', b'"') if field[:1] == b'"' else field


_NEEDS_QUOTES = re.compile(rb'[",\n\r]')


def quote(value: bytes) -> bytes:
    """A value as PostgreSQL writes it in csv (CopyAttributeOutCSV); ``\\.`` is quoted always."""
    if value and value != END and not _NEEDS_QUOTES.search(value):
        return value
    return b'"' + value.replace(b'"', b'""') + b'"'


def stream_columns(columns: Columns, csv: bool) -> Columns:
    """Columns on values as columns on fields of the stream."""
    return tuple([(index, _on_fields(column, csv)) for index, column in columns])


def _on_fields(column: Column, csv: bool) -> Column:
    write, null = (quote, NULL_FIELD[1]) if csv else (escape, NULL_FIELD[0])
    if column.constant is not None:
        return Column(constant=null if column.constant == NULL else write(column.constant[4:]))
    return Column(None, _field_change(column.change, csv), column.kernel, column.keep, column.padded)


def _field_change(change: Change | None, csv: bool) -> Change:
    read, write, null = (unquote, quote, NULL_FIELD[1]) if csv else (unescape, escape, NULL_FIELD[0])

    def changed(field: bytes) -> bytes | None:
        value = change(read(field)) if change is not None else None
        return None if value is None else null if value is GONE else write(value)

    return changed


# one row


def fields_of(row: bytes, width: int, csv: bool) -> list[bytes]:
    """The fields of a row without its newline. Raises ``GatewayFault`` where there are not ``width`` of them."""
    fields = csv_fields(row) if csv else row.split(b"\t")
    if not width and not row:
        return []
    if fields is None or len(fields) != width:
        raise GatewayFault("the target sent a COPY row with another number of columns than announced")
    return fields


_CSV_FIELD = re.compile(rb'"(?:[^"]|"")*"|[^",\n\r]*')


def csv_fields(row: bytes) -> list[bytes] | None:
    """As they stand there, quotes and all; ``None`` for what is no csv that PostgreSQL writes."""
    fields: list[bytes] = []
    at = 0
    while True:
        found = _CSV_FIELD.match(row, at)
        if found is None:
            return None
        fields.append(found.group())
        at = found.end()
        if at == len(row):
            return fields
        if row[at] != 0x2C:
            return None
        at += 1


def change_fields(columns: Columns, fields: list[bytes], csv: bool) -> int:
    """Change the fields of one row; gives how many were."""
    null = NULL_FIELD[csv]
    count = 0
    for index, column in columns:
        field = fields[index]
        if field == null:
            continue
        changed = column.constant if column.constant is not None else column.change(field) if column.change is not None else None
        if changed is not None:
            fields[index] = changed
            count += 1
    return count


# runs of whole messages that hold one row each


def mask_lines_pure(block: bytes, at: int, width: int, columns: Columns, csv: bool) -> tuple[bytes, int, int]:
    """Mask CopyData messages from ``at`` on, as long as each is whole and holds one whole row of ``width`` columns: (the new messages, how
    many fields were replaced, where it stopped)."""
    out: list[bytes] = []
    masked = 0
    end = len(block)
    while end - at >= 6 and (following := at + 1 + int(INT32(block, at + 1)[0])) <= end and following - at >= 6:
        row = block[at + 5:following - 1]
        if block[following - 1] != 0x0A or row == END or not csv and b"\n" in row:
            break
        fields = csv_fields(row) if csv else row.split(b"\t")
        if fields is None or len(fields) != width:
            break
        changed = change_fields(columns, fields, csv)
        out.append(frame(block[at:at + 1], (b"," if csv else b"\t").join(fields) + b"\n") if changed else block[at:following])
        masked += changed
        at = following
    return b"".join(out), masked, at


def pass_lines_pure(before: bytes, data: bytes, most: int, width: int, columns: Columns, csv: bool) -> Passed:
    """``rows.pass_rows`` for CopyData messages that hold one whole row of ``width`` columns each; one that does not is left, and no
    beginning."""
    whole = before + data
    end, _ = scan_run_pure(whole, 0, len(whole), COPY_DATA)
    block, masked, at = mask_lines_pure(whole[:end], 0, width, columns, csv) if width > 0 else (b"", 0, 0)
    more = at == end and width > 0 and begins(whole[end:], COPY_DATA, most)
    return block, scan_run_pure(whole, 0, at, COPY_DATA)[1], masked, whole[at:], more


class LineMasker:
    """Masks one COPY in text or csv format. ``masked`` counts values replaced. Raises ``GatewayFault`` on a row with another number of
    columns, ``TargetFault`` on one that is too long."""

    def __init__(self, plan: MaskPlan, width: int) -> None:
        self.masked = 0
        self._csv = plan.copy_format == "csv"
        self._width = width
        self._columns = stream_columns(plan.copy, self._csv)
        self._detected = stream_columns(plan.copy_detect, self._csv)
        self._detectors = plan.detectors
        self._header = plan.copy_header
        self._carry: list[bytes] = []
        self._carried = 0
        self._quoted = False            # what is carried ends inside of quotes

    def feed(self, block: bytes) -> bytes:
        """Whole CopyData messages in, whole CopyData messages out."""
        out: list[bytes] = []
        at, end = 0, len(block)
        while at < end:
            if not self._carried and not self._header and self._width:
                done, count, at = mask_lines(block, at, self._width, self._columns, self._csv)
                self.masked += count
                out.append(done)
            if at < end:
                following = at + 1 + int(INT32(block, at + 1)[0])
                self._payload(block[at + 5:following], out)
                at = following
        return self._looked_over(b"".join(out))

    def straight(self, before: bytes, data: bytes) -> Passed | None:
        """``rows.pass_rows`` of messages that hold one row each; ``None`` while there is something else to do first. Where it raises
        nothing has happened."""
        if self._carried or self._header:
            return None
        block, count, masked, rest, more = pass_lines(before, data, BEGUN, self._width, self._columns, self._csv)
        had = self.masked
        try:
            block = self._looked_over(block)
            masked += self.masked - had
        finally:
            self.masked = had
        self.masked += masked
        return block, count, masked, rest, more

    def close(self) -> bytes:
        """At CopyDone: a last row without a newline, if there is one."""
        if not self._carried:
            return b""
        last = b"".join(self._carry)
        self._carry, self._carried = [], 0
        return self._looked_over(frame(b"d", self._row(last)))

    def _looked_over(self, rows: bytes) -> bytes:
        """Detectors on masked rows, one a message; without a candidate nothing is taken apart."""
        if not self._detected or self._detectors is None or not self._detectors.candidates(rows):
            return rows
        out: list[bytes] = []
        at = 0
        while at < len(rows):
            done, count, at = mask_lines(rows, at, self._width, self._detected, self._csv)
            self.masked += count
            out.append(done)
            if at < len(rows):          # the end marker, a header, a last row without a newline
                following = at + 1 + int(INT32(rows, at + 1)[0])
                out.append(self._last(rows[at:following]))
                at = following
        return b"".join(out)

    def _last(self, message: bytes) -> bytes:
        row = message[5:]
        line = row.removesuffix(b"\n")
        fields = csv_fields(line) if self._csv else line.split(b"\t")
        if fields is None or len(fields) != self._width or not (count := change_fields(self._detected, fields, self._csv)):
            return message
        self.masked += count
        return frame(b"d", self._joined(fields) + row[len(line):])

    def _joined(self, fields: list[bytes]) -> bytes:
        return (b"," if self._csv else b"\t").join(fields)

    def _payload(self, payload: bytes, out: list[bytes]) -> None:
        """One message that is not one whole row."""
        at = 0
        while (end := payload.find(b"\n", at)) >= 0:
            piece = payload[at:end]
            at = end + 1
            if self._csv and self._quoted != bool(piece.count(b'"') % 2):
                self._keep(piece + b"\n")
                self._quoted = True
                continue
            self._quoted = False
            row = b"".join((*self._carry, piece))
            self._carry, self._carried = [], 0
            out.append(frame(b"d", self._row(row) + b"\n"))
        rest = payload[at:]
        self._quoted = self._csv and self._quoted != bool(rest.count(b'"') % 2)
        self._keep(rest)

    def _keep(self, piece: bytes) -> None:
        if piece:
            self._carry.append(piece)
            self._carried += len(piece)
            if self._carried > ROW_LIMIT:
                raise TargetFault("the target sent a COPY row over the limit", "54000")

    def _row(self, row: bytes) -> bytes:
        if self._header:
            self._header = False
            return row
        if row == END:
            return row
        fields = fields_of(row, self._width, self._csv)
        changed = change_fields(self._columns, fields, self._csv)
        self.masked += changed
        return self._joined(fields) if changed else row


_fast = compiled("gateway.protocols.postgres._rows")
mask_lines: Lines = mask_lines_pure if _fast is None else _fast.mask_lines
pass_lines: Callable[[bytes, bytes, int, int, Columns, bool], Passed] = pass_lines_pure if _fast is None else _fast.pass_lines
