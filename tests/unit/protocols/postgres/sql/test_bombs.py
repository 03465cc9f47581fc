# SPDX-License-Identifier: Apache-2.0
"""Statements of at most 64 KiB that are made to cost much: each is analysed or refused after a bounded number of steps."""

from __future__ import annotations

import pytest

from gateway.protocols.postgres.sql import values, walk
from gateway.protocols.postgres.sql.analyze import analyze
from gateway.protocols.postgres.sql.knowledge import knowledge_of
from gateway.protocols.postgres.sql.lineage import shape_of
from gateway.protocols.postgres.sql.values import Value, combine
from gateway.protocols.postgres.sql.where import key
from gateway.protocols.postgres.statement import Context, SqlFault, Statement
from tests.unit.protocols.postgres.sql.shop import CATALOG

CONTEXT = Context(("pg_catalog", "public"), user="app")


def statement(text: str) -> Statement:
    assert len(text.encode()) <= 65536
    (found,) = analyze(text, CONTEXT, CATALOG)
    return found


def chain(count: int, first: str, step: str) -> str:
    """``with a0 as (first), a1 as (step over a0), …``: no nesting, so nothing but the work itself is bounded."""
    ctes = [f"a0 as ({first})", *(f"a{i + 1} as ({step.format(i)})" for i in range(count))]
    return f"with {', '.join(ctes)} select * from a{count}"


def test_a_literal_used_twice_at_every_step_is_kept_once() -> None:
    found = statement(chain(200, "select 'secret' as c", "select c || c as c from a{}"))
    assert found.columns is not None and found.columns[0].flow.origins == frozenset()


def test_a_literal_that_goes_round_in_a_recursion_is_kept_once() -> None:
    width = 60
    names = ",".join(f"a{i}" for i in range(width))
    turned = ",".join(f"a{(i - 1) % width}" for i in range(width))
    first = ",".join(["ssn"] + ["'x'"] * (width - 1))
    found = statement(f"with recursive r({names}) as (select {first} from customers union all select {turned} from r) select * from r")
    assert found.columns is not None and all(("public", "customers", "ssn") in column.flow.origins for column in found.columns)


def test_columns_that_double_at_every_step_are_refused() -> None:
    with pytest.raises(SqlFault) as fault:
        statement(chain(60, "select 1 as x", "select * from a{0} p, a{0} q"))
    assert fault.value.code == "54011"


def test_many_wide_stars_are_refused() -> None:
    wide = ",".join(f"pg_class c{i}" for i in range(40))
    with pytest.raises(SqlFault) as fault:
        statement(chain(1900, f"select * from {wide}", "select * from a{}"))
    assert fault.value.code == "54001"


def test_many_literals_compared_again_and_again_are_refused() -> None:
    many = ",".join(["'a'"] * 7000)
    with pytest.raises(SqlFault) as fault:
        statement(chain(650, f"select ssn || concat({many}) as c from customers", "select c || ssn as c from a{}, customers"))
    assert fault.value.code == "54001"


@pytest.mark.parametrize("terms", [["id is null", "total is not null"], ["not true", "id = 1"], ["not id = 2", "id = 3"]])
def test_conditions_are_looked_at_once_not_in_pairs(terms: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = 0

    def counted(node: object, refs: set[int]) -> object:
        nonlocal seen
        seen += 1
        return key(node, refs)

    monkeypatch.setattr("gateway.protocols.postgres.sql.where.key", counted)
    statement("delete from orders where " + " or ".join(terms * 1500))
    assert seen < 200_000


def test_the_row_of_a_wide_item_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0

    def counted(found: list[Value], type: int = 0) -> Value:
        nonlocal made
        made += len(found) > 20
        return combine(found, type)

    monkeypatch.setattr(values, "combine", counted)
    statement("select 1 from (select * from pg_class, pg_proc p) w where " + " and ".join(["w is null"] * 3000))
    assert made <= 2


def test_a_multiple_assignment_is_analysed_once() -> None:
    count = 300
    columns, found = ",".join(["id"] * count), ",".join(["1"] * count)
    assert len(statement(f"update orders set ({columns}) = (select {found})").writes) == count


def test_steps_are_bounded() -> None:
    with pytest.raises(SqlFault) as fault:
        walk.Walk(knowledge_of(CATALOG, shape_of), walk.Names((), None, ""), CONTEXT).step(walk.MAX_STEPS + 1)
    assert fault.value.code == "54001"
    with pytest.raises((TypeError, AttributeError)):
        walk.Walk.step(object())  # type: ignore[arg-type]
