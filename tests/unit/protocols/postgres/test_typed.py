# SPDX-License-Identifier: Apache-2.0
"""Rules on types: what becomes of values of each type in text and in binary format, and NULL for what a rule does not speak of."""

from __future__ import annotations

import datetime
import json
import struct
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from gateway.config.masks import Mask
from gateway.masking.rules import (
    EMAIL,
    GONE,
    NULLED,
    REDACT,
    UNITS,
    MaskRule,
    cut_to,
    each,
    fixed,
    hashed,
    json_paths,
    keep_first,
    keep_last,
    rounded,
)
from gateway.protocols.postgres.catalog.model import BuiltinCatalog, Catalog, Objects, Type
from gateway.protocols.postgres.moments import DAY, cut, date_of, days_of
from gateway.protocols.postgres.numbers import nearest, numeric, read_numeric
from gateway.protocols.postgres.rows import NULL
from gateway.protocols.postgres.settings import mask_problem
from gateway.protocols.postgres.typed import BINARY, TEXT, column_of

TAGS, POSITIVE = 17101, 17102
CATALOG = Catalog(
    "1",
    150000,
    "orders",
    BuiltinCatalog(150000, Objects()),
    Objects(
        types=(
            Type(TAGS, "public", "_citext", "b", "A", element=17103),
            Type(17103, "public", "citext", "b", "S"),
            Type(POSITIVE, "public", "positive", "d", "N", base=23),
        )
    ),
)
KEY = b"0123456789abcdef0123456789abcdef"
HASH = hashed("k", KEY)
EPOCH = datetime.date(2000, 1, 1)


def shown(rule: MaskRule, oid: int, value: bytes, code: int = TEXT, *, full: bool = False) -> bytes | None:
    """What the caller gets for a value, ``None`` for NULL."""
    column = column_of(rule, oid, code, CATALOG, full=full)
    if column.constant is not None:
        return None if column.constant == NULL else column.constant[4:]
    assert column.change is not None
    found = column.change(value)
    return None if found is GONE else value if found is None else found


# text


def test_text_types_in_both_formats() -> None:
    for code in (TEXT, BINARY):
        for oid in (25, 1043, 19, 705, 17103):
            assert shown(HASH, oid, b"a", code) == HASH.digest(b"a").hex().encode()
            assert shown(fixed("x"), oid, b"a", code) == b"x" and shown(NULLED, oid, b"a", code) is None
            for rule in (rounded(10), cut_to("day"), json_paths({"$.a": REDACT}), each(REDACT), REDACT):
                assert shown(rule, oid, b"12", code) == b"****"


def test_hashes_of_padded_text_are_those_of_the_text() -> None:
    assert shown(HASH, 1042, b"abc  ") == shown(HASH, 1042, b"abc") == shown(HASH, 25, b"abc")
    assert len(shown(HASH, 25, b"") or b"") == 32
    assert shown(hashed("k", b"another"), 25, b"abc") != shown(HASH, 25, b"abc")
    assert "0123" not in repr(HASH)
    with pytest.raises(ValueError, match="key"):
        hashed("k", b"")


@pytest.mark.parametrize(
    "rule", [REDACT, keep_last(4), keep_first(1), EMAIL, HASH, json_paths({"$.a": REDACT}), cut_to("day"), each(EMAIL)]
)
def test_other_types_become_null(rule: MaskRule) -> None:
    for oid in (16, 17, 20, 23, 869, 650, 3904, 2249, 600, 1009 if rule.kind != "each" else 1007):
        for code in (TEXT, BINARY):
            assert shown(rule, oid, b"1", code) is None


def test_computed_values_keep_nothing() -> None:
    for rule in (rounded(10), HASH, cut_to("year"), keep_last(4), json_paths({"$.a": REDACT}), each(EMAIL)):
        assert shown(rule, 25, b"12345678", full=True) == b"****"
        assert shown(rule, 23, b"12", full=True) is None and shown(rule, 3802, b'{"b":1}', full=True) is None
    assert shown(NULLED, 25, b"x", full=True) is None and shown(fixed("x"), 25, b"y", full=True) == b"x"


