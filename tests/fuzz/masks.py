# SPDX-License-Identifier: Apache-2.0
"""Every kind of mask on arbitrary values of every type it may meet, in both formats: a value comes out, or NULL, and a secret that is
planted in what the rule hides is not in it."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from gateway.masking import rules
from gateway.masking.rules import GONE, MaskRule
from gateway.protocols.postgres.catalog.model import BuiltinCatalog, Catalog, Objects
from gateway.protocols.postgres.rows import Column, encoded, mask_rows, mask_rows_pure
from gateway.protocols.postgres.typed import column_of, is_text

SECRET = b"078-05-1120"
_MARK = b"\x7f"         # where the secret is planted
_CATALOG = Catalog("1", 150000, "orders", BuiltinCatalog(150000, Objects()))
_LIST = {"$.ssn": MaskRule(), "$..card": rules.keep_last(4), "$.list[*]": rules.NULLED, "$.n": rules.rounded(100), "$[0]": rules.EMAIL}
KINDS = (
    MaskRule(), rules.NULLED, rules.EMAIL, rules.keep_last(4), rules.keep_first(3), rules.hashed("k", b"key"), rules.fixed("1970-01-01"),
    rules.fixed("{}"), rules.rounded(1), rules.rounded(300), rules.cut_to("hour"), rules.cut_to("day"), rules.cut_to("year"),
    rules.json_paths(_LIST), rules.json_paths({"$..*": MaskRule()}), rules.each(MaskRule()), rules.each(rules.keep_last(2)),
    rules.each(rules.NULLED))
TYPES = (25, 1042, 1043, 19, 23, 20, 21, 700, 701, 1700, 1082, 1114, 1184, 1083, 1266, 1186, 114, 3802, 2950, 1009, 1015, 1007, 17, 142,
         790)
"""text and its kin, numbers, moments, documents, uuid, arrays, and what no rule speaks of."""
_SHOWS = frozenset({"keep_last", "keep_first", "email", "json", "each", "hash"})


@functools.cache
def _column(kind: int, type_oid: int, binary: bool, full: bool) -> Column:
    return column_of(KINDS[kind], type_oid, int(binary), _CATALOG, full=full)


def any_value(data: bytes) -> None:
    """Three bytes choose the rule, the type and the format; the rest is the value."""
    if len(data) < 3:
        return
    kind, type_oid = data[0] % len(KINDS), TYPES[data[1] % len(TYPES)]
    binary, full = bool(data[2] & 1), bool(data[2] & 2)
    value = data[3:].replace(_MARK, SECRET)
    column, rule = _column(kind, type_oid, binary, full), KINDS[kind]
    row = b"D" + (6 + 4 + len(value)).to_bytes(4) + b"\0\1" + encoded(value)
    found = mask_rows(row, 1, ((0, column),))
    assert found == mask_rows_pure(row, 1, ((0, column),))
    shown = found[0][11:]
    assert int.from_bytes(found[0][7:11], signed=True) == (len(shown) or -1 if found[0][7:8] == b"\xff" else len(shown))
    if full or rule.kind not in _SHOWS:
        assert shown == _constant(column) or rule.kind in ("round", "date"), shown
        assert SECRET not in shown
    elif is_text(type_oid, _CATALOG) and rule.kind in ("keep_last", "keep_first"):
        _keeps(rule, value, shown, padded=type_oid == 1042)
    elif rule.kind == "each" and SECRET in value:
        assert SECRET not in shown, shown


def _constant(column: Column) -> bytes:
    return b"" if column.constant is None else column.constant[4:]


def _keeps(rule: MaskRule, value: bytes, shown: bytes, *, padded: bool) -> None:
    bare = value.rstrip(b" ") if padded else value
    try:
        text = bare.decode()
    except UnicodeDecodeError:
        assert shown.rstrip(b" ") == b"****"
        return
    hidden = max(len(text) - rule.keep, 0) or len(text)
    stars = shown.decode()[:hidden] if rule.kind == "keep_last" else shown.decode()[len(text) - hidden:len(text)]
    assert len(shown.decode()) == len(text) + len(value) - len(bare) and set(stars) <= {"*"}, shown


def documents(data: bytes) -> None:
    """A document whose hidden parts hold the secret, with the rest as it comes; in json, in jsonb, in an array of text."""
    if not data:
        return
    free = data[1:].decode("utf-8", "ignore").replace(SECRET.decode(), "")
    held = ('{"ssn": "%s", "a": [%s]}', '{"a": {"card": "%s"}, %s: 1}', '{"list": [{"%s": %s}, 1]}', '["%s", %s]')[data[0] & 3]
    value = (held % (SECRET.decode(), free)).encode()
    for type_oid, binary in ((114, False), (114, True), (3802, False), (3802, True)):
        column = column_of(rules.json_paths(_LIST), type_oid, int(binary), _CATALOG)
        assert column.change is not None
        shown = column.change(b"\x01" + value if binary and type_oid == 3802 else value)
        assert shown is not None and (shown is GONE or SECRET not in shown), shown
    array = f'{{{free},"{SECRET.decode()}"}}'.encode()
    hidden = column_of(rules.each(MaskRule()), 1009, 0, _CATALOG).change
    assert hidden is not None
    again = hidden(array)
    assert again is GONE or again is not None and SECRET not in again, again


def value_seeds() -> Iterable[bytes]:
    values = {
        25: b"a \x7f b", 1042: b"\x7f    ", 23: b"-12345", 1700: b"1234.50", 701: b"1e300", 1082: b"2026-11-22",
        1114: b"2026-11-22 10:50:21.5", 1184: b"2026-11-22 10:50:21.5+01", 2950: b"6f1ed002-ab5c-4d3e-8f21-0123456789ab",
        114: b'{"ssn": "\x7f", "n": 1234, "list": [1, {"card": "4111"}]}', 1009: b'{a,"\x7f",NULL,"q\\"x"}', 1186: b"1 day 02:03:04"}
    for place, type_oid in enumerate(TYPES):
        for kind in range(len(KINDS)):
            if type_oid in values:
                yield bytes([kind, place, 0]) + values[type_oid]
    for kind in range(len(KINDS)):
        yield bytes([kind, TYPES.index(1700), 1]) + b"\0\2\0\1\0\0\0\2\4\xd2\x13\x88"
        yield bytes([kind, TYPES.index(1114), 1]) + (700_000_000_000_000).to_bytes(8)
        yield bytes([kind, TYPES.index(1009), 1]) + b"\0\0\0\1\0\0\0\0\0\0\0\x19\0\0\0\1\0\0\0\1\0\0\0\1\x7f"
        yield bytes([kind, TYPES.index(3802), 1]) + b'\1{"card": "\x7f"}'


def document_seeds() -> Iterable[bytes]:
    for kind in range(4):
        yield bytes([kind]) + b'1, {"x": "y\\u0041"}'
        yield bytes([kind]) + b'"q"'
