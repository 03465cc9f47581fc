# SPDX-License-Identifier: Apache-2.0
"""The loops over DataRow messages: pure functions on bytes. ``_rows.pyx`` is their compiled twin, and takes their place where it is built.

DataRow (manual, "Message Formats"): ``D``, int32 length, int16 count of columns, then per column an int32 length (-1 is NULL)
and its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct

from gateway.errors import TargetFault
from gateway.masking.rules import GONE
from gateway.native import compiled

INT32 = Struct("!i").unpack_from
INT16 = Struct("!h").unpack_from
PACK32 = Struct("!i").pack
ROW_HEADER = Struct("!BIh")

Change = Callable[[bytes], bytes | None]
"""A value's new bytes, ``GONE`` where it becomes NULL, or ``None`` where it stays as it is."""

NULL = b"\xff\xff\xff\xff"
BEGUN = 64 * 1024
"""Length of a message whose beginning ``pass_rows`` may leave for the next chunk: longer ones are put together elsewhere."""


@dataclass(frozen=True, slots=True)
class Column:
    """What happens to one column: ``constant`` is the whole encoded field that replaces every value that is not NULL,
    else ``change`` decides by value.

    ``kernel`` names a rule that the compiled form knows itself (0: none). ``keep`` are the characters it keeps, the step it rounds to, or
    the place of the unit in ``rules.UNITS``; ``padded``: blanks at the end are no part of the value. ``change`` is the same rule, and is
    asked where the kernel does not know: it never gives ``None`` then.
    """

    constant: bytes | None = None
    change: Change | None = None
    kernel: int = 0
    keep: int = 0
    padded: bool = False


KERNELS = {"keep_last": 1, "keep_first": 2, "email": 3}
"""Rules on text that ``_rows.pyx`` applies without a Python call."""
TYPED_KERNELS = {
    ("round", 21, False): 4, ("round", 23, False): 5, ("round", 20, False): 6, ("round", 1700, False): 7,
    ("round", 21, True): 8, ("round", 23, True): 9, ("round", 20, True): 10,
    ("date", 1082, False): 11, ("date", 1114, False): 12, ("date", 1184, False): 13,
    ("date", 1082, True): 14, ("date", 1114, True): 15, ("date", 1184, True): 15}
"""(rule, type, whether in binary format), likewise."""


def scan_run_pure(data: bytes, at: int, end: int, kind: int) -> tuple[int, int]:
    """The run of whole ``kind`` messages that begins at ``at``: (where it ends, how many). An invalid length ends it."""
    count = 0
    last = end - 5
    unpack = INT32
    while at <= last and data[at] == kind:
        length = unpack(data, at + 1)[0]
        following = at + 1 + length
        if length < 4 or following > end:
            break
        at = following
        count += 1
    return at, count


Passed = tuple[bytes, int, int, bytes, bool]
"""Whole messages to pass on, how many, how many values were replaced, what is left, and whether that is the beginning of one more."""


def pass_rows_pure(before: bytes, data: bytes, kind: int, most: int, width: int, columns: tuple[tuple[int, Column], ...]) -> Passed:
    """The whole ``kind`` messages at the beginning of ``before`` (what was left the last time) and ``data``, masked as by ``mask_rows``;
    without ``columns`` as they are. What is left may go on with the next bytes where it is no longer than ``most``, else it is another's.

    Raises ``TargetFault`` (08P01) on a malformed row.
    """
    whole = before + data
    end, count = scan_run_pure(whole, 0, len(whole), kind)
    block, masked = mask_rows_pure(whole[:end], width, columns) if columns else (whole[:end], 0)
    return block, count, masked, whole[end:], begins(whole[end:], kind, most)


def begins(rest: bytes, kind: int, most: int) -> bool:
    """Whether it is nothing, or the beginning of a ``kind`` message of a length up to ``most``."""
    if len(rest) < 5:
        return not rest or rest[0] == kind
    length = INT32(rest, 1)[0]
    return rest[0] == kind and len(rest) <= length <= most