def test_an_unknown_format_is_null() -> None:
    assert shown(keep_last(4), 25, b"12345678", 2) is None


# numbers


@given(st.integers(-(10**18), 10**18), st.integers(1, 10**6))
def test_integers(value: int, step: int) -> None:
    expected = int((Decimal(value) / step).quantize(Decimal(1), ROUND_HALF_UP)) * step
    assert nearest(value, step) == expected and abs(expected - value) * 2 <= step
    fits = -(2**63) <= expected < 2**63
    assert shown(rounded(step), 20, str(value).encode()) == (str(expected).encode() if fits else None)
    assert shown(rounded(step), 20, struct.pack("!q", value), BINARY) == (struct.pack("!q", expected) if fits else None)


def test_a_rounded_integer_that_leaves_its_type() -> None:
    assert shown(rounded(100), 21, b"32767") is None and shown(rounded(100), 21, struct.pack("!h", 32767), BINARY) is None
    assert shown(rounded(100), 23, b"32767") == b"32800" and shown(rounded(10), POSITIVE, b"47") == b"50"


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30, places=7), st.integers(1, 10**6))
def test_numerics(value: Decimal, step: int) -> None:
    text = f"{value:f}"
    scale = len(text.partition(".")[2])
    raw = numeric(Fraction(text), scale)
    assert read_numeric(raw) == Fraction(text)
    seen = shown(rounded(step), 1700, text.encode())
    assert seen is not None and int(seen) == nearest(Fraction(text), step)
    binary = shown(rounded(step), 1700, raw, BINARY)
    assert binary is not None and read_numeric(binary) == int(seen) and binary == numeric(Fraction(seen.decode()), 0)


@pytest.mark.parametrize(
    ("number", "wire"),
    [
        ("0", "00000000 00000000"),
        ("1", "00010000 00000000 0001"),
        ("12345.67", "00030001 00000002 0001 0929 1a2c"),
        ("-0.0001", "0001ffff 40000004 0001"),
        ("10000", "00010001 00000000 0001"),
        ("0.5", "0001ffff 00000001 1388"),
    ],
)
def test_numeric_as_the_server_sends_it(number: str, wire: str) -> None:
    raw = bytes.fromhex(wire)
    assert numeric(Fraction(number), len(number.partition(".")[2])) == raw and read_numeric(raw) == Fraction(number)


@pytest.mark.parametrize(
    ("oid", "value", "code"),
    [
        (1700, b"NaN", TEXT),
        (1700, b"Infinity", TEXT),
        (1700, b"1e5", TEXT),
        (1700, b"1" * 401, TEXT),
        (1700, b"", TEXT),
        (23, b" 1", TEXT),
        (1700, bytes.fromhex("00000000c0000000"), BINARY),
        (1700, bytes.fromhex("00000000d0000000"), BINARY),
        (1700, bytes.fromhex("0001000000000000"), BINARY),
        (1700, bytes.fromhex("00010000000000002710"), BINARY),
        (1700, b"", BINARY),
        (1700, bytes.fromhex("000040000000000000"), BINARY),
        (23, b"\0\0\0", BINARY),
        (701, b"NaN", TEXT),
        (701, b"Infinity", TEXT),
        (701, b"1e300", TEXT),
        (701, struct.pack("!d", float("nan")), BINARY),
        (701, struct.pack("!d", float("inf")), BINARY),
        (700, b"", BINARY),
        (790, b"$1.00", TEXT),
        (25, b"\xff", TEXT),
    ],
)
def test_what_cannot_be_rounded(oid: int, value: bytes, code: int) -> None:
    assert shown(rounded(10), oid, value, code) == (b"****" if oid == 25 else None)


