# SPDX-License-Identifier: Apache-2.0
"""Values and conditions under another name, in another place, or in another number than they seem to be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.protocols.postgres.sql.analyze import analyze
from gateway.protocols.postgres.statement import SqlFault, Statement
from tests.unit.protocols.postgres.sql.shop import CATALOG, CONTEXT, SSN, one, statements

ROWS = "(select array_agg(c) || array_agg(c) from customers c)"
"""An array of rows whose type this catalog does not name."""


def written(text: str) -> dict[str, bool]:
    """Which columns are assigned, and whether the number may be in the value."""
    return {write.column[2]: SSN in write.flow.origins for write in one(text).writes}


@pytest.mark.parametrize("text", [
    "select (x.o).ssn from (select c as o from customers c(ssn, b, d)) x",
    "select (x.o).id from (select c as o from customers c(ssn, b, d, id)) x",
    f"select u.name from unnest({ROWS}) u",
])
def test_a_field_is_what_the_target_takes_it_for(text: str) -> None:
    columns = one(text).columns
    assert columns is not None and SSN in columns[0].flow.origins


@pytest.mark.parametrize("text", [
    f"select * from unnest({ROWS}) u",
    f"insert into orders select * from unnest({ROWS}) u(a, b, c)",
    f"select t.b from rows from (unnest({ROWS}), generate_series(1, 2)) as t(a, b)",
    f"select t.b from unnest({ROWS}, array[1]) as t(a, b)",
    f"select id from orders natural right join unnest({ROWS}) u",
])
def test_an_unknown_number_of_columns_is_not_guessed(text: str) -> None:
    with pytest.raises(SqlFault) as fault:
        one(text)
    assert fault.value.code == "0A000"


@pytest.mark.parametrize("text", [
    "select * from generate_series($1, $2)",
    "select * from unnest(array[1, 2] || 3) u",
    "select * from unnest(array[1] || array[3]) u",
    "select * from unnest(array['a'], array[1]) as t(a, b)",
    "select * from regexp_split_to_table($1, ',')",
    "select * from jsonb_array_elements($1)",
    "select u.x from unnest($1) u(x)",
])
def test_functions_that_give_one_column_are_known(text: str) -> None:
    assert one(text).columns is not None


def test_assignments_follow_the_columns_of_a_star() -> None:
    pair = "(select id::text as a, ssn as b from customers) s"
    assert written(f"update customers set (ssn, name) = row(s.*, z.*) from {pair}, (select) z") == {"ssn": False, "name": True}
    merged = f"merge into customers c using {pair} on false when not matched then insert (ssn, name) values (s.*)"
    assert written(merged) == {"ssn": False, "name": True}
    assert written("update customers set (ssn, name) = (select name, ssn from customers limit 1)") == {"ssn": False, "name": True}
    assert written("update customers set (name) = (select c from customers c limit 1)") == {"name": True}


def test_a_subscript_is_written_too() -> None:
    assert written("update customers set notes[c.ssn] = '1' from customers c") == {"notes": True}
    assert written("insert into customers (notes[(select ssn from customers limit 1)]) values ('1')") == {"notes": True}
    assert written("update customers set notes[name] = '1'") == {"notes": False}


def unbounded(statement: Statement) -> bool:
    return any(operation.attributes.get("where") == "missing" for operation in statement.operations)


@pytest.mark.parametrize("condition", [
    "orders.id = id", "public.orders.id = orders.id", "id = (select id)", "id in (select orders.id)", "id = any(array[id])",
    "id = all(array[id, orders.id])", "(id is null) is not null", "exists (select orders.id)", "exists (select id from customers c)",
    "case when true then true else id = 1 end", "case when id = 1 then true else true end", "not (id <> orders.id)",
    "(id, 1) = (orders.id, 1)", "exists (select 1 where id = id)", "orders.id is null or id is not null",
])
def test_conditions_that_hold_for_every_row(condition: str) -> None:
    assert unbounded(one(f"delete from orders where {condition}"))


@pytest.mark.parametrize("condition", [
    "id = 1", "id in (1, 2)", "id = any(array[1, 2])", "id = any($1)", "orders is not null", "id = customer_id",
    "exists (select 1 from customers c where c.id = orders.customer_id)", "id in (select id from customers)",
    "case when id = 1 then true else false end", "case id when 1 then true else false end", "id is null or customer_id is not null",
])
def test_conditions_that_ask_the_row(condition: str) -> None:
    assert not unbounded(one(f"delete from orders where {condition}"))


def test_a_volatile_name_of_a_setting_is_refused() -> None:
    name = "case when random() < 0.5 then 'role' else name end"
    with pytest.raises(SqlFault) as fault:
        one(f"select set_config({name}, 'x', false) from pg_settings where {name} = 'application_name'")
    assert fault.value.code == "42501"


@pytest.mark.parametrize("text", ["prepare lockgate_3 as select 1", "declare lockgate_refused cursor for select 1"])
def test_the_gateways_own_names_are_refused_in_sql_too(text: str) -> None:
    with pytest.raises(SqlFault) as fault:
        one(text)
    assert fault.value.code == "42602"


def test_a_schema_that_may_not_be_usable_does_not_shadow() -> None:
    text = "set search_path = alt, public; select secret from orders"
    assert statements(text)[1].operations[0].objects == ("alt.orders",)
    for given in ("alt, public", "alt, information_schema"):
        with pytest.raises(SqlFault):
            analyze(f"set search_path = {given}; select secret from orders", replace(CONTEXT, switched=given == "alt, public"), CATALOG)


def test_what_only_the_other_role_may_use_does_not_shadow() -> None:
    """The catalog's reader may not use the schema ``alt``; who did SET ROLE may, or has a role of its own."""
    objects = replace(CATALOG.user, schemas=CATALOG.user.schemas - {"alt"})
    hidden = replace(CATALOG, user=objects)
    text = "set search_path = alt, public; select id from orders"
    assert analyze(text, CONTEXT, hidden)[1].operations[0].objects == ("public.orders",)
    for switched in (text, "reset search_path; select id from orders"):
        with pytest.raises(SqlFault):
            analyze(switched, replace(CONTEXT, switched=True), hidden)
    assert analyze("set search_path = public; select id from orders", replace(CONTEXT, switched=True), hidden)


def test_constraints_set_immediate_run_what_was_deferred() -> None:
    assert one("set constraints all immediate").changes_context
