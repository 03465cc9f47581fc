# SPDX-License-Identifier: Apache-2.0
"""The conditions of row filters: what may be written, what it becomes, and which columns it fits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.postgres.filters.expression import ENUM, condition
from gateway.protocols.postgres.sql.parse import parse

BECOMES = {
    "customer_id = 4711": '(o."customer_id" OPERATOR(pg_catalog.=) 4711)',
    "4711 = customer_id": '(4711 OPERATOR(pg_catalog.=) o."customer_id")',
    "a <> -5": '(o."a" OPERATOR(pg_catalog.<>) (-5))',
    "a != 1.5e3": '(o."a" OPERATOR(pg_catalog.<>) 1.5e3)',
    "a in (1, 2)": '((o."a" OPERATOR(pg_catalog.=) 1) OR (o."a" OPERATOR(pg_catalog.=) 2))',
    "a not in (1, 2)": '((o."a" OPERATOR(pg_catalog.<>) 1) AND (o."a" OPERATOR(pg_catalog.<>) 2))',
    "a between 1 and 3": '((o."a" OPERATOR(pg_catalog.>=) 1) AND (o."a" OPERATOR(pg_catalog.<=) 3))',
    "a not between 1 and 3": '(NOT ((o."a" OPERATOR(pg_catalog.>=) 1) AND (o."a" OPERATOR(pg_catalog.<=) 3)))',
    "b like 'x%'": "(o.\"b\" OPERATOR(pg_catalog.~~) 'x%')",
    "b not ilike 'x\\_'": "(o.\"b\" OPERATOR(pg_catalog.!~~*) E'x\\\\_')",
    "b = 'it''s'": "(o.\"b\" OPERATOR(pg_catalog.=) 'it''s')",
    "a = 1 and (b is null or not c)": '((o."a" OPERATOR(pg_catalog.=) 1) AND ((o."b" IS NULL) OR (NOT o."c")))',
    "c is not true": '(o."c" IS NOT TRUE)',
    "c": 'o."c"',
    "a < b": '(o."a" OPERATOR(pg_catalog.<) o."b")',
    '"Odd ""name" is not null': '(o."Odd ""name" IS NOT NULL)',
    "true": "TRUE",
    "false -- nothing": "FALSE",
}

REFUSED = [
    "", ";", "a = 1; drop table t", "a = 1) or (true", "a = 1 or", "f(a)", "a = f(1)", "a = now()", "current_user = 'x'", "a = $1",
    "a = (select 1)", "exists (select 1)", "a in (select 1)", "a::text = 'x'", "a = date '2026-01-01'", "t.a = 1", "a is distinct from 1",
    "a operator(alt.=) 1", "a + 1 = 2", "a = any (array[1])", "1 = 1", "a = null", "a order by 1", "a = 1 limit 1", "a = 1 for update",
    "a = 1 group by a", "b ~ 'x'", "b similar to 'x'", "b like a", "b like 'x\\'", "*", "t.*", "a = array[1]", "row(a) = row(1)", "a = 1\0",
    "a collate \"C\" = 'x'", "case when c then true else false end", "coalesce(c, true)", "x -> 'y'", "b in ()", "a = default",
]


@pytest.mark.parametrize("text", BECOMES)
def test_it_is_written_anew_from_its_tree(text: str) -> None:
    assert condition(text).sql("o") == BECOMES[text]


@pytest.mark.parametrize("text", REFUSED)
def test_nothing_else_is_a_condition(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        condition(text)


@pytest.mark.parametrize(("text", "types", "why"), [
    ("a = 1", {}, "there is no column a"),
    ("a = 1", {"a": 23}, None),
    ("a = '1'", {"a": 23}, None),
    ("a = 'abc'", {"a": 23}, "its type has no such value"),
    ("a = 'maybe'", {"a": 16}, "its type has no such value"),
    ("a = 'x'", {"a": 2950}, "its type has no such value"),
    ("a = '6ba7b810-9dad-11d1-80b4-00c04fd430c8'", {"a": 2950}, None),
    ("a = true", {"a": 23}, "cannot be compared with a truth"),
    ("a = 1", {"a": 25}, "cannot be compared with a number"),
    ("a = 'x'", {"a": 3802}, "its type is none of those"),
    ("a = 'x'", {"a": 20000}, "its type is none of those"),
    ("a = 'x'", {"a": ENUM}, None),
    ("a", {"a": 16}, None),
    ("a", {"a": 23}, "a is no truth value"),
    ("a like 'x'", {"a": 23}, "no text"),
    ("a = b", {"a": 23, "b": 20}, None),
    ("a = b", {"a": 23, "b": 25}, "of different types"),
    ("a = b", {"a": ENUM, "b": ENUM}, "of different types"),
    ("a = b", {"a": 1082, "b": 1114}, "of different types"),
    ("a > '2026-01-31'", {"a": 1082}, None),
    ("a > '31/01/2026'", {"a": 1082}, "YYYY-MM-DD"),
    ("a > 'today'", {"a": 1082}, "YYYY-MM-DD"),
    ("a > '2026-01-31 10:00'", {"a": 1114}, None),
    ("a > '2026-01-31 10:00'", {"a": 1184}, "SS+00"),
    ("a > '2026-01-31 10:00:00+02'", {"a": 1184}, None),
    ("a > 'now'", {"a": 1184}, "SS+00"),
    ("a > 20260131", {"a": 1082}, "YYYY-MM-DD"),
])  # fmt: skip
def test_which_columns_it_fits(text: str, types: dict[str, int], why: str | None) -> None:
    """Constants whose meaning DateStyle or TimeZone could change are refused: both are the caller's."""
    found = condition(text).fault(types)
    assert found is None if why is None else found is not None and why in found


@given(st.text(alphabet="abc'\\\"; -$%_é\n", max_size=12))
def test_a_constant_stays_what_it_is(value: str) -> None:
    """Whatever the text is, the target's parser reads it back as that text."""
    spelled = value.replace("'", "''")
    parsed, _ = parse("select 1 from o where " + condition(f"a = '{spelled}'").sql("o"))
    constant = parsed[0].body["whereClause"]["A_Expr"]["rexpr"]["A_Const"]
    assert constant["sval"].get("sval", "") == value