def test_floats() -> None:
    assert shown(rounded(10), 701, b"-1234.5") == b"-1230" and shown(rounded(100), 700, b"1.25e+03") == b"1300"
    assert shown(rounded(10), 701, struct.pack("!d", -1234.5), BINARY) == struct.pack("!d", -1230.0)
    assert shown(rounded(10), 700, struct.pack("!f", 47.5), BINARY) == struct.pack("!f", 50.0)
    assert shown(rounded(10), 701, b"-0.1") == b"0"


# moments


@given(st.dates(), st.sampled_from(UNITS))
def test_dates(day: datetime.date, unit: str) -> None:
    expected = day.replace(day=1) if unit == "month" else day.replace(month=1, day=1) if unit == "year" else day
    assert shown(cut_to(unit), 1082, day.isoformat().encode()) == expected.isoformat().encode()
    raw = struct.pack("!i", (day - EPOCH).days)
    assert shown(cut_to(unit), 1082, raw, BINARY) == struct.pack("!i", (expected - EPOCH).days)
    assert date_of((day - EPOCH).days) == (day.year, day.month, day.day)


@given(st.datetimes(), st.sampled_from(UNITS))
def test_timestamps(moment: datetime.datetime, unit: str) -> None:
    zero = {"minute": 0, "second": 0, "microsecond": 0}
    fields = {
        "hour": zero,
        "day": zero | {"hour": 0},
        "month": zero | {"hour": 0, "day": 1},
        "year": zero | {"hour": 0, "day": 1, "month": 1},
    }
    expected = moment.replace(**fields[unit])  # type: ignore[arg-type]
    assert shown(cut_to(unit), 1114, str(moment).encode()) == str(expected).encode()
    epoch, micro = datetime.datetime(2000, 1, 1), datetime.timedelta(microseconds=1)  # noqa: DTZ001 - the type has no time zone
    raw = struct.pack("!q", (moment - epoch) // micro)
    assert shown(cut_to(unit), 1114, raw, BINARY) == struct.pack("!q", (expected - epoch) // micro)
    assert shown(cut_to(unit), 1184, raw, BINARY) == struct.pack("!q", (expected - epoch) // micro)


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("2024-03-01 00:30:00+01", "hour", "2024-02-29 23:00:00+00"),
        ("2024-03-01 00:30:00+05:45", "day", "2024-02-29 00:00:00+00"),
        ("2024-03-01 12:30:00.5-08", "year", "2024-01-01 00:00:00+00"),
        ("0044-03-15 12:30:00-00:53:28 BC", "month", "0044-03-01 00:00:00+00 BC"),
        ("12024-03-01 12:00:00+00", "month", "12024-03-01 00:00:00+00"),
    ],
)
def test_time_zones_do_not_move_the_borders(text: str, unit: str, expected: str) -> None:
    assert shown(cut_to(unit), 1184, text.encode()) == expected.encode()


@pytest.mark.parametrize(
    ("oid", "text"),
    [
        (1082, "01/03/2024"),
        (1082, "Fri Mar 01 2024"),
        (1082, "infinity"),
        (1082, "2024-13-01"),
        (1082, "2024-03-01 00:00:00"),
        (1082, "2024-00-01"),
        (1114, "2024-03-01"),
        (1114, "2024-03-01 00:00:00+00"),
        (1114, "01.03.2024 00:00:00"),
        (1184, "2024-03-01 00:00:00"),
        (1184, "-infinity"),
        (1184, "2024-03-01 00:00:00 CET"),
        (1114, "2024-03-01 25:00:00"),
        (1083, "12:00:00"),
        (1186, "1 day"),
        (1082, ""),
        (1082, "0000-01-01"),
    ],
)
def test_what_is_no_iso_date(oid: int, text: str) -> None:
    assert shown(cut_to("month"), oid, text.encode()) is None


def test_edges_of_binary_moments() -> None:
    for raw, oid in (
        (b"\x7f\xff\xff\xff", 1082),
        (b"\x80\0\0\0", 1082),
        (b"\x7f" + b"\xff" * 7, 1184),
        (b"\x80" + bytes(7), 1114),
        (b"\0", 1082),
    ):
        assert shown(cut_to("year"), oid, raw, BINARY) is None
    assert shown(cut_to("day"), 1082, b"\0\0\0\1", BINARY) == b"\0\0\0\1"


@given(st.integers(-(10**6), 10**6))
def test_every_day_has_one_date(days: int) -> None:
    assert days_of(*date_of(days)) == days and cut(days * DAY + 5, "day") == days * DAY


# hash on uuid


@given(st.uuids())
def test_uuids(value: UUID) -> None:
    text, raw = shown(HASH, 2950, str(value).encode()), shown(HASH, 2950, value.bytes, BINARY)
    assert text is not None and raw is not None and UUID(text.decode()).bytes == raw
    assert UUID(bytes=raw).version == 8 and UUID(bytes=raw).variant == "specified in RFC 4122"
    assert shown(HASH, 2950, b"x") is None and shown(HASH, 2950, b"x", BINARY) is None


# fixed values


@pytest.mark.parametrize(
    ("text", "oid", "in_text", "in_binary"),
    [
        ("7", 23, b"7", b"\0\0\0\7"),
        ("-7", 21, b"-7", b"\xff\xf9"),
        ("7", 20, b"7", bytes(7) + b"\7"),
        ("true", 16, b"t", b"\1"),
        ("no", 16, b"f", b"\0"),
        ("1.5", 701, b"1.5", struct.pack("!d", 1.5)),
        ("1.50", 1700, b"1.50", bytes.fromhex("000200000000000200011388")),
        ("2000-01-02", 1082, b"2000-01-02", b"\0\0\0\1"),
        ("2000-01-01", 1114, b"2000-01-01 00:00:00", bytes(8)),
        ("2000-01-01T01:00:00+01:00", 1184, b"2000-01-01 00:00:00+00", bytes(8)),
        ("2000-01-01 00:00:00Z", 1184, b"2000-01-01 00:00:00+00", bytes(8)),
        ("2000-01-01", 1184, b"2000-01-01 00:00:00+00", bytes(8)),
        ("00000000-0000-0000-0000-000000000001", 2950, b"00000000-0000-0000-0000-000000000001", bytes(15) + b"\1"),
        ('{"a": 1}', 3802, b'{"a": 1}', b'\1{"a": 1}'),
        ("null", 114, b"null", b"null"),
        ("x", 25, b"x", b"x"),
        ("x", 23, None, None),
        ("99999999999", 23, None, None),
        ("1.5", 23, None, None),
        ("2000-02-31x", 1082, None, None),
        ("maybe", 16, None, None),
        ("{", 114, None, None),
        ("NaN", 701, None, None),
        ("1e999", 701, None, None),
        ("x", 869, None, None),
        ("12:00", 1083, None, None),
        ("z", 2950, None, None),
    ],
)
def test_fixed_values(text: str, oid: int, in_text: bytes | None, in_binary: bytes | None) -> None:
    assert (shown(fixed(text), oid, b"?"), shown(fixed(text), oid, b"?", BINARY)) == (in_text, in_binary)


# documents

PROFILE = {
    "$.ssn": REDACT,
    "$.cards[*].number": keep_last(4),
    "$..secret": NULLED,
    '$["a b"][0]': fixed("x"),
    "$.age": rounded(10),
    "$.who.*": HASH,
}


def hidden(document: str, paths: dict[str, MaskRule] = PROFILE) -> object:
    text = shown(json_paths(paths), 114, document.encode())
    binary = shown(json_paths(paths), 3802, b"\1" + document.encode(), BINARY)
    assert binary == (None if text is None else b"\1" + text)
    assert shown(json_paths(paths), 114, document.encode(), BINARY) == shown(json_paths(paths), 3802, document.encode()) == text
    return None if text is None else json.loads(text)


def test_paths_into_documents() -> None:
    document = {
        "ssn": "078",
        "cards": [{"number": "4111111111111111", "kind": "v"}, {"number": 5}, 7],
        "deep": [{"secret": {"x": 1}}],
        "secret": 1,
        "a b": [1, 2],
        "age": 47,
        "who": {"x": "a", "n": 5, "l": [1]},
        "tier": "gold",
    }
    assert hidden(json.dumps(document)) == {
        "ssn": "****",
        "cards": [{"number": "************1111", "kind": "v"}, {"number": None}, 7],
        "deep": [{"secret": None}],
        "secret": None,
        "a b": ["x", 2],
        "age": 50,
        "who": {"x": HASH.digest(b"a").hex(), "n": HASH.digest(b"5").hex(), "l": None},
        "tier": "gold",
    }


def test_what_a_rule_makes_of_other_values() -> None:
    assert hidden('{"ssn": 78, "age": "47", "cards": "x"}') == {"ssn": None, "age": "****", "cards": "x"}
    assert (
        hidden('{"ssn": null}') == {"ssn": None}
        and hidden('{"ssn": {"a": 1}}') == {"ssn": None}
        and hidden('{"ssn": true}') == {"ssn": None}
    )


def test_escapes_and_doubles_hide_nothing() -> None:
    text = shown(json_paths(PROFILE), 114, rb'{"\u0073sn": "078", "ssn": "079", "n": 1.0e5, "big": 123456789012345678901234567890}')
    assert text == b'{"ssn": "****", "ssn": "****", "n": 1.0e5, "big": 123456789012345678901234567890}'


def test_a_document_without_the_path_stays_as_it_is() -> None:
    assert shown(json_paths(PROFILE), 114, b'{ "tier" : "gold" }') == b'{ "tier" : "gold" }'


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b'{"ssn": 1,}',
        b"\xff",
        b"NaN",
        b'{"ssn": Infinity}',
        b"[" * 100_000,
        b"{'a': 1}",
        b'{"ssn": "\x01"}',
        b'{"ssn": 1} x',
        b'{"x": "\\ud800", "ssn": 1}',
    ],
)
def test_what_is_no_json_becomes_null(document: bytes) -> None:
    assert shown(json_paths(PROFILE), 114, document) is None
    assert shown(json_paths(PROFILE), 3802, b"\2{}", BINARY) is None and shown(json_paths(PROFILE), 3802, b"", BINARY) is None


