# SPDX-License-Identifier: Apache-2.0
"""The compiled row loops give what the pure ones give, byte for byte, and the same faults on rows that do not fit."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import TargetFault
from gateway.masking.rules import EMAIL, REDACT, MaskRule, keep_first, keep_last
from gateway.protocols.postgres import _rows, rows
from gateway.protocols.postgres.catalog.model import BuiltinCatalog, Catalog, Objects
from gateway.protocols.postgres.masking import ColumnMask, row_column
from gateway.protocols.postgres.messages import DataRow
from gateway.protocols.postgres.rows import Column

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
