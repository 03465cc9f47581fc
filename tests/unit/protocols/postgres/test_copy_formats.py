# SPDX-License-Identifier: Apache-2.0
"""COPY in csv and binary format: masked row by row however the stream is cut, and by the compiled loops as by the pure ones (T28)."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayFault, Refused, TargetFault
from gateway.masking.model import MaskSet
from gateway.masking.rules import EMAIL, NULLED, REDACT, UNITS, cut_to, fixed, hashed, keep_first, keep_last, rounded
from gateway.protocols.postgres import _rows
from gateway.protocols.postgres.catalog.model import BuiltinCatalog, Catalog, Objects
from gateway.protocols.postgres.codec import FrameReader, frame
from gateway.protocols.postgres.copybinary import SIGNATURE, TRAILER, BinaryMasker, whole_tuples_pure
from gateway.protocols.postgres.copyout import copy_masker
from gateway.protocols.postgres.copytext import Columns, csv_fields, mask_lines_pure, quote, stream_columns, unquote
from gateway.protocols.postgres.masking import ColumnMask, MaskPlan, plan, row_column
from gateway.protocols.postgres.rows import Column
from gateway.protocols.postgres.statement import Flow, Output, Statement

CATALOG = Catalog("1", 150000, "orders", BuiltinCatalog(150000, Objects()))
MASKS = MaskSet(
    {"public.c.ssn": REDACT, "public.c.card": keep_last(4), "public.c.email": EMAIL, "public.c.age": rounded(10)},
    detect={"payment-card": keep_last(4)},
)
COLUMNS = tuple(
    Output(name, Flow(frozenset({("public", "c", name)}), plain=True, system=False), oid)
    for name, oid in (("id", 23), ("name", 25), ("ssn", 25), ("card", 25), ("email", 25), ("age", 23))
)
HEADER = SIGNATURE + bytes(8)


def made_for(form: str, masks: MaskSet = MASKS, *, header: bool = False) -> MaskPlan:
    statement = Statement("copy-to", (), returns="copy-out", columns=COLUMNS, copy_format=form, copy_header=header)
    return plan(statement, masks, CATALOG)


def payloads(data: bytes) -> list[bytes]:
    reader = FrameReader(1 << 20, limits={})
    reader.feed(data)
    return [payload for _, payload in reader]


def run(form: str, *messages: bytes, header: bool = False) -> tuple[list[bytes], int]:
    masker = copy_masker(made_for(form, header=header), len(COLUMNS), binary=form == "binary")
    out = b"".join(masker.feed(frame(b"d", message)) for message in messages) + masker.close()
    return payloads(out), masker.masked


def values_of(*values: bytes | None) -> bytes:
    """A tuple in binary format."""
    body = b"".join(b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4, "big") + value for value in values)
    return len(values).to_bytes(2, "big") + body


# csv


def test_a_csv_row() -> None:
    row = b'1,"Ann, ""the"" one",078,4111111111111111,ann@x.org,47\n'
    assert run("csv", row) == ([b'1,"Ann, ""the"" one",****,************1111,a***@x.org,50\n'], 4)


def test_null_and_the_empty_text_in_csv() -> None:
    assert run("csv", b"1,,,,,\n", b'2,"","","","",\n') == ([b"1,,,,,\n", b'2,"",****,"",****,\n'], 3)


def test_a_csv_header_passes_and_is_not_counted() -> None:
    found, masked = run("csv", b"id,name,ssn,card,email,age\n", b"1,a,s,1234567,a@b.c,1\n", header=True)
    assert found == [b"id,name,ssn,card,email,age\n", b"1,a,****,***4567,a***@b.c,0\n"] and masked == 4


def test_newlines_inside_of_quotes() -> None:
    row = b'1,"two\nlines","s\n""x""",1234567,"a\n@b.c",14\n'
    assert run("csv", row)[0] == [b'1,"two\nlines",****,***4567,****,10\n']
    for cut in range(1, len(row)):
        assert b"".join(run("csv", row[:cut], row[cut:])[0]) == b'1,"two\nlines",****,***4567,****,10\n'