def test_of_two_paths_to_one_place_both_count() -> None:
    paths = {"$.a": keep_last(4), "$..a": keep_last(2), "$.a.b": REDACT}
    assert hidden('{"a": "12345678"}', paths) == {"a": "******78"} and hidden('{"a": {"b": 1}}', paths) == {"a": None}


# arrays


def test_arrays_of_text() -> None:
    rule = each(keep_last(2))
    assert shown(rule, 1009, b'{abcd,"e,\\"f\\\\gh",NULL,"NULL"}') == b'{"**cd","*****gh",NULL,"**LL"}'
    assert shown(rule, 1009, b"[2:3]={abcd,efgh}") == b'[2:3]={"**cd","**gh"}'
    assert shown(rule, 1009, b"{{ab,cd},{ef,gh}}") == b'{{"**","**"},{"**","**"}}' and shown(rule, 1009, b"{}") == b"{}"
    assert shown(each(REDACT), 1009, b"{a,b}") == b'{"****","****"}' and shown(each(EMAIL), TAGS, b"{a@b.c}") == b'{"a***@b.c"}'
    assert shown(each(EMAIL), 1007, b"{1}") is None and shown(keep_last(2), 1009, b"{abcd}") is None


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{",
        b"}",
        b"{a",
        b"{a}}",
        b"{a,}",
        b"{,a}",
        b"{a b}",
        b'{"a}',
        b"{a}{b}",
        b"{{a},b",
        b"a",
        b'{a"b"}',
        b"[1:1]=",
        b"{{{{{{{a}}}}}}}",
        b"{a}x",
        b'{"a""b"}',
    ],
)
def test_what_is_no_array_becomes_null(value: bytes) -> None:
    assert shown(each(keep_last(2)), 1009, value) is None


