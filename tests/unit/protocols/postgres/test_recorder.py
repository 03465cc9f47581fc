# SPDX-License-Identifier: Apache-2.0
"""The sample of a result: bounded whatever comes, and free once it is full."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.postgres.answers import typed_parameters
from gateway.protocols.postgres.codec import frame
from gateway.protocols.postgres.messages import Bind, DataRow, Field
from gateway.protocols.postgres.recorder import BYTES, ROWS, VALUE, Sample


def read(sample: Sample) -> dict[str, Any]:
    closed = sample.close()
    assert closed is not None
    found: dict[str, Any] = json.loads(closed)
    return found


def test_rows_and_names() -> None:
    sample = Sample()
    sample.columns((Field("id", type_oid=23), Field("n", type_oid=23, format=1), Field("b", type_oid=17, format=1), Field("t", format=1)))
    sample.rows(DataRow((b"1", b"\0\0\0\7", b"\xde\xad", b"text")).encode() + DataRow((None, None, None, None)).encode())
    assert read(sample) == {"columns": ["id", "n", "b", "t"], "rows": [["1", "7", "\\xdead", "text"], [None] * 4], "truncated": False}


def test_a_secret_of_the_gateway_is_not_kept() -> None:
    sample = Sample(("hunter2-and-more",))
    sample.columns((Field("hunter2-and-more"),))
    sample.rows(DataRow((b"it is hunter2-and-more",)).encode() + DataRow((b"x" * 190 + b"hunter2-and-more",)).encode())
    sample.copy(frame(b"d", b"1\thunter2-and-more\n"))
    assert "hunter2" not in json.dumps(read(sample))
    assert read(sample)["rows"][0] == ["it is ****"]


def test_parameters_are_readable_and_differ_by_format() -> None:
    bind = Bind("", "", (1,), (b"\x4e\x20", "é".encode(), b"A"), ())
    assert typed_parameters(bind, (21, 25)) == (("21 binary", "20000"), ("25 binary", "é"), ("0 binary", "\\x41"))
    assert typed_parameters(Bind("", "", (), (b"\\x41",), ()), ()) == (("0", "\\x41"),)


def test_nothing_to_show() -> None:
    assert Sample().close() is None


def test_it_is_full_after_some_rows() -> None:
    sample = Sample()
    sample.columns((Field("x"),))
    sample.rows(DataRow((b"a",)).encode() * (ROWS + 5))
    assert sample.full
    found = read(sample)
    assert len(found["rows"]) == ROWS and found["truncated"]


def test_long_values_are_cut() -> None:
    sample = Sample()
    sample.columns((Field("x"),))
    sample.rows(DataRow(("é".encode() * 1000,)).encode())
    assert len(read(sample)["rows"][0][0]) == VALUE


def test_a_piece_of_a_large_row_is_no_row() -> None:
    sample = Sample()
    sample.columns((Field("x"),))
    sample.rows(DataRow((b"a" * 100,)).encode()[:50])
    assert sample.full and read(sample) == {"columns": ["x"], "rows": [], "truncated": True}


def test_copy() -> None:
    sample = Sample()
    sample.copy(frame(b"d", b"1\t\\N\ta\\tb\n") + frame(b"d", b"2\tx\t****\n"))
    assert read(sample)["rows"] == [["1", None, "a\tb"], ["2", "x", "****"]]


@given(st.lists(st.lists(st.none() | st.binary(max_size=3000), min_size=2, max_size=2), max_size=40))
def test_the_bound_holds(table: list[list[bytes | None]]) -> None:
    sample = Sample()
    sample.columns((Field("a"), Field("b", type_oid=20, format=1)))
    for row in table:
        sample.rows(DataRow(tuple(row)).encode())
    found = read(sample)
    assert len(found["rows"]) <= ROWS
    assert sum(len(value or "") for row in found["rows"] for value in row) <= BYTES
    assert found["truncated"] == (len(found["rows"]) < len(table))
