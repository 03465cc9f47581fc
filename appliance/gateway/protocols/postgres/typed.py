# SPDX-License-Identifier: Apache-2.0
"""A rule on a column of a type, in text or in binary format: what the row loops and COPY do with its values.

Text types carry the masked text. Of the others a rule may speak of a type (``round``, ``date``, ``json``, ``each``, ``hash`` on uuid,
``value``); whatever it does not speak of becomes NULL.
"""

from __future__ import annotations

from functools import lru_cache
from struct import pack
from uuid import UUID

from gateway.masking.rules import GONE, HIDDEN, UNITS, MaskRule, on_bytes
from gateway.protocols.postgres import documents, moments, numbers
from gateway.protocols.postgres.arrays import element_wise
from gateway.protocols.postgres.catalog.model import BuiltinCatalog, Catalog, Objects
from gateway.protocols.postgres.fixed import UUID_TYPE, Written, written
from gateway.protocols.postgres.rows import KERNELS, NULL, TYPED_KERNELS, Change, Column, encoded

BPCHAR = 1042
TEXT_TYPES = frozenset({25, 1043, BPCHAR, 19, 705})
"""text, varchar, bpchar, name, unknown; citext is looked up by name. A domain is described as its base type."""
_ARRAYS = {
    1009: 25, 1015: 1043, 1014: BPCHAR, 1003: 19, 1000: 16, 1005: 21, 1007: 23, 1016: 20, 1231: 1700, 1021: 700, 1022: 701, 1182: 1082,
    1115: 1114, 1185: 1184, 2951: 2950, 199: 114, 3807: 3802}
"""Array types that PostgreSQL itself has, and the types of their elements."""
TEXT, BINARY = 0, 1
GONE_COLUMN = Column(constant=NULL)


def is_text(type_oid: int, catalog: Catalog) -> bool:
    """A type whose values may be any text."""
    if type_oid in TEXT_TYPES:
        return True
    found = catalog.type_by_oid(type_oid) if type_oid >= 16384 else None
    if found is not None and found.kind == "d":
        return not found.checks and is_text(found.base, catalog)
    return found is not None and found.name == "citext" and found.kind == "b" and found.category == "S"


def column_of(rule: MaskRule, type_oid: int, code: int, catalog: Catalog, *, full: bool = False) -> Column:
    """How the values of a column are hidden. ``code``: the format, 0 text, 1 binary. ``full``: no part of the rule may keep anything."""
    if full and not rule.whole:
        rule = _REDACT
    if rule.kind == "null" or code not in (TEXT, BINARY):
        return GONE_COLUMN
    if is_text(type_oid, catalog):
        return _text_column(rule, type_oid == BPCHAR)
    base = _base(type_oid, catalog)
    if rule.kind == "each":
        return _array(rule.inner[0][1], base, code, catalog)
    if rule.kind == "value" and (empty := _named(rule.text, base, catalog)) is not None:
        return Column(constant=encoded(empty[code]))
    return _typed(rule, base, code)


_REDACT = MaskRule()


def _base(type_oid: int, catalog: Catalog) -> int:
    """The type under a domain."""
    found = catalog.type_by_oid(type_oid) if type_oid >= 16384 else None
    return _base(found.base, catalog) if found is not None and found.kind == "d" and found.base else type_oid


@lru_cache(maxsize=1024)
def _text_column(rule: MaskRule, padded: bool) -> Column:
    if rule.kind in KERNELS or rule.kind == "hash":
        return Column(None, partial(rule, padded), KERNELS.get(rule.kind, 0), rule.keep, padded)
    return Column(constant=encoded((rule.text if rule.kind == "value" else HIDDEN).encode()))


def partial(rule: MaskRule, padded: bool = False) -> Change:
    """A rule on UTF-8 bytes. The blanks that pad a bpchar are no part of its value. What is not UTF-8 is hidden."""
    change = on_bytes(rule)
    if padded and rule.kind == "hash":      # equal values give equal texts, however far they are padded
        return lambda value: change(value.rstrip(b" "))

    def change_padded(value: bytes) -> bytes:
        bare = value.rstrip(b" ")
        return change(bare) + b" " * (len(value) - len(bare))

    return change_padded if padded else change