def array_of(*values: bytes | None, oid: int = 25) -> bytes:
    body = b"".join(NULL if value is None else struct.pack("!i", len(value)) + value for value in values)
    return struct.pack("!iiIii", 1, None in values, oid, len(values), 1) + body


@given(st.lists(st.one_of(st.none(), st.text(max_size=6).map(str.encode)), min_size=1, max_size=5))
def test_binary_arrays(values: list[bytes | None]) -> None:
    raw = array_of(*values)
    mask = [None if value is None else shown(keep_last(2), 25, value) for value in values]
    assert shown(each(keep_last(2)), 1009, raw, BINARY) == array_of(*mask)
    for cut_at in range(len(raw)):
        assert shown(each(keep_last(2)), 1009, raw[:cut_at], BINARY) is None
    assert shown(each(keep_last(2)), 1009, raw + b"x", BINARY) is None and shown(each(keep_last(2)), 1015, raw, BINARY) is None


def test_an_empty_binary_array() -> None:
    raw = struct.pack("!iiI", 0, 0, 25)
    assert shown(each(keep_last(2)), 1009, raw, BINARY) == raw
    assert shown(each(REDACT), 1009, struct.pack("!iiIii", 1, 0, 25, 2**31 - 1, 1), BINARY) is None


def test_binary_arrays_hold_nothing_between_their_elements() -> None:
    """A dimension of no elements would let every other length be anything: servers write none."""
    for lengths in ((0,), (0, 0x30373830), (0x30373830, 0), (-1, -1)):
        body = b"".join(struct.pack("!ii", length, 0x35312D30) for length in lengths)
        assert shown(each(REDACT), 1009, struct.pack("!iiI", len(lengths), 0, 25) + body, BINARY) is None


