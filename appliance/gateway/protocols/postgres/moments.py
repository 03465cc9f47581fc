# SPDX-License-Identifier: Apache-2.0
"""Dates and timestamps cut to the year, month, day or hour they are in, in text (ISO alone) and in binary format.

Binary (date_send, timestamp_send): int32 days or int64 microseconds since 2000-01-01. A timestamp with time zone is cut in UTC whatever the
session's TimeZone is, and shown in UTC: else a caller could move the borders about and find the minute. Any other DateStyle,
infinity, and what is no date become NULL.
"""

from __future__ import annotations

import re
import struct

from gateway.masking.rules import GONE, UNITS
from gateway.protocols.postgres.rows import Change

DATE, TIMESTAMP, TIMESTAMPTZ = 1082, 1114, 1184
MOMENTS = frozenset({DATE, TIMESTAMP, TIMESTAMPTZ})

DAY = 86_400_000_000
_EPOCH = 730_425
"""Days from 0000-03-01 to 2000-01-01 (proleptic Gregorian), where the arithmetic below begins."""
_TEXT = re.compile(rb"([0-9]{4,7})-([0-9]{2})-([0-9]{2})"
                   rb"(?:[ T]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,6}))?([+-][0-9]{2}(?::[0-9]{2}){0,2})?)?( BC)?")
_LENGTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def cutting(unit: str, type_oid: int, binary: bool) -> Change:
    """What cuts the values of one of ``MOMENTS`` in that format."""
    form = ("!i", 4) if type_oid == DATE else ("!q", 8)

    def change_text(value: bytes) -> bytes:
        found = read(value, type_oid)
        return GONE if found is None else write(cut(found, unit), type_oid)

    def change_binary(value: bytes) -> bytes:
        if len(value) != form[1]:
            return GONE
        (number,) = struct.unpack(form[0], value)
        edge = 1 << form[1] * 8 - 1
        if number in (-edge, edge - 1):
            return GONE
        found = cut(number * DAY if type_oid == DATE else number, unit)
        return struct.pack(form[0], max(found // DAY if type_oid == DATE else found, 1 - edge))

    return change_binary if binary else change_text


def cut(moment: int, unit: str) -> int:
    """Microseconds since 2000-01-01, at the beginning of their unit."""
    if unit == UNITS[0]:
        return moment // 3_600_000_000 * 3_600_000_000
    days = moment // DAY
    if unit != UNITS[1]:
        year, month, _ = date_of(days)
        days = days_of(year, month if unit == UNITS[2] else 1, 1)
    return days * DAY


def days_of(year: int, month: int, day: int) -> int:
    """Days since 2000-01-01 of an astronomical year (1 BC is 0), proleptic Gregorian."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - _EPOCH


def date_of(days: int) -> tuple[int, int, int]:
    """(astronomical year, month, day)."""
    era, of_era = divmod(days + _EPOCH, 146_097)
    years = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * years + years // 4 - years // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return years + era * 400 + (month <= 2), month, of_year - (153 * shifted + 2) // 5 + 1


def read(value: bytes, type_oid: int) -> int | None:
    """Microseconds since 2000-01-01, of a timestamp with time zone in UTC; ``None`` for what is not ISO or of another type."""
    found = _TEXT.fullmatch(value)
    if found is None or (found[4] is None) != (type_oid == DATE) or (found[8] is not None) != (type_oid == TIMESTAMPTZ):
        return None
    year, month, day = int(found[1]), int(found[2]), int(found[3])
    if not 1 <= month <= 12 or not 1 <= day <= _LENGTHS[month - 1] or year == 0:
        return None
    days = days_of(1 - year if found[9] else year, month, day)
    if type_oid == DATE:
        return days * DAY
    hour, minute, second = int(found[4]), int(found[5]), int(found[6])
    if hour > 24 or minute > 59 or second > 60:
        return None
    seconds = hour * 3600 + minute * 60 + second - (_offset(found[8]) if found[8] else 0)
    return days * DAY + seconds * 1_000_000 + int((found[7] or b"").ljust(6, b"0"))


def _offset(text: bytes) -> int:
    """Seconds east of Greenwich."""
    parts = [int(part) for part in text[1:].split(b":")]
    seconds = sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))
    return -seconds if text[:1] == b"-" else seconds


def write(moment: int, type_oid: int) -> bytes:
    """As the target writes it with DateStyle ISO; a timestamp with time zone in UTC."""
    days, rest = divmod(moment, DAY)
    year, month, day = date_of(days)
    text = f"{year if year > 0 else 1 - year:04}-{month:02}-{day:02}"
    if type_oid != DATE:
        seconds, micro = divmod(rest, 1_000_000)
        text += f" {seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}" + (f".{micro:06}".rstrip("0") if micro else "")
    return (text + ("+00" if type_oid == TIMESTAMPTZ else "") + ("" if year > 0 else " BC")).encode()


def binary_of(moment: int, type_oid: int) -> bytes:
    """Microseconds since 2000-01-01 in binary format. Raises ``struct.error`` where they do not fit."""
    return struct.pack("!i", moment // DAY) if type_oid == DATE else struct.pack("!q", moment)
