# SPDX-License-Identifier: Apache-2.0
"""Which conditions of a caller's may be tried on rows that a filter hides."""

from __future__ import annotations

import pytest

from gateway.protocols.postgres.filters.quiet import Quiet, uses_of
from gateway.protocols.postgres.sql.parse import parse

TYPES = {"i": (23,), "j": (20,), "s": (25,), "v": (1043,), "b": (16,), "d": (1082,), "t": (1114,), "n": (1700,), "u": (2950,), "c": (1042,),
         "twice": (23, 25), "e": (17001,)}

QUIET = [
    "i = 5", "i = $1", "o.i = $1", "public.o.i <> j", "i < 5000000000", "s = 'x'", "s >= v", "b", "not b", "b is true", "i is null",
    "i = 1 and (j = 2 or s = 'y')", "i in (1, 2, $1)", "i not in (1)", "i between 1 and $1", "d = '2026-01-01'", "d > $1::date",
    "d > '2026-01-01'::pg_catalog.date", "u = $1", "i = any ($1)", "i = any (array[1, 2])", "true", "c = 'x'", "i = null",
    "s = $1::varchar",
]
LOUD = [
    "1 / i > 0", "i + 1 = 5", "n = 1", "d = t", "i = 1.5", "i = 9999999999999999999", "s like 'x'", "s ~ 'x'", "lower(s) = 'x'",
    "s::int = 5", "i::text = '5'", "i = (select 1)", "exists (select 1)", "missing = 1", "twice = 1", "e = 'x'", "i = s", "i = '5'::text",
    "$1 = $2", "1 = 1", "i is distinct from 1", "i operator(pg_catalog.=) 1", "(i).x = 1", "i = any (s)", "i <> all ($1)",
    "i = any ($2)", "i = $2", "i = lower('x')", "coalesce(b, true)", "case when b then true end", "n is null", "s = $1::alt.text",
    "s = $1::text[]", "i <> any ($1)", "row(i, j) = row(1, 2)", "i = 1 or 1 / i > 0", "o.* is null",
]


def quiet(text: str, *, parameters: tuple[int, ...] | None = (0, 1700), others: frozenset[str] = frozenset(),
          listed: str = "1") -> bool:
    body = parse(f"select {listed} where {text}")[0][0].body
    return Quiet(lambda name: TYPES.get(name, ()), parameters, others, uses_of(body)).is_quiet(body["whereClause"])


@pytest.mark.parametrize("text", QUIET)
def test_leakproof_comparisons(text: str) -> None:
    assert quiet(text)


@pytest.mark.parametrize("text", LOUD)
def test_everything_else_tells_something(text: str) -> None:
    assert not quiet(text)


def test_where_types_or_operators_are_not_certain() -> None:
    assert not quiet("i = $1", parameters=None)
    assert not quiet("i = 5", others=frozenset({"="}))
    assert not quiet("i between 1 and 2", others=frozenset({"<"}))
    assert quiet("i <> 5", others=frozenset({"="}))
    assert not Quiet(lambda name: (23,), (), frozenset({"="})).shared(["i"])


@pytest.mark.parametrize(("declared", "cast"), [(23, "int"), (21, "int"), (21, "bigint"), (23, "bigint"), (0, "int"), (0, "bigint")])
def test_a_cast_of_a_parameter_that_fails_for_no_value(declared: int, cast: str) -> None:
    assert quiet(f"i = $1::{cast}", parameters=(declared,))


@pytest.mark.parametrize(("declared", "cast"), [(25, "int"), (20, "int"), (23, "smallint"), (1043, "bigint"), (1700, "int"), (16, "int")])
def test_a_cast_of_a_parameter_that_can_fail_tells_which_rows_it_was_tried_on(declared: int, cast: str) -> None:
    assert not quiet(f"i = $1::{cast}", parameters=(declared,))


@pytest.mark.parametrize("listed", ["$1::text", "$1::pg_catalog.text", "$1::int[]", "length($1)", "$1::bigint"])
def test_a_parameter_that_has_its_type_from_elsewhere(listed: str) -> None:
    assert not quiet("i = $1::int", listed=listed)
    assert quiet("i = $1::int", listed="$1::int")
    assert not quiet("i = $1::int and j = $1")
    assert not quiet("i = $1::int", parameters=None)


def test_a_bare_parameter_that_has_its_type_from_elsewhere() -> None:
    assert not quiet("i = $1", listed="$1::numeric")
    assert not quiet("i = any ($1)", listed="$1::numeric[]")
    assert quiet("i = $1 and j = $1")