# what a mask will not do, told by `lockgate check`


@pytest.mark.parametrize(
    ("mask", "oid", "problem"),
    [
        ({"value": "x"}, 23, "value does not speak of this column's type: every value will be NULL"),
        ({"value": 5}, 23, None),
        ({"value": "x"}, 25, None),
        ({"round": 10}, 25, "round does not speak of this column's type: every value will be ****"),
        ({"round": 10}, 1700, None),
        ({"date": "day"}, 1083, "date does not speak of this column's type: every value will be NULL"),
        ({"json": {"$.a": "redact"}}, 3802, None),
        ({"json": {"$.a": "redact"}}, 25, "json does not speak of this column's type: every value will be ****"),
        ({"hash": "k"}, 2950, None),
        ({"hash": "k"}, 20, "hash does not speak of this column's type: every value will be NULL"),
        ({"each": "email"}, 1009, None),
        ({"each": "email"}, 25, "each does not speak of this column's type: every value will be ****"),
        ("redact", 23, None),
        ({"keep_last": 4}, 23, None),
        ({"round": 10}, POSITIVE, None),
    ],
)
def test_what_check_says(mask: object, oid: int, problem: str | None) -> None:
    spec = TypeAdapter(Mask).validate_python(mask)
    assert mask_problem(oid, spec) == problem


# elements of other types, and types that have no parts

DAYS, MOODS, MOOD_TYPE, SPAN, SPANS, PLACES = 1182, 17201, 17202, 3904, 4451, 17203
SHAPES = Catalog("1", 150000, "orders", BuiltinCatalog(150000, Objects(types=(
    Type(SPAN, "pg_catalog", "int4range", "r", "R", subtype=23), Type(SPANS, "pg_catalog", "int4multirange", "m", "R", subtype=23)))),
    Objects(types=(Type(MOODS, "public", "_mood", "b", "A", element=MOOD_TYPE), Type(MOOD_TYPE, "public", "mood", "e", "E"),
                   Type(PLACES, "public", "_place", "b", "A", element=17204), Type(17204, "public", "place", "c", "C"))))  # fmt: skip


