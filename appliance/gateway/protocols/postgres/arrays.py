# SPDX-License-Identifier: Apache-2.0
"""Arrays hidden element by element, in text (manual 8.15.6) and in binary format (array_send). NULL elements stay NULL. An array
that cannot be read strictly becomes NULL as a whole.

Binary: int32 dimensions, int32 whether there are NULLs, uint32 type of the elements, per dimension int32 length and int32 lower bound, then
each element as in a DataRow.
"""

from __future__ import annotations

import re
import struct

from gateway.masking.rules import GONE
from gateway.protocols.postgres.rows import Change, encoded

MAX_DIMENSIONS = 6
_BOUNDS = re.compile(rb"(?:\[[+-]?[0-9]{1,10}:[+-]?[0-9]{1,10}\]){1,6}=")
_TOKEN = re.compile(rb'(?s)"((?:[^"\\]|\\.)*)"|([^{}",\\\s]+)|([{},])')
_ESCAPE = re.compile(rb"(?s)\\(.)")
_QUOTED = re.compile(rb'(["\\])')
_BARE = re.compile(rb"[0-9A-Za-z.+:-]+")
"""Elements of types that are no text, as array_out writes them without quotes."""


def element_wise(change: Change, element: int, binary: bool, *, text: bool = True) -> Change:
    """``change`` on each element of an array of that element type; ``text``: of a text type."""
    return (lambda value: _binary(change, element, value)) if binary else (lambda value: _text(change, value, text))


def _text(change: Change, value: bytes, text: bool = True) -> bytes:
    bounds = _BOUNDS.match(value)
    at = bounds.end() if bounds else 0
    out = [value[:at]]
    depth, before = 0, b""           # before: the token before this one, ``"`` for an element
    while at < len(value):
        found = _TOKEN.match(value, at)
        if found is None or at and not depth and before:
            return GONE
        at = found.end()
        quoted, bare, sign = found.groups()
        if sign == b"{":
            if before not in (b"", b"{", b",") or depth == MAX_DIMENSIONS or before == b"" and depth:
                return GONE
            depth += 1
        elif not depth or sign == b"," and before not in (b'"', b"}") or sign is None and before not in (b"{", b","):
            return GONE
        elif sign == b"}":
            if before == b",":
                return GONE
            depth -= 1
        out.append(sign if sign is not None else _element(change, quoted, bare, text))
        before = sign if sign is not None else b'"'
    return b"".join(out) if before == b"}" and not depth else GONE


def _element(change: Change, quoted: bytes | None, bare: bytes | None, text: bool) -> bytes:
    if bare is not None and bare.upper() == b"NULL":
        return bare
    value = _ESCAPE.sub(rb"\1", quoted) if quoted is not None else bare or b""
    shown = change(value)
    if shown is GONE:
        return b"NULL"
    shown = value if shown is None else shown
    return shown if not text and _BARE.fullmatch(shown) and shown.upper() != b"NULL" else b'"' + _QUOTED.sub(rb"\\\1", shown) + b'"'


def _binary(change: Change, element: int, value: bytes) -> bytes:
    if len(value) < 12:
        return GONE
    dimensions, flags, kind = struct.unpack_from("!iiI", value)
    at = 12 + 8 * dimensions
    if not 0 <= dimensions <= MAX_DIMENSIONS or flags not in (0, 1) or kind != element or at > len(value):
        return GONE
    count = 1 if dimensions else 0
    for number in range(dimensions):
        (length,) = struct.unpack_from("!i", value, 12 + 8 * number)
        if length < 1:                  # an empty array has no dimensions (array_send)
            return GONE
        count *= length
    if count > (len(value) - at) // 4:
        return GONE
    out = [value[8:at]]
    nulls = False
    for _ in range(count):
        if at + 4 > len(value):
            return GONE
        (length,) = struct.unpack_from("!i", value, at)
        at += 4
        if length == -1:
            shown: bytes | None = GONE
        elif length < 0 or at + length > len(value):
            return GONE
        else:
            bare = value[at:at + length]
            shown = change(bare)
            shown = bare if shown is None else shown
            at += length
        nulls = nulls or shown is GONE
        out.append(encoded(None if shown is GONE else shown))
    return struct.pack("!ii", dimensions, nulls) + b"".join(out) if at == len(value) else GONE