def encoded(value: bytes | None) -> bytes:
    """A value as a DataRow holds it."""
    return NULL if value is None else PACK32(len(value)) + value


def mask_rows_pure(data: bytes, width: int, columns: tuple[tuple[int, Column], ...]) -> tuple[bytes, int]:
    """Replace values in whole DataRow messages. ``width`` is the number of columns the RowDescription announced, ``columns`` the
    ``(index, Column)`` to look at, ascending. Gives the new bytes and how many values were replaced.

    Raises ``TargetFault`` (08P01) when a row has another number of columns or its lengths do not fit.
    """
    out: list[bytes] = []
    masked = 0
    copied = 0                      # everything before this offset is in ``out``
    at = 0
    end = len(data)
    steps = _steps(columns)
    unpack = INT32
    pack = PACK32
    try:
        while at < end:
            row_end = at + 1 + unpack(data, at + 1)[0]
            if INT16(data, at + 5)[0] != width:
                raise TargetFault("the target sent a row whose column count differs from its description", "08P01")
            if row_end > end:
                raise _malformed()
            head = at
            pos = at + 7
            parts: list[bytes] = []
            since = pos             # of this row, bytes before it are in ``parts``
            for skip, constant, change in steps:
                for _ in skip:
                    length = unpack(data, pos)[0]
                    pos += 4
                    if length > 0:
                        pos += length
                    elif length < -1:
                        raise _malformed()
                length = unpack(data, pos)[0]
                following = pos + 4
                if length < 0:
                    if length != -1:
                        raise _malformed()
                    pos = following
                    continue
                following += length
                if following > row_end:
                    raise _malformed()
                if constant is None:
                    value = change(data[pos + 4:following]) if change is not None else None
                    if value is None:
                        pos = following
                        continue
                    constant = NULL if value is GONE else pack(len(value)) + value
                parts.append(data[since:pos])
                parts.append(constant)
                masked += 1
                since = pos = following
            if pos > row_end:
                raise _malformed()
            if parts:
                parts.append(data[since:row_end])
                body = b"".join(parts)
                if copied < head:
                    out.append(data[copied:head])
                out.append(ROW_HEADER.pack(data[head], len(body) + 6, width))
                out.append(body)
                copied = row_end
            at = row_end
    except (IndexError, ValueError, struct.error):
        raise _malformed() from None
    if not out:
        return data, 0
    if copied < end:
        out.append(data[copied:])
    return b"".join(out), masked


def _steps(columns: tuple[tuple[int, Column], ...]) -> list[tuple[range, bytes | None, Change | None]]:
    """Per column to look at: the columns to skip before it, and what to do with it."""
    steps = []
    at = 0
    for index, column in columns:
        steps.append((range(index - at), column.constant, column.change))
        at = index + 1
    return steps


def fields(data: bytes, at: int) -> tuple[list[bytes | None], int]:
    """The values of the DataRow message at ``at`` and where it ends. Raises ``TargetFault`` on lengths that do not fit."""
    try:
        end = at + 1 + INT32(data, at + 1)[0]
        pos = at + 7
        values: list[bytes | None] = []
        for _ in range(INT16(data, at + 5)[0]):
            length = INT32(data, pos)[0]
            pos += 4
            values.append(data[pos:pos + length] if length >= 0 else None)
            pos += max(length, 0)
    except struct.error:
        raise _malformed() from None
    if pos != end or end > len(data):
        raise _malformed()
    return values, end


def _malformed() -> TargetFault:
    return TargetFault("the target sent a malformed row", "08P01")


_fast = compiled("gateway.protocols.postgres._rows")
scan_run: Callable[[bytes, int, int, int], tuple[int, int]] = scan_run_pure if _fast is None else _fast.scan_run
mask_rows: Callable[[bytes, int, tuple[tuple[int, Column], ...]], tuple[bytes, int]] = mask_rows_pure if _fast is None else _fast.mask_rows
Pass = Callable[[bytes, bytes, int, int, int, tuple[tuple[int, Column], ...]], Passed]
pass_rows: Pass = pass_rows_pure if _fast is None else _fast.pass_rows