@pytest.mark.parametrize("row", [b"1,2\n", b'1,a"b,s,c,e,1\n', b'1,"a"b,s,c,e,1\n', b"1,a,b,c,d,e,f\n", b'1,2,3,4,"open,6\n'])
def test_csv_that_postgresql_does_not_write(row: bytes) -> None:
    with pytest.raises(GatewayFault):
        run("csv", row)


def test_detectors_look_into_csv() -> None:
    found, masked = run("csv", b'1,"my card, 4111111111111111",,,,\n')
    assert found == [b'1,"my card, ************1111",,,,\n'] and masked == 1


@given(st.lists(st.one_of(st.none(), st.text(alphabet='a,"\n\r\\.\u00e9 '))))
def test_csv_fields_are_what_a_csv_reader_reads(values: list[str | None]) -> None:
    row = b",".join(b"" if value is None else quote(value.encode()) for value in values)
    fields = csv_fields(row)
    assert fields is not None
    shown = [None if field == b"" else unquote(field).decode() for field in fields]
    assert shown == (values or [None])
    if values and "\r" not in "".join(filter(None, values)):
        assert next(csv.reader(io.StringIO(row.decode() + "\n", newline="")), [""]) in ([value or "" for value in values], [])


# binary


def test_binary_tuples() -> None:
    first = values_of(b"\0\0\0\1", b"Ann", b"078", b"4111111111111111", b"ann@x.org", (47).to_bytes(4, "big"))
    second = values_of(None, None, None, None, None, None)
    found, masked = run("binary", HEADER + first, second, TRAILER)
    shown = values_of(b"\0\0\0\1", b"Ann", b"****", b"************1111", b"a***@x.org", (50).to_bytes(4, "big"))
    assert (found, masked) == ([HEADER + shown, second, TRAILER], 4)


def test_binary_however_it_is_cut() -> None:
    row = values_of(b"\0\0\0\1", b"Ann", b"078", b"4111111111111111", None, b"\0\0\0\x2f")
    stream = HEADER + row + row + TRAILER
    expected = run("binary", stream)
    assert len(expected[0]) == 3 and b"078" not in b"".join(expected[0])
    for cut in range(1, len(stream)):
        assert run("binary", stream[:cut], stream[cut:]) == expected
    assert run("binary", *[stream[at : at + 1] for at in range(len(stream))]) == expected


def test_two_tuples_in_one_message_are_both_masked() -> None:
    row = values_of(b"\0\0\0\1", b"Ann", b"078", b"1234567", None, None)
    assert b"078" not in b"".join(run("binary", HEADER, row + row, row, TRAILER)[0])


def test_detectors_look_into_binary() -> None:
    row = values_of(None, b"my card 4111111111111111", None, None, None, None)
    assert run("binary", HEADER + row, TRAILER)[0][0] == HEADER + row.replace(b"4111111111111111", b"************1111")


@pytest.mark.parametrize(
    "stream",
    [
        b"PGCOPY\nx\r\n\0" + bytes(8),
        SIGNATURE + b"\0\1\0\0" + bytes(4),
        SIGNATURE + bytes(4) + b"\x7f\0\0\0",
        b"1\tx\n",
        HEADER + values_of(b"x"),
        HEADER + b"\0\6\xff\xff\xff\xfe",
        HEADER + TRAILER + b"x",
        HEADER,
        HEADER + b"\0\6\0",
        b"",
    ],
)
def test_binary_that_postgresql_does_not_write(stream: bytes) -> None:
    with pytest.raises((TargetFault, GatewayFault)):
        run("binary", stream)


def test_the_format_announced_has_to_be_the_statements() -> None:
    for form, binary in (("text", True), ("csv", True), ("binary", False)):
        with pytest.raises(GatewayFault):
            copy_masker(made_for(form), len(COLUMNS), binary=binary)
    with pytest.raises(GatewayFault):
        copy_masker(made_for("binary"), 5, binary=True)
    with pytest.raises(Refused):
        made_for("")