@lru_cache(maxsize=1024)
def _typed(rule: MaskRule, type_oid: int, code: int) -> Column:
    binary = code == BINARY
    kernel = TYPED_KERNELS.get((rule.kind, type_oid, binary), 0)
    if rule.kind == "round" and type_oid in numbers.NUMBERS:
        return Column(change=numbers.rounding(rule.keep, type_oid, binary), kernel=kernel, keep=rule.keep)
    if rule.kind == "date" and type_oid in moments.MOMENTS:
        return Column(change=moments.cutting(rule.text, type_oid, binary), kernel=kernel, keep=UNITS.index(rule.text))
    if rule.kind == "json" and type_oid in (documents.JSON, documents.JSONB):
        return Column(change=documents.hiding(rule, type_oid, binary))
    if rule.kind == "hash" and type_oid == UUID_TYPE:
        return Column(change=_uuid_hash(rule, binary))
    if rule.kind == "value" and (fixed := written(rule.text, type_oid)) is not None:
        return Column(constant=encoded(fixed[code]))
    return GONE_COLUMN


def _uuid_hash(rule: MaskRule, binary: bool) -> Change:
    """A UUID of version 8 (RFC 9562) out of the keyed hash of the 16 bytes, the same from both formats."""
    def change(value: bytes) -> bytes:
        try:
            raw = value if binary else UUID(value.decode()).bytes
        except ValueError:
            return GONE
        if len(raw) != 16:
            return GONE
        digest = bytearray(rule.digest(raw))
        digest[6] = digest[6] & 0x0F | 0x80
        digest[8] = digest[8] & 0x3F | 0x80
        return bytes(digest) if binary else str(UUID(bytes=bytes(digest))).encode()
    return change


def _named(text: str, type_oid: int, catalog: Catalog) -> Written | None:
    """A fixed value of a type that its kind alone says how to write: a label of an enumeration, an empty range, multirange or array."""
    found = catalog.type_by_oid(type_oid)
    if found is not None and found.kind == "e":
        return text.encode(), text.encode()
    if found is not None and found.kind == "r" and text == "empty":
        return b"empty", b"\x01"                                        # RANGE_EMPTY of rangetypes.h
    if found is not None and found.kind == "m" and text == "{}":
        return b"{}", pack("!i", 0)
    if (element := _element_of(type_oid, catalog)) and text == "{}":
        return b"{}", pack("!iiI", 0, 0, element)
    return None


def _element_of(type_oid: int, catalog: Catalog) -> int:
    """The type of an array's elements, 0 for what is no array."""
    found = catalog.type_by_oid(type_oid)
    return _ARRAYS.get(type_oid) or (found.element if found is not None and found.category == "A" else 0)


def _array(rule: MaskRule, type_oid: int, code: int, catalog: Catalog) -> Column:
    """Element by element. What says nothing of the elements' type hides the whole array; ``null`` speaks of every type."""
    element = _element_of(type_oid, catalog)
    if not element:
        return GONE_COLUMN
    text = is_text(element, catalog)
    inner = GONE_COLUMN if rule.kind == "null" else column_of(rule, element, code, catalog)
    if inner.constant == NULL and rule.kind != "null":
        return GONE_COLUMN
    hidden: bytes = GONE if inner.constant == NULL else inner.constant[4:] if inner.constant is not None else b""
    change = inner.change if inner.change is not None else lambda value: hidden
    return Column(change=element_wise(change, element, code == BINARY, text=text))


_BUILTIN = Catalog("", 0, "", BuiltinCatalog(0, Objects()))


def shows(rule: MaskRule, type_oid: int) -> str:
    """What of a built-in type can be seen through a rule: ``parts`` (or what the rule says instead), ``****``, or ``NULL``."""
    column = column_of(rule, type_oid, TEXT, _BUILTIN)
    if column.constant is None or rule.kind == "value" and column.constant != NULL:
        return "parts"
    return "NULL" if column.constant == NULL else HIDDEN
