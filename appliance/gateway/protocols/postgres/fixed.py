# SPDX-License-Identifier: Apache-2.0
"""One fixed value for a whole column, as the column's type writes it in text and in binary format."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from fractions import Fraction
from uuid import UUID

from gateway.protocols.postgres import documents, moments, numbers

BOOL, UUID_TYPE = 16, 2950
_TRUE, _FALSE = frozenset({"true", "t", "yes", "on", "1"}), frozenset({"false", "f", "no", "off", "0"})
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_NUMERIC = re.compile(r"-?[0-9]{1,100}(?:\.([0-9]{1,100}))?")
_FLOAT = re.compile(r"-?[0-9]{1,100}(?:\.[0-9]{1,100})?(?:[eE][+-]?[0-9]{1,3})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_ZONE = re.compile(r"(?:Z|[+-][0-9]{2}(?::[0-9]{2})?)$")

Written = tuple[bytes, bytes]
"""(in text format, in binary format)."""


def written(text: str, type_oid: int) -> Written | None:
    """``text`` as a value of a type that is no text type; ``None`` where it is none, or the type is not one of those below."""
    form = _FORMS.get(type_oid)
    try:
        return form(text) if form is not None else None
    except (ValueError, OverflowError, struct.error):
        return None


def _bool(text: str) -> Written:
    if text.lower() not in _TRUE | _FALSE:
        raise ValueError("no boolean")
    return (b"t", b"\x01") if text.lower() in _TRUE else (b"f", b"\x00")


def _integer(type_oid: int) -> Callable[[str], Written]:
    def form(text: str) -> Written:
        if not _INTEGER.fullmatch(text):
            raise ValueError("no integer")
        return str(int(text)).encode(), struct.pack(numbers.INTEGERS[type_oid][1], int(text))
    return form


def _float(type_oid: int) -> Callable[[str], Written]:
    def form(text: str) -> Written:
        if not _FLOAT.fullmatch(text):
            raise ValueError("no number")
        binary = struct.pack(numbers.FLOATS[type_oid][1], float(text))
        if abs(float(text)) == float("inf"):
            raise ValueError("too large")
        return text.encode(), binary
    return form


def _numeric(text: str) -> Written:
    found = _NUMERIC.fullmatch(text)
    if found is None:
        raise ValueError("no number")
    return text.encode(), numbers.numeric(Fraction(text), len(found[1] or ""))


def _moment(type_oid: int) -> Callable[[str], Written]:
    """ISO 8601; a timestamp may be a date alone, one with time zone is UTC without an offset."""
    def form(text: str) -> Written:
        if type_oid != moments.DATE:
            text = text + " 00:00:00" if _DATE.fullmatch(text) else text
            zone = _ZONE.search(text, 11)
            if type_oid == moments.TIMESTAMPTZ:
                text = text[:zone.start()] + "+00" if zone and zone[0] == "Z" else text if zone else text + "+00"
        found = moments.read(text.encode(), type_oid)
        if found is None:
            raise ValueError("no moment")
        return moments.write(found, type_oid), moments.binary_of(found, type_oid)
    return form


def _uuid(text: str) -> Written:
    found = UUID(text)
    return str(found).encode(), found.bytes


def _json(before: bytes) -> Callable[[str], Written]:
    def form(text: str) -> Written:
        if not documents.is_document(text):
            raise ValueError("no JSON")
        return text.encode(), before + text.encode()
    return form


_FORMS: dict[int, Callable[[str], Written]] = {
    BOOL: _bool, numbers.NUMERIC: _numeric, UUID_TYPE: _uuid, documents.JSON: _json(b""), documents.JSONB: _json(b"\x01"),
    **{oid: _integer(oid) for oid in numbers.INTEGERS}, **{oid: _float(oid) for oid in numbers.FLOATS},
    **{oid: _moment(oid) for oid in moments.MOMENTS},
}
