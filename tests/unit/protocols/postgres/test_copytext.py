# SPDX-License-Identifier: Apache-2.0
"""COPY text: however the stream is cut, the same rows; escapes decoded before a rule looks, written again after (T28)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayFault, Refused
from gateway.masking.model import MaskSet
from gateway.masking.rules import EMAIL, REDACT, keep_last
from gateway.protocols.postgres.catalog.model import BuiltinCatalog, Catalog, Objects
from gateway.protocols.postgres.codec import FrameReader, frame
from gateway.protocols.postgres.copyout import copy_masker
from gateway.protocols.postgres.copytext import escape, unescape
from gateway.protocols.postgres.masking import MaskPlan, plan
from gateway.protocols.postgres.statement import Flow, Output, Statement

CATALOG = Catalog("1", 150000, "orders", BuiltinCatalog(150000, Objects()))
MASKS = MaskSet(
    {"public.c.ssn": REDACT, "public.c.card": keep_last(4), "public.c.email": EMAIL, "public.c.born": REDACT},
    detect={"payment-card": keep_last(4)},
)


def output(name: str, type_oid: int = 25, plain: bool = True) -> Output:
    return Output(name, Flow(frozenset({("public", "c", name)}), plain=plain, system=False), type_oid)


COLUMNS = (output("id", 23), output("name"), output("ssn"), output("card"), output("email"), output("born", 1082))


def copy_plan(columns: tuple[Output, ...] = COLUMNS, masks: MaskSet = MASKS, **more: Any) -> MaskPlan:
    return plan(Statement("copy-to", (), returns="copy-out", columns=columns, copy_text=True, **more), masks, CATALOG)


def run(made: MaskPlan, *messages: bytes, width: int = len(COLUMNS)) -> tuple[list[bytes], int]:
    masker = copy_masker(made, width)
    out = b"".join(masker.feed(frame(b"d", message)) for message in messages) + masker.close()
    reader = FrameReader(1 << 20, limits={})
    reader.feed(out)
    return [payload for _, payload in reader], masker.masked


def test_a_row() -> None:
    assert run(copy_plan(), b"1\tAnn\t078\t4111111111111111\tann@x.org\t2000-01-01\n") == (
        [b"1\tAnn\t****\t************1111\ta***@x.org\t\\N\n"],
        4,
    )


def test_null_stays_null_and_text_that_looks_like_it_does_not() -> None:
    assert run(copy_plan(), b"1\tAnn\t\\N\t\\N\t\\N\t\\N\n") == ([b"1\tAnn\t\\N\t\\N\t\\N\t\\N\n"], 0)
    assert run(copy_plan(), b"1\tAnn\tN\t\\\\N\tx\t\\N\n")[0] == [b"1\tAnn\t****\t**\t****\t\\N\n"]


def test_a_rule_sees_the_value_not_its_escapes() -> None:
    assert run(copy_plan(), b"1\ta\\tb\tx\t12\\t\\\\\\n5\tq\t\\N\n")[0] == [b"1\ta\\tb\t****\t**\\t\\\\\\n5\t****\t\\N\n"]


def test_detectors_look_at_what_is_not_masked() -> None:
    assert run(copy_plan(), b"1\tpay 4111111111111111\t\\N\t\\N\t\\N\t\\N\n") == ([b"1\tpay ************1111\t\\N\t\\N\t\\N\t\\N\n"], 1)


def test_computed_columns_are_hidden_as_a_whole() -> None:
    columns = (output("card", plain=False), output("card", 20, plain=False), Output("f", Flow(unknown=True, system=False), 0))
    assert run(copy_plan(columns), b"x\t1\ty\n", width=3)[0] == [b"****\t\\N\t\\N\n"]


def test_a_header_passes() -> None:
    assert run(copy_plan(copy_header=True), b"id\tname\tssn\tcard\temail\tborn\n", b"1\tA\ts\t\\N\t\\N\t\\N\n")[0] == [
        b"id\tname\tssn\tcard\temail\tborn\n",
        b"1\tA\t****\t\\N\t\\N\t\\N\n",
    ]


def test_the_end_marker_passes() -> None:
    assert run(copy_plan(), b"\\.\n")[0] == [b"\\.\n"]


@pytest.mark.parametrize("row", [b"1\tAnn\t078\n", b"\n", b"1\tAnn\t078\t1\t2\t3\t4\n", b"078-05-1120\n"])
def test_another_number_of_columns(row: bytes) -> None:
    with pytest.raises(GatewayFault):
        run(copy_plan(), row)


def test_a_last_row_without_a_newline_is_a_row_too() -> None:
    assert run(copy_plan(), b"1\tA\t078\t\\N\t\\N\t\\N")[0] == [b"1\tA\t****\t\\N\t\\N\t\\N"]
    with pytest.raises(GatewayFault):
        run(copy_plan(), b"078-05-1120")


def test_the_announced_width_has_to_be_the_plans() -> None:
    with pytest.raises(GatewayFault):
        copy_masker(copy_plan(), 5)


def test_a_table_without_columns() -> None:
    assert run(copy_plan(()), b"\n", b"\n", width=0)[0] == [b"\n", b"\n"]


def test_other_formats_are_refused_where_something_would_be_masked() -> None:
    statement = Statement("copy-to", (), returns="copy-out", columns=COLUMNS)
    with pytest.raises(Refused):
        plan(statement, MASKS, CATALOG)
    with pytest.raises(Refused):
        plan(Statement("copy-to", (), returns="copy-out", columns=(output("name"),)), MASKS, CATALOG)
    assert not plan(Statement("copy-to", (), returns="copy-out", columns=(output("id", 23),)), MASKS, CATALOG).any


@given(st.binary(max_size=40))
def test_escapes_come_back(value: bytes) -> None:
    written = escape(value)
    assert unescape(written) == value
    assert b"\n" not in written and b"\t" not in written


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (b"\\101", b"A"),
        (b"\\x41", b"A"),
        (b"\\x4g", b"\x04g"),
        (b"\\q", b"q"),
        (b"\\\\", b"\\"),
        (b"\\b\\f\\v", b"\b\f\v"),
        (b"\\9", b"9"),
        (b"\\x", b"x"),
    ],
)
def test_escapes_of_the_manual(written: bytes, value: bytes) -> None:
    assert unescape(written) == value


VALUE = st.none() | st.binary(max_size=10) | st.sampled_from([b"4111111111111111", b"ann@x.org", b"\\N", b"\\."])


def written(row: tuple[bytes | None, ...]) -> bytes:
    return b"\t".join(b"\\N" if value is None else escape(value) for value in row) + b"\n"


@given(st.lists(st.tuples(*[VALUE for _ in COLUMNS]), max_size=6), st.lists(st.integers(0, 500), max_size=8))
def test_any_split_gives_the_same_rows(table: list[tuple[bytes | None, ...]], cuts: list[int]) -> None:
    stream = b"".join(written(row) for row in table)
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    rows, count = run(copy_plan(), *[stream[a:b] for a, b in pairwise(places)])
    expected, expected_count = run(copy_plan(), *[written(row) for row in table])
    assert (rows, count) == (expected, expected_count)
    for row, shown in zip(table, rows, strict=True):
        fields = shown.removesuffix(b"\n").split(b"\t")
        assert fields[2] == (b"\\N" if row[2] is None else b"****")
        assert fields[5] == b"\\N"
        if row[3] is not None:
            try:
                assert unescape(fields[3]).decode() == keep_last(4).apply(row[3].decode())
            except UnicodeDecodeError:
                assert fields[3] == b"****"
