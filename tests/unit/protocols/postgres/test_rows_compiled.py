# SPDX-License-Identifier: Apache-2.0
"""The compiled row loops give what the pure ones give, byte for byte, and the same faults on rows that do not fit."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.errors import TargetFault
from gateway.masking.rules import EMAIL, REDACT, UNITS, MaskRule, cut_to, keep_first, keep_last, rounded
from gateway.protocols.postgres import _rows, rows
from gateway.protocols.postgres.catalog.model import BuiltinCatalog, Catalog, Objects
from gateway.protocols.postgres.masking import ColumnMask, row_column
from gateway.protocols.postgres.messages import DataRow
from gateway.protocols.postgres.rows import TYPED_KERNELS, Column
from gateway.protocols.postgres.typed import BINARY, TEXT

CATALOG = Catalog("1", 150000, "orders", BuiltinCatalog(150000, Objects()))
RULES = st.one_of(st.just(REDACT), st.just(EMAIL), st.builds(keep_last, st.integers(0, 12)), st.builds(keep_first, st.integers(0, 12)))
ADDRESSES = st.from_regex(r"[a-z@.]{0,4}@[a-z-]{0,65}(\.[a-z-]{0,3}){0,2} {0,2}", fullmatch=True).map(str.encode)
VALUES = st.one_of(st.none(), st.binary(max_size=20), st.text(max_size=20).map(str.encode),
                   st.from_regex(r"[ -~]{0,30}").map(str.encode), ADDRESSES)


def look(value: bytes) -> bytes | None:
    return b"found" + value if b"a" in value else None


def columns_of(draw: Callable[..., object], width: int) -> tuple[tuple[int, Column], ...]:
    kinds = st.one_of(
        st.builds(row_column, st.builds(ColumnMask, RULES, st.booleans()), st.sampled_from((25, 1042, 23)), st.just(CATALOG)),
        st.just(Column(change=look)))
    wanted = draw(st.sets(st.integers(0, max(width - 1, 0)), max_size=width))
    assert isinstance(wanted, set)
    found = []
    for index in sorted(wanted):
        column = draw(kinds)
        assert isinstance(column, Column)
        found.append((index, column))
    return tuple(found)


def outcome(form: Callable[[bytes, int, tuple[tuple[int, Column], ...]], tuple[bytes, int]], data: bytes, width: int,
            columns: tuple[tuple[int, Column], ...]) -> object:
    try:
        return form(data, width, columns)
    except TargetFault as fault:
        return fault.code, str(fault)


def both(data: bytes, width: int, columns: tuple[tuple[int, Column], ...]) -> object:
    pure = outcome(rows.mask_rows_pure, data, width, columns)
    assert outcome(_rows.mask_rows, data, width, columns) == pure
    return pure


@given(st.data())
def test_rows(data: st.DataObject) -> None:
    width = data.draw(st.integers(0, 6))
    columns = columns_of(data.draw, width)
    table = data.draw(st.lists(st.tuples(*[VALUES] * width), max_size=5))
    wire = b"".join(DataRow(row).encode() for row in table)
    assert not isinstance(both(wire, width, columns), TargetFault)


@given(st.data())
def test_broken_rows(data: st.DataObject) -> None:
    width = data.draw(st.integers(0, 4))
    columns = columns_of(data.draw, width)
    table = data.draw(st.lists(st.tuples(*[VALUES] * width), min_size=1, max_size=3))
    wire = bytearray(b"".join(DataRow(row).encode() for row in table))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(wire) - 1))
        wire[place] = data.draw(st.sampled_from((0, 1, 2, 4, 5, 6, 7, 0x7F, 0x80, 0xFE, 0xFF)))
    cut = data.draw(st.integers(0, len(wire)))
    both(bytes(wire), width, columns)
    both(bytes(wire[:cut]), width, columns)


@given(st.binary(max_size=60), st.integers(0, 3), st.data())
def test_any_bytes(wire: bytes, width: int, data: st.DataObject) -> None:
    columns = columns_of(data.draw, width)
    both(wire, width, columns)
    both(b"D" + (len(wire) + 4).to_bytes(4, "big") + wire, width, columns)


@given(st.binary(max_size=40), st.lists(st.binary(max_size=6), max_size=4), st.integers(0, 40), st.integers(0, 80))
def test_runs(tail: bytes, payloads: list[bytes], at: int, end: int) -> None:
    data = b"".join(b"D" + (len(payload) + 4).to_bytes(4, "big") + payload for payload in payloads) + tail
    for last in (len(data), min(end, len(data))):
        assert _rows.scan_run(data, min(at, len(data)), last, 0x44) == rows.scan_run_pure(data, min(at, len(data)), last, 0x44)
    assert _rows.scan_run(data, 0, len(data), 0x44) == rows.scan_run_pure(data, 0, len(data), 0x44)


def test_every_length_of_character() -> None:
    texts = ["", "a", "é", "日本", "🙂x🙂", "a\u0300b"]
    broken = [b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80", b"a\xff", b"\xf0\x8f\xbf\xbf", b"\xe0\x9f\xbf"]
    for rule in (keep_last(1), keep_first(1), keep_last(2), keep_last(0), MaskRule("email")):
        column = row_column(ColumnMask(rule), 1042, CATALOG)
        for value in [*(text.encode() for text in texts), *broken]:
            both(DataRow((value + b"  ",)).encode(), 1, ((0, column),))


def test_rows_are_not_copied_where_nothing_changes() -> None:
    wire = DataRow((b"x", None)).encode()
    assert _rows.mask_rows(wire, 2, ((1, Column(constant=rows.NULL)),))[0] is wire


def test_many_plans_one_after_the_other() -> None:
    """More plans than the compiled form remembers."""
    wire = DataRow((b"abcdef",)).encode()
    for count in range(1200):
        columns = ((0, row_column(ColumnMask(keep_last(count % 7)), 25, CATALOG)),)
        assert _rows.mask_rows(wire, 1, columns) == rows.mask_rows_pure(wire, 1, columns)


# rules on types

STEPS = st.one_of(st.integers(1, 12), st.integers(1, 10**15), st.sampled_from((10, 25, 1000, 10**9, 10**15)))
EDGES = tuple(sign * (2**bits + more) for bits in (15, 31, 63) for more in (-2, -1, 0, 1) for sign in (1, -1))
NUMBERS = st.one_of(
    st.from_regex(r"-?[0-9]{1,20}(\.[0-9]{1,4})?", fullmatch=True), st.from_regex(r"[-+0-9.eNaI ]{0,12}", fullmatch=True),
    st.integers(-10**19, 10**19).map(str), st.sampled_from(EDGES).map(str)).map(str.encode)
TIMES = st.builds(
    "{}{:02}:{:02}:{:02}{}{}{}".format, st.sampled_from((" ", "T", "_")), st.integers(0, 25), st.integers(0, 60), st.integers(0, 61),
    st.sampled_from(("", ".", ".5", ".123456", ".1234567")), st.sampled_from(("", "+00", "-03:30", "+05:45:30", "+5", "+00:", "+0000")),
    st.sampled_from(("", " BC", " ")))
DATES = st.builds(
    "{:04}-{:02}-{:02}{}".format, st.one_of(st.integers(0, 9999), st.integers(1995, 2030)), st.integers(0, 13), st.integers(0, 32),
    st.one_of(st.just(""), TIMES))
ODD = ("infinity", "-infinity", "17.05.2024", "12024-05-17", "0001-01-01 00:00:00+02", "9999-12-31 24:00:60-12")
MOMENTS = st.one_of(DATES, st.sampled_from(ODD)).map(str.encode)
PACKED = st.one_of(
    st.integers(-2**15, 2**15 - 1).map(lambda number: struct.pack("!h", number)),
    st.integers(-2**31, 2**31 - 1).map(lambda number: struct.pack("!i", number)),
    st.integers(-2**63, 2**63 - 1).map(lambda number: struct.pack("!q", number)),
    st.sampled_from([number for number in EDGES if -2**63 <= number < 2**63]).map(lambda number: struct.pack("!q", number)),
    st.integers(-800_000, 3_000_000).map(lambda number: struct.pack("!i", number)),
    st.integers(-800_000, 3_000_000).map(lambda number: struct.pack("!q", number * 86_400_000_000 - 1)), st.binary(max_size=9))


@pytest.mark.parametrize(("kind", "oid", "binary"), TYPED_KERNELS)
@given(values=st.lists(st.one_of(st.none(), NUMBERS, MOMENTS, PACKED), min_size=1, max_size=8), step=STEPS, unit=st.sampled_from(UNITS))
@example(values=[b"-0", b"0.5", b"-0.5", b"007", b"999999999999999999"], step=1, unit="hour")
@example(values=[b"2024-02-29", b"2023-02-29", b"0000-01-01", b"0001-01-01"], step=1, unit="year")
@example(values=[struct.pack("!h", -32768), struct.pack("!i", -2**31), struct.pack("!q", -2**63)], step=3, unit="month")
def test_rules_on_types(kind: str, oid: int, binary: bool, values: list[bytes | None], step: int, unit: str) -> None:
    rule = rounded(step) if kind == "round" else cut_to(unit)
    column = row_column(ColumnMask(rule), oid, CATALOG, BINARY if binary else TEXT)
    assert column.kernel == TYPED_KERNELS[kind, oid, binary]
    both(b"".join(DataRow((value, b"beside")).encode() for value in values), 2, ((0, column),))


@pytest.mark.parametrize(("rule", "oid", "code", "before"), [
    (rounded(100), 23, TEXT, b"123456"), (rounded(100), 1700, TEXT, b"-1234.56"), (rounded(100), 20, BINARY, struct.pack("!q", -151)),
    (cut_to("month"), 1082, TEXT, b"2024-05-17"), (cut_to("hour"), 1184, TEXT, b"2024-05-17 23:14:15.678-05:30"),
    (cut_to("year"), 1082, BINARY, struct.pack("!i", -1)), (cut_to("day"), 1114, BINARY, struct.pack("!q", -1)),
])  # fmt: skip
def test_ordinary_values_need_no_python(rule: MaskRule, oid: int, code: int, before: bytes) -> None:
    column = row_column(ColumnMask(rule), oid, CATALOG, code)
    wire = DataRow((before,)).encode()

    def asked(value: bytes) -> bytes:
        raise AssertionError("the kernel asked")

    assert _rows.mask_rows(wire, 1, ((0, Column(None, asked, column.kernel, column.keep)),)) == rows.mask_rows_pure(wire, 1, ((0, column),))