# the compiled form

FIELDS = st.one_of(
    st.sampled_from(
        [
            b"\\N",
            b"",
            b'""',
            b"\\.",
            b'"a""b"',
            b'"\n"',
            b"a\\tb",
            b"ann@x.org",
            b"4111111111111111",
            b'"a@b.c"',
            b"a\rb",
            b'x"y',
            b"1234",
            b"-99.5",
            b"2024-05-17",
            b'"2024-05-17"',
            b"2024-05-17 23:14:15.5+02",
        ]
    ),
    st.binary(max_size=8),
    st.text(max_size=8).map(str.encode),
)
RULES = st.one_of(
    st.sampled_from([REDACT, EMAIL, NULLED, fixed("a,\tb"), hashed("k", b"key")]),
    st.builds(keep_last, st.integers(0, 5)),
    st.builds(keep_first, st.integers(0, 5)),
    st.builds(rounded, st.integers(1, 100)),
    st.builds(cut_to, st.sampled_from(UNITS)),
)
TYPES = (25, 1042, 23, 1700, 1082, 1184)


def columns_of(data: st.DataObject, width: int, as_csv: bool) -> Columns:
    found: list[tuple[int, Column]] = []
    for index in sorted(data.draw(st.sets(st.integers(0, width - 1)))):
        mask = ColumnMask(data.draw(RULES))
        look = Column(change=lambda value: b"found" if b"a" in value else None)
        found.append((index, look if data.draw(st.booleans()) else row_column(mask, data.draw(st.sampled_from(TYPES)), CATALOG)))
    return stream_columns(tuple(found), as_csv)


@given(st.data(), st.booleans())
def test_lines(data: st.DataObject, as_csv: bool) -> None:
    width = data.draw(st.integers(1, 4))
    columns = columns_of(data, width, as_csv)
    rows = data.draw(st.lists(st.lists(FIELDS, min_size=max(width - 1, 1), max_size=width), max_size=4))
    block = b"".join(frame(b"d", (b"," if as_csv else b"\t").join(row) + b"\n") for row in rows) + data.draw(st.binary(max_size=12))
    at = data.draw(st.sampled_from((0, min(5 + len(rows), len(block)))))
    for start in {0, at}:
        assert _rows.mask_lines(block, start, width, columns, as_csv) == mask_lines_pure(block, start, width, columns, as_csv)
    cut = block[: data.draw(st.integers(0, len(block)))]
    assert _rows.mask_lines(cut, 0, width, columns, as_csv) == mask_lines_pure(cut, 0, width, columns, as_csv)


@given(st.lists(st.lists(st.one_of(st.none(), st.binary(max_size=5)), max_size=4), max_size=4), st.integers(0, 4), st.data())
def test_tuples(rows: list[list[bytes | None]], width: int, data: st.DataObject) -> None:
    block = bytearray(b"".join(frame(b"d", values_of(*row)) for row in rows) + data.draw(st.binary(max_size=8)))
    for place in data.draw(st.lists(st.integers(0, max(len(block) - 1, 0)), max_size=2)):
        if block:
            block[place] = data.draw(st.sampled_from((0, 1, 0xFF, 0x7F, 4)))

    def outcome(form: Callable[[bytes, int, int], int]) -> object:
        try:
            return form(bytes(block), 0, width)
        except TargetFault as fault:
            return str(fault)

    assert outcome(_rows.whole_tuples) == outcome(whole_tuples_pure)


def test_a_binary_masker_keeps_little() -> None:
    """A tuple that never ends is bounded."""
    masker = BinaryMasker(made_for("binary"), len(COLUMNS))
    masker.feed(frame(b"d", HEADER + b"\0\6\x7f\0\0\0"))
    piece = frame(b"d", bytes(1 << 22))
    with pytest.raises(TargetFault, match="over the limit"):
        for _ in range(17):
            masker.feed(piece)