@pytest.mark.parametrize(("rule", "oid", "before", "after"), [
    (cut_to("year"), DAYS, b"{2024-05-17,NULL,infinity}", b"{2024-01-01,NULL,NULL}"),
    (cut_to("hour"), 1185, b'{"2024-05-17 23:14:15+00"}', b'{"2024-05-17 23:00:00+00"}'),
    (rounded(10), 1231, b"{1234.56,-5,NaN}", b"{1230,-10,NULL}"),
    (rounded(10), 1007, b"[2:3]={{17},{14}}", b"[2:3]={{20},{10}}"),
    (fixed("false"), 1000, b"{t,f}", b"{f,f}"),
    (NULLED, PLACES, b'{"(\\"a b\\",5)",NULL}', b"{NULL,NULL}"),
    (NULLED, 1009, b'{a,"b c"}', b"{NULL,NULL}"),
    (fixed("other"), MOODS, b"{good}", b"{other}"),
    (fixed("two words"), MOODS, b"{good}", b'{"two words"}'),
    (fixed("null"), MOODS, b"{good}", b'{"null"}'),
    (rounded(10), 1009, b"{12}", b'{"****"}'),
    (REDACT, PLACES, b"{NULL}", None),
    (rounded(10), DAYS, b"{2024-05-17}", None),
    (cut_to("year"), 1007, b"{1}", None),
    (NULLED, 23, b"1", None),
])  # fmt: skip
def test_elements_of_other_types(rule: MaskRule, oid: int, before: bytes, after: bytes | None) -> None:
    column = column_of(each(rule), oid, TEXT, SHAPES)
    if after is None:
        assert column.constant == NULL
    else:
        assert column.change is not None and column.change(before) == after


@pytest.mark.parametrize(("rule", "oid", "element", "before", "after"), [
    (cut_to("year"), DAYS, 1082, [struct.pack("!i", 100), None], [struct.pack("!i", 0), None]),
    (rounded(10), 1007, 23, [struct.pack("!i", 14)], [struct.pack("!i", 10)]),
    (fixed("false"), 1000, 16, [b"\1"], [b"\0"]),
    (NULLED, PLACES, 17204, [b"anything", None], [None, None]),
    (fixed("other"), MOODS, MOOD_TYPE, [b"good"], [b"other"]),
])  # fmt: skip
def test_elements_of_other_types_in_binary(
    rule: MaskRule, oid: int, element: int, before: list[bytes | None], after: list[bytes | None],
) -> None:
    def array(values: list[bytes | None]) -> bytes:
        body = b"".join(NULL if value is None else struct.pack("!i", len(value)) + value for value in values)
        return struct.pack("!iiIii", 1, None in values, element, len(values), 1) + body

    column = column_of(each(rule), oid, BINARY, SHAPES)
    assert column.change is not None
    assert column.change(array(before)) == array(after)


@pytest.mark.parametrize(("text", "oid", "shows"), [
    ("other", MOOD_TYPE, (b"other", b"other")), ("empty", SPAN, (b"empty", b"\1")), ("{}", SPANS, (b"{}", b"\0\0\0\0")),
    ("{}", 1007, (b"{}", struct.pack("!iiI", 0, 0, 23))), ("{}", PLACES, (b"{}", struct.pack("!iiI", 0, 0, 17204))),
    ("[1,2)", SPAN, None), ("{1}", 1007, None), ("empty", SPANS, None), ("()", 17204, None),
])  # fmt: skip
def test_fixed_values_of_types_without_parts(text: str, oid: int, shows: tuple[bytes, bytes] | None) -> None:
    for code in (TEXT, BINARY):
        column = column_of(fixed(text), oid, code, SHAPES)
        assert column.constant == (NULL if shows is None else struct.pack("!i", len(shows[code])) + shows[code])
