# SPDX-License-Identifier: Apache-2.0
"""Masking of COPY … TO STDOUT in text format (manual, COPY, "Text Format"): columns between tabs, rows between newlines, ``\\N`` is NULL.

A row may be spread over several CopyData messages and a message may hold several rows; out comes one message per row.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gateway.errors import GatewayFault, TargetFault
from gateway.protocols.postgres.codec import frame
from gateway.protocols.postgres.rows import INT32

if TYPE_CHECKING:
    from gateway.protocols.postgres.masking import CopyColumn, MaskPlan

ROW_LIMIT = 64 * 1024 * 1024

_ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_MEANT = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_SPECIAL = re.compile(rb"[\b\f\n\r\t\v\\]")
_WRITTEN = {meant: b"\\" + letter for letter, meant in _MEANT.items()} | {b"\\": b"\\\\"}


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


class CopyMasker:
    """Masks one COPY. ``width`` is the number of columns that CopyOutResponse announced. ``masked`` counts values replaced.

    Raises ``GatewayFault`` when that is not the plan's number of columns, or a row has another one.
    """

    def __init__(self, plan: MaskPlan, width: int) -> None:
        if plan.columns is None or len(plan.columns) != width:
            raise GatewayFault("the target's COPY has another number of columns than the statement")
        self.masked = 0
        self._width = width
        self._columns = plan.copy
        self._detected = plan.copy_detect
        self._detectors = plan.detectors
        self._header = plan.copy_header
        self._carry: list[bytes] = []
        self._carried = 0

    def feed(self, block: bytes) -> bytes:
        """Whole CopyData messages in, whole CopyData messages out."""
        out: list[bytes] = []
        at, end = 0, len(block)
        while at < end:
            following = at + 1 + int(INT32(block, at + 1)[0])
            self._payload(block[at + 5:following], out)
            at = following
        return self._looked_over(b"".join(out))

    def close(self) -> bytes:
        """At CopyDone: a last row without a newline, if there is one."""
        if not self._carried:
            return b""
        last = b"".join(self._carry)
        self._carry, self._carried = [], 0
        return self._looked_over(frame(b"d", self._row(last)))

    def _looked_over(self, rows: bytes) -> bytes:
        """Detectors on masked rows, one a message; only rows with a candidate are taken apart."""
        if not self._detected or self._detectors is None or not self._detectors.candidates(rows):
            return rows
        places = self._detectors.places(rows)
        out: list[bytes] = []
        at = copied = 0
        for place in places:
            while at <= place:
                start, at = at, at + 1 + int(INT32(rows, at + 1)[0])
            if start >= copied:
                found = self._detect(rows[start + 5:at])
                out += (rows[copied:start], rows[start:at] if found is None else frame(b"d", found))
                copied = at
        out.append(rows[copied:])
        return b"".join(out)

    def _detect(self, row: bytes) -> bytes | None:
        line = row.removesuffix(b"\n")
        fields = line.split(b"\t")
        if len(fields) != self._width:
            return None
        count = self._apply(self._detected, fields)
        self.masked += count
        return b"\t".join(fields) + row[len(line):] if count else None

    def _payload(self, payload: bytes, out: list[bytes]) -> None:
        if not self._carried and payload.find(b"\n") == len(payload) - 1 and payload:
            out.append(frame(b"d", self._row(payload[:-1]) + b"\n"))
            return
        first, *others = payload.split(b"\n")
        self._keep(first)
        for piece in others:
            row = b"".join(self._carry)
            self._carry, self._carried = [], 0
            out.append(frame(b"d", self._row(row) + b"\n"))
            self._keep(piece)

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
        if row == b"\\.":
            return row
        fields = row.split(b"\t") if self._width else [row] if row else []
        if len(fields) != self._width:
            raise GatewayFault("the target sent a COPY row with another number of columns than announced")
        changed = self._apply(self._columns, fields)
        self.masked += changed
        return b"\t".join(fields) if changed else row

    @staticmethod
    def _apply(columns: tuple[tuple[int, CopyColumn], ...], fields: list[bytes]) -> int:
        count = 0
        for index, column in columns:
            field = fields[index]
            if field == b"\\N":
                continue
            if column.constant is not None:
                fields[index] = column.constant
            elif column.change is None or (value := column.change(unescape(field))) is None:
                continue
            else:
                fields[index] = escape(value)
            count += 1
        return count
