# SPDX-License-Identifier: Apache-2.0
"""Masking of COPY … TO STDOUT with another delimiter, quote, escape or NULL than the default ones (manual, COPY): row by row, in Python.

A server sends one row with its newline in each CopyData; anything else is none that PostgreSQL writes, and ends the session. What is
written back is read as the same value by whoever reads the COPY with the same options.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gateway.errors import GatewayFault
from gateway.masking.rules import GONE
from gateway.protocols.postgres.codec import frame
from gateway.protocols.postgres.copytext import END, escape, unescape
from gateway.protocols.postgres.rows import INT32, NULL, Column, Passed
from gateway.protocols.postgres.statement import CopyStyle

if TYPE_CHECKING:
    from gateway.protocols.postgres.masking import MaskPlan


class Fields:
    """Rows of one style taken apart, and values written in it."""

    def __init__(self, style: CopyStyle, *, csv: bool) -> None:
        self._csv, self._delimiter, self.null = csv, style.delimiter.encode(), style.null.encode()
        self._quote, self._escape = style.quote.encode(), style.escape.encode()
        delimiter, quote, escaping = (re.escape(byte) for byte in (self._delimiter, self._quote, self._escape))
        plain = rb"[^" + delimiter + (quote if csv else rb"\\") + rb"\r\n]"
        quoted = quote + rb"(?:" + escaping + rb"[" + quote + escaping + rb"]|[^" + quote + escaping + rb"])*" + quote
        self._field = re.compile(quoted + rb"|" + plain + rb"*" if csv else rb"(?:" + plain + rb"|\\.)*", re.DOTALL)
        self._escaped = re.compile(escaping + rb"([" + quote + escaping + rb"])")
        self._special = re.compile(rb"[" + quote + escaping + rb"]")
        self._forces = re.compile(rb"[" + quote + delimiter + rb"\r\n]")

    def of(self, row: bytes, width: int) -> list[bytes]:
        """The fields of a row as they stand there. Raises ``GatewayFault`` for what is no row of that many."""
        fields: list[bytes] = []
        at = 0
        while (found := self._field.match(row, at)) is not None:
            fields.append(found.group())
            at = found.end()
            if at == len(row) or row[at:at + 1] != self._delimiter:
                break
            at += 1
        if at != len(row) or len(fields) != width:
            raise GatewayFault("the target sent a COPY row with another number of columns than announced")
        return fields

    def joined(self, fields: list[bytes]) -> bytes:
        return self._delimiter.join(fields)

    def value(self, field: bytes) -> bytes:
        """What a field that is not NULL stands for."""
        if not self._csv:
            return unescape(field)
        return self._escaped.sub(rb"\1", field[1:-1]) if field[:1] == self._quote else field

    def written(self, value: bytes, *, quoted: bool) -> bytes:
        """A value that is not NULL, ``quoted`` where the one in its place was."""
        if not self._csv:
            return escape(value).replace(self._delimiter, b"\\" + self._delimiter)
        if quoted or value in (b"", self.null, END) or self._forces.search(value):
            return self._quote + self._special.sub(lambda found: self._escape + found.group(), value) + self._quote
        return value

    def quotes(self, field: bytes) -> bool:
        return self._csv and field[:1] == self._quote


class StyledMasker:
    """Masks one COPY in text or csv format with options. ``masked`` counts values replaced. Raises ``GatewayFault`` on what is not one row
    of the announced number of columns."""

    def __init__(self, plan: MaskPlan, width: int, style: CopyStyle) -> None:
        self.masked = 0
        self._width = width
        self._fields = Fields(style, csv=plan.copy_format == "csv")
        self._columns = (*plan.copy, *plan.copy_detect)
        self._header = plan.copy_header

    def straight(self, before: bytes, data: bytes) -> Passed | None:
        """Everything takes the loop's way."""
        return None

    def feed(self, block: bytes) -> bytes:
        """Whole CopyData messages in, as many out."""
        out: list[bytes] = []
        at = 0
        while at < len(block):
            following = at + 1 + int(INT32(block, at + 1)[0])
            out.append(frame(b"d", self._row(block[at + 5:following])))
            at = following
        return b"".join(out)

    def close(self) -> bytes:
        return b""

    def _row(self, row: bytes) -> bytes:
        if self._header:
            self._header = False
            return row
        line = row.removesuffix(b"\n")
        fields = self._fields.of(line, self._width)
        changed = sum(self._change(fields, index, column) for index, column in self._columns)
        self.masked += changed
        return self._fields.joined(fields) + row[len(line):] if changed else row

    def _change(self, fields: list[bytes], index: int, column: Column) -> bool:
        style, field = self._fields, fields[index]
        if field == style.null:
            return False
        if column.constant is not None:
            made = None if column.constant == NULL else column.constant[4:]
        elif column.change is not None:
            found = column.change(style.value(field))
            if found is None:
                return False
            made = None if found is GONE else found
        else:
            return False
        fields[index] = style.null if made is None else style.written(made, quoted=style.quotes(field))
        return True
