# SPDX-License-Identifier: Apache-2.0
"""What becomes of a text where row filters apply; tests/peers/test_filters.py runs such texts on real servers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import Refused
from gateway.masking.model import MaskSet, add_up
from gateway.masking.rules import REDACT
from gateway.protocols.postgres.catalog import Catalog
from gateway.protocols.postgres.filters.reach import LEAVES_ROWS
from gateway.protocols.postgres.filters.rewrite import Filtered, filtered
from gateway.protocols.postgres.sql.analyze import analyze
from gateway.protocols.postgres.sql.parse import parse
from gateway.protocols.postgres.statement import Context, SqlFault
from tests.unit.protocols.postgres.sql.shop import CATALOG, CONTEXT, NEWER

MASKS = MaskSet(filters={
    "public.orders": frozenset({"customer_id = 7"}), "public.people": frozenset({"id < 100"}), "public.staff": frozenset({"room = 'a'"})})
IS = '(("orders"."customer_id" OPERATOR(pg_catalog.=) 7))'
ROWS = 'SELECT * FROM "public"."orders" AS "lockgate_row" WHERE (("lockgate_row"."customer_id" OPERATOR(pg_catalog.=) 7))'


def given(text: str, masks: MaskSet = MASKS, context: Context = CONTEXT, catalog: Catalog = CATALOG) -> Filtered:
    return filtered(text, analyze(text, context, catalog), masks, context, catalog)


BECOMES = {
    "select * from orders": f"select * from orders WHERE ({IS})",
    "select id from orders where id = $1 for update": f"select id from orders where ({IS}) AND ( id = $1) for update",
    "select id from orders where 1 / id > 0 -- x":
        f"select id from orders where ({IS}) AND (CASE WHEN ({IS}) THEN ( 1 / id > 0) ELSE FALSE END) -- x",
    "select count(*) from orders having count(*) > 1": f'select count(*) from ({ROWS} OFFSET 0) AS "orders" having count(*) > 1',
    "table orders": f'SELECT * FROM ({ROWS}) AS "orders"',
    "select * from customers c left join orders on orders.id = c.id":
        f'select * from customers c left join ({ROWS}) AS "orders" on orders.id = c.id',
    "update orders set total = 1": f"update orders set total = 1 WHERE {IS}",
    "delete from orders where id = 1 returning *": f"delete from orders where {IS} AND ( id = 1) returning *",
    "copy orders (total, id) to stdout":
        'copy (SELECT "lockgate_row"."total", "lockgate_row"."id" FROM ONLY "public"."orders" AS "lockgate_row" '
        'WHERE (("lockgate_row"."customer_id" OPERATOR(pg_catalog.=) 7))) to stdout',
}  # fmt: skip


@pytest.mark.parametrize("text", BECOMES)
@pytest.mark.parametrize("catalog", [CATALOG, NEWER], ids=["15", "18"])
def test_the_text_that_the_target_gets(text: str, catalog: Catalog) -> None:
    found = given(text, catalog=catalog)
    assert found.text == BECOMES[text]
    assert found.relations == ("public.orders",)


@pytest.mark.parametrize("text", [
    "select * from customers", "select * from alt.orders", "select lower('x')", "with orders as (select 1) select * from orders",
    "insert into customers (id) values (1)", "begin", "", "lock table orders", "comment on table orders is 'x'", "select * from customer_v",
])  # fmt: skip
def test_what_has_nothing_to_do_with_it_stays(text: str) -> None:
    found = given(text)
    assert found.text == text
    assert found.relations == ()
    assert found.statements == analyze(text, CONTEXT, CATALOG)


def test_functions_that_every_set_trusts_may_be_called() -> None:
    one = MaskSet(filters=MASKS.filters, functions=["public.get_ssn", "public.looks_good"])
    other = MaskSet(filters={"public.badges": frozenset({"id = 1"})}, functions=["public.get_ssn"])
    elsewhere = MaskSet({"public.customers.ssn": REDACT})
    assert "CASE" in given("select id from orders where get_ssn(id) = 'x'", add_up([one, other, elsewhere])).text
    with pytest.raises(Refused, match=r"public\.looks_good is refused"):
        given("select id from orders where looks_good('x')", add_up([one, other]))


def test_several_conditions_are_all_to_be_met() -> None:
    masks = MaskSet(filters={"public.orders": frozenset({"id > 1", "customer_id = 7"}), "public.*": frozenset({"id < 9"})})
    assert given("select 1 from orders", masks).text.count("OPERATOR") == 3


def test_a_child_is_under_its_parents_condition_and_a_parent_barred_by_its_childs() -> None:
    assert '"staff"."id" OPERATOR(pg_catalog.<) 100' in given("select * from staff").text
    with pytest.raises(Refused, match=r"public\.staff, which has a row filter of its own"):
        given("select * from people")
    assert "room" not in given("select * from only people").text


def test_a_namesake_gets_its_schema() -> None:
    """Dropped before the target reads the text, its name would be that of the relation with the filter."""
    context = replace(CONTEXT, path=("pg_catalog", "alt", "public"))
    assert given("select id from orders where id = 1", context=context).text == 'select id from "alt".orders where id = 1'
    assert given("update orders set id = 1", context=context).text == 'update "alt".orders set id = 1'
    assert given("select id from alt.orders", context=context).text == "select id from alt.orders"
    assert given("select orders.id from orders, public.orders o", context=context).relations == ("public.orders",)


@pytest.mark.parametrize("text", [
    "select (with orders as (select 1) select count(*) from orders), id from orders",
    "select id from orders o where exists (with orders as (select 1) select from orders)",
    "with x as (with orders as (select 1) select * from orders) select x, orders.id from x, orders",
    "explain analyze select id from orders", "alter table orders rename to other", "drop table orders", "truncate orders",
    "create index on orders (id)", "reindex table orders",
])
def test_a_namesake_that_cannot_get_its_schema_is_refused(text: str) -> None:
    context = replace(CONTEXT, path=("pg_catalog", "alt", "public"))
    with pytest.raises(Refused, match="name"):
        given(text, context=context)


@pytest.mark.parametrize("text", ["explain select id from alt.orders", "alter table alt.orders rename to other", "drop table alt.orders",
                                  "truncate alt.orders", "create index on alt.orders (id)"])
def test_with_its_schema_it_is_not(text: str) -> None:
    assert given(text).text == text


def test_a_statement_keeps_what_it_is_and_takes_the_columns_of_what_runs() -> None:
    text = "select o, 1 as one from orders o left join customers c on 1 / c.id = 2"
    (own,), (seen,) = analyze(text, CONTEXT, CATALOG), given(text).statements
    assert replace(seen, columns=own.columns, early=own.early) == own
    assert [column.name for column in seen.columns or ()] == ["o", "one"]


def test_prepare_and_execute_agree_on_what_the_target_holds() -> None:
    (prepared,) = given("prepare p (int) as select id from orders where id = $1").statements
    assert prepared.inner_text == "select id from orders where id = $1"
    context = replace(CONTEXT, prepared={"p": prepared.inner_text})
    found = given("execute p(1)", context=context)
    assert found.executes == {"p": prepared.inner_sent}
    assert found.relations == ("public.orders",)
    assert given("execute p(1)", MaskSet(filters={"public.badges": frozenset({"id = 1"})}), context).executes == {"p": prepared.inner_text}


@pytest.mark.parametrize("text", [
    "select * from orders o tablesample system (1)", "explain select * from orders", "truncate orders", "truncate customers cascade",
    "insert into orders (id) values (1)", "copy orders from stdin", "update orders set customer_id = 7", "select get_ssn(1)",
    "merge into orders o using customers c on c.id = o.id when matched then delete", "select * from short_v", "create view v as select 1",
    "do $$ begin end $$", "call work(1)", "alter table orders add x int", "create table x (like orders)",
    "select * from pg_toast.pg_toast_20001", "with orders as (select * from orders) select * from orders",
    "select ctid from (select 1) x, orders", "set search_path = alt; select 1 from public.orders",
    "select query_to_xml('x', true, true, '')", "delete from orders where current of c",
])  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(Refused) as found:
        given(text, context=replace(CONTEXT, cursors={"c": None}))
    assert found.value.code == "42501"


@pytest.mark.parametrize("condition", ["nothing = 1", "total = 'x' and gone", "id = 'x' or", "total", "customer_id like 'x'"])
def test_a_condition_that_does_not_fit_hides_everything(condition: str) -> None:
    with pytest.raises(Refused, match="row filter"):
        given("select * from orders", MaskSet(filters={"public.orders": frozenset({condition})}))


def test_a_generated_column_may_be_looked_at_but_not_moved_under_it() -> None:
    masks = MaskSet(filters={"public.badges": frozenset({"tail = 'x'"})})
    assert "tail" in given("select id from badges", masks).text
    with pytest.raises(Refused, match="computed"):
        given("update badges set code = 'abcd'", masks)


def test_what_compares_a_computed_column_is_behind_a_fence() -> None:
    masks = MaskSet(filters={"public.badges": frozenset({"id = 1"})})
    assert "CASE" not in given("select id from badges where code = 'x'", masks).text
    assert "CASE" in given("select id from badges where tail = 'x'", masks).text
    assert "OFFSET 0" in given("select b.id from badges b join customers c on c.name = b.tail", masks).text


def test_the_number_of_places_is_bounded() -> None:
    with pytest.raises(Refused, match="more than 128 times"):
        given("select 1 from " + ", ".join(f"orders o{number}" for number in range(200)))


# every text of the corpora


CORPUS = Path(__file__).parents[4] / "corpus"
EVERYTHING = MaskSet(filters={"*.*": frozenset({"id = 1"})})


def texts() -> Iterator[str]:
    for name in ("postgres.jsonl", "filters.jsonl", "masks.jsonl"):
        for line in (CORPUS / name).read_text().splitlines():
            sql: Any = json.loads(line).get("sql", "")
            yield from sql if isinstance(sql, list) else [sql]


def bare_names(node: Any, inside: bool = False) -> Iterator[str]:
    """The relations that a tree reads outside of any guard and of any query level with a condition of ours."""
    if isinstance(node, dict):
        if node.get("relname") and node.get("alias", {}).get("aliasname") != "lockgate_row" and not inside:
            yield f"{node.get('schemaname', 'public')}.{node['relname']}"
        ours = "whereClause" in node and '"OPERATOR"' not in str(node["whereClause"]) and "pg_catalog" in str(node["whereClause"])
        for key, value in node.items():
            if key not in ("into", "intoClause", "lockingClause"):
                yield from bare_names(value, inside or ours and key in ("fromClause", "relation"))
    elif isinstance(node, list):
        for entry in node:
            yield from bare_names(entry, inside)


@pytest.mark.parametrize("masks", [MASKS, EVERYTHING], ids=["some", "all"])
def test_no_text_of_the_corpora_reads_a_filtered_relation_bare(masks: MaskSet) -> None:
    """A coarse second look: whatever is not refused has no name of a filtered relation outside of a guard or a narrowed level."""
    passed = 0
    for text in texts():
        try:
            statements = analyze(text, CONTEXT, CATALOG)
            found = filtered(text, statements, masks, CONTEXT, CATALOG)
        except (Refused, SqlFault):
            continue
        for entry, statement in zip(parse(found.text)[0], found.statements, strict=True):
            names = set() if statement.verb in LEAVES_ROWS else set(bare_names({entry.kind: entry.body}))
            assert not names & set(found.relations), (text, found.text)
        passed += bool(found.relations)
    assert passed > 40
