# SPDX-License-Identifier: Apache-2.0
"""The operations of statements, conditions, writes, sinks, what is early, and what changes for later statements."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.protocols.postgres.statement import Output, SqlFault
from tests.unit.protocols.postgres.sql.shop import CATALOG, CONTEXT, CUSTOMERS, one, operations, statements

OPERATIONS = {
    "select 1": ["select"],
    "select * from customers c, orders": ["select public.customers", "select public.orders"],
    "select * from customers a, customers b": ["select public.customers"],
    "select * from customer_v": ["select public.customer_v"],
    "with q as (select 1) select * from q": ["select"],
    "select (select max(id) from orders) from customers": ["select public.orders", "select public.customers"],
    "insert into orders values (1)": ["insert public.orders"],
    "insert into orders select id from customers": ["insert public.orders", "select public.customers"],
    "insert into orders values (1) on conflict do nothing": ["insert public.orders"],
    "insert into orders values (1) on conflict (id) do update set total = 1": ["insert public.orders", "update public.orders"],
    "update orders set total = 1 where id = 1 returning *": ["update public.orders"],
    "update orders set total = c.id from customers c where c.id = orders.id": ["select public.customers", "update public.orders"],
    "update orders set total = 1 where id in (select id from orders)": ["select public.orders", "update public.orders"],
    "delete from orders using customers c where c.id = orders.id": ["select public.customers", "delete public.orders"],
    "with gone as (delete from orders where true returning id) select count(*) from gone": ["select", "delete public.orders (unbounded)"],
    "with a as (insert into orders values (1) returning id) update customers set id = 1 from a where a.id = customers.id": [
        "insert public.orders",
        "update public.customers",
    ],
    "merge into orders o using customers c on o.id = c.id when matched then update set total = 1"
    " when not matched then insert (id) values (c.id)": [
        "select public.customers",
        "update public.orders",
        "insert public.orders",
    ],
    "merge into orders o using customers c on o.id = c.id when matched then delete": ["select public.customers", "delete public.orders"],
    "merge into orders o using customers c on o.id = c.id when matched then do nothing": [
        "select public.customers",
        "select public.orders",
    ],
    "merge into orders o using customers c on true when matched then delete": [
        "select public.customers",
        "delete public.orders (unbounded)",
    ],
    "merge into orders o using customers c on true when matched and o.id = 1 then delete": [
        "select public.customers",
        "delete public.orders",
    ],
    "truncate orders, customers": ["truncate public.orders", "truncate public.customers"],
    "lock table orders": ["lock public.orders"],
    "copy orders to stdout": ["copy-to public.orders", "select public.orders"],
    "copy orders from stdin": ["copy-from public.orders", "insert public.orders"],
    "copy (select id from orders) to stdout": ["copy-to public.orders", "select public.orders"],
    "copy (delete from orders returning id) to stdout": ["copy-to public.orders", "delete public.orders (unbounded)"],
    "copy orders from '/tmp/x'": ["copy-file public.orders", "insert public.orders"],
    "copy orders to '/tmp/x'": ["copy-file public.orders", "select public.orders"],
    "copy orders from program 'id'": ["copy-program public.orders", "insert public.orders"],
    "explain select * from orders": ["explain", "select public.orders"],
    "explain analyze delete from orders": ["explain", "delete public.orders (unbounded)"],
    "prepare p as select * from orders": ["prepare p", "select public.orders"],
    "declare c cursor for select * from orders": ["declare c", "select public.orders"],
    "execute p": ["select public.orders"],
    "create table n as select * from orders": ["create-table public.n", "select public.orders"],
    "create table n as execute p": ["create-table public.n", "select public.orders"],
    "select * into n from orders": ["create-table public.n", "select public.orders"],
    "create temp table n (id int)": ["create-table pg_temp.n"],
    "create table alt.n (id int default get_ssn(1)::int)": ["create-table alt.n", "call public.get_ssn"],
    "create table n (like orders, c int references customers) inherits (people)": [
        "create-table public.n",
        "create-table public.people",
        "select public.customers",
        "select public.orders",
    ],
    "create table n (id int primary key, up int references n)": ["create-table public.n"],
    "alter table orders add foreign key (id) references customers": ["alter-table public.orders", "select public.customers"],
    "create view n as select * from orders": ["create-view public.n", "select public.orders"],
    "create materialized view n as select 1": ["create-materialized-view public.n", "select"],
    "create index on orders (get_ssn(id))": ["create-index public.orders", "call public.get_ssn"],
    "create function f() returns int language sql as 'select 1'": ["create-function f"],
    "create procedure f() language sql as 'select 1'": ["create-procedure f"],
    "create role r": ["create-role r"],
    "create user r": ["create-role r"],
    "create database d": ["create-database d"],
    "create schema s": ["create-schema s"],
    "create extension e": ["create-extension e"],
    "create type t as enum ('a')": ["create-type t"],
    "create trigger t before insert on orders for each row execute function f()": ["create-trigger public.orders"],
    "create rule r as on insert to orders do nothing": ["create-rule public.orders"],
    "create policy p on orders": ["create-policy public.orders"],
    "alter table orders drop column total": ["alter-table public.orders"],
    "alter table orders rename to x": ["alter-table public.orders"],
    "alter table orders rename column total to x": ["alter-table public.orders"],
    "alter table orders owner to x": ["alter-table public.orders"],
    "alter table orders set schema alt": ["alter-table public.orders"],
    "alter view customer_v rename to x": ["alter-view public.customer_v"],
    "alter system set work_mem = 1": ["alter-system"],
    "alter database d set search_path = alt": ["alter-database d"],
    "alter role r set search_path = alt": ["alter-role r"],
    "alter role r rename to q": ["alter-role r"],
    "alter function f() owner to x": ["alter-function f"],
    "alter default privileges grant select on tables to x": ["alter-default-privileges"],
    "drop table orders": ["drop-table public.orders"],
    "drop table if exists nothing": ["drop-table public.nothing"],
    "drop view customer_v": ["drop-view public.customer_v"],
    "drop database x": ["drop-database x"],
    "drop role x": ["drop-role x"],
    "drop schema alt cascade": ["drop-schema alt"],
    "drop function f(int)": ["drop-function f"],
    "drop trigger t on orders": ["drop-trigger public.orders"],
    "drop owned by x": ["drop-owned x"],
    "grant select on orders to x": ["grant public.orders"],
    "revoke all on orders from x": ["revoke public.orders"],
    "grant a to b": ["grant"],
    "comment on table orders is 'x'": ["comment public.orders"],
    "comment on column orders.total is 'x'": ["comment public.orders"],
    "security label on table orders is 'x'": ["security-label public.orders"],
    "vacuum orders": ["vacuum public.orders"],
    "vacuum": ["vacuum"],
    "analyze orders": ["analyze public.orders"],
    "cluster orders": ["cluster public.orders"],
    "reindex table orders": ["reindex public.orders"],
    "refresh materialized view kept": ["refresh public.kept"],
    "import foreign schema a from server s into alt": ["import-foreign-schema s"],
    "start transaction": ["begin"],
    "begin isolation level serializable": ["begin"],
    "end": ["commit"],
    "abort": ["rollback"],
    "savepoint a": ["savepoint a"],
    "release a": ["savepoint a"],
    "rollback to a": ["savepoint a"],
    "prepare transaction 'x'": ["prepare-transaction x"],
    "commit prepared 'x'": ["prepare-transaction x"],
    "set work_mem = 1": ["set work_mem"],
    "set local TimeZone to 'UTC'": ["set timezone"],
    "set time zone 5": ["set timezone"],
    "set names 'utf8'": ["set client_encoding"],
    "set transaction read only": ["set transaction_read_only"],
    "set session characteristics as transaction read only": ["set default_transaction_read_only"],
    "set constraints all deferred": ["set constraints"],
    "set role x": ["set-role role"],
    "set local role x": ["set-role role"],
    'set "Role" = x': ["set-role role"],
    "reset role": ["set-role role"],
    "select set_config('ROLE', 'x', true)": ["select", "set-role role"],
    "set session authorization x": ["set-session-authorization session_authorization"],
    "reset session authorization": ["set-session-authorization session_authorization"],
    "reset work_mem": ["reset work_mem"],
    "reset all": ["reset"],
    "select set_config('work_mem', '1', false)": ["select", "set work_mem"],
    "select set_config(name, 'a', false) from pg_settings where name = 'work_mem'": ["select pg_catalog.pg_settings", "set work_mem"],
    "update pg_settings set setting = '1' where name = 'work_mem'": ["set work_mem"],
    "update pg_settings set setting = 'x' where name = 'role'": ["set-role role"],
    "show work_mem": ["show work_mem"],
    "listen a": ["listen a"],
    "unlisten *": ["unlisten *"],
    "notify a, 'x'": ["notify a"],
    "fetch all from cur": ["fetch cur"],
    "move cur": ["fetch cur"],
    "close cur": ["close cur"],
    "close all": ["close"],
    "deallocate p": ["deallocate p"],
    "deallocate all": ["deallocate"],
    "discard all": ["discard all"],
    "checkpoint": ["checkpoint"],
    "load 'x'": ["load x"],
    "do $$begin end$$": ["do"],
    "call work(1)": ["call public.work"],
    "select get_ssn(1)": ["select", "call public.get_ssn"],
    "select @@@ 1": ["select", "call public.get_ssn"],
    "select 1::wrap": ["select", "call public.to_wrap"],
    "select 'x'::checked": ["select", "call public.looks_good"],
    "select 'x'::fancy": ["select", "call public.fancy"],
    "select 'ok'::mood": ["select"],
    "select most(name) from customers": ["select public.customers", "call public.most"],
    "select with_defaults(1), with_defaults(b => 'x', a => 1)": ["select", "call public.with_defaults"],
    "select * from rows_of(1)": ["select", "call public.rows_of"],
    "select nextval('x')": ["select", "call pg_catalog.nextval"],
    "select pg_sleep(1)": ["select", "call pg_catalog.pg_sleep"],
    "select 1 from customers where get_ssn(id) = 'x'": ["select public.customers", "call public.get_ssn"],
    "select 1; drop table orders": ["select", "drop-table public.orders"],
    "": [],
    " ; -- nothing\n /* at all */ ;": [],
}


@pytest.mark.parametrize("text", OPERATIONS)
def test_operations(text: str) -> None:
    cursor = (Output("id", one("select 1").columns[0].flow),)  # type: ignore[index]
    context = replace(CONTEXT, prepared={"p": "select * from orders"}, cursors={"cur": cursor})
    assert sorted(operations(text, context)) == sorted(OPERATIONS[text])


def test_builtin_functions_are_shown_but_need_no_rule() -> None:
    assert "call pg_catalog.upper" in operations("select upper('x')", free=True)
    assert operations("select upper('x')") == ["select"]


UNBOUNDED = """
true
1 = 1
'a' = 'a'
id = id
id <= id
(id) = id
id::text = id::text
id = 1 or true
id = 1 or 1 = 1
1 = 1 and true
not false
not (not true)
not 1 = 2
id is null or id is not null
id = 1 or not (id = 1)
exists (select 1)
exists (select 1 from customers)
exists (select 1 from customers c where c.id = 1)
(select true)
1 in (1, 2)
id in (id, 5)
id between id and id
(id = id) is true
(id = id) = true
id is not distinct from id
current_user = 'app'
coalesce(true, false)
length('x') > 0
now() > '2000-01-01'
name ~~ name
random() < 2
$1 = 1
id = 1 or id = id
true and (id = id or id = 3)
""".strip().splitlines()

BOUNDED = """
id = 1
id = $1
id > -2147483648
id = 1 and true
id = 1 or name = 'x'
id = 1 and exists (select 1)
false
1 = 2
null
not true
id <> id
not (id = id)
id = 1 or false
id in (1, 2)
id in (select id from orders)
exists (select 1 from orders o where o.id = customers.id)
(id, name) = (1, 'x')
id is null
name like '%'
current of cur
ctid = '(0,1)'
id = (select max(id) from orders)
coalesce(id = 1, true)
id between 1 and 2
case when id = 1 then true end
""".strip().splitlines()


@pytest.mark.parametrize("condition", UNBOUNDED)
def test_a_condition_that_holds_without_the_target_is_missing(condition: str) -> None:
    assert operations(f"delete from customers where {condition}")[-1:] != []
    assert any(name.startswith("delete") and "unbounded" in name for name in operations(f"delete from customers where {condition}"))
    assert any("unbounded" in name for name in operations(f"update customers set id = 2 where {condition}"))


@pytest.mark.parametrize("condition", BOUNDED)
def test_a_condition_on_the_target_is_one(condition: str) -> None:
    assert not any("unbounded" in name for name in operations(f"delete from customers where {condition}"))
    assert not any("unbounded" in name for name in operations(f"update customers set id = 2 where {condition}"))


def test_no_where_at_all_and_conditions_on_others_alone() -> None:
    assert operations("delete from customers") == ["delete public.customers (unbounded)"]
    assert "update public.orders (unbounded)" in operations("update orders set total = 1 from customers")
    assert "update public.orders (unbounded)" in operations("update orders set total = 1 from customers c where c.id = 1")
    assert "delete public.orders" in operations("delete from orders using customers c where c.id = orders.id")


@pytest.mark.parametrize(
    "text",
    [
        "select 1",
        "select id from customers where ssn = $1",
        "select upper(name) from customers c join orders o on o.id = c.id",
        "select * from pg_class",
        "select national_id from customer_v",
        "select now(), current_user",
        "begin",
        "start transaction read only",
        "show work_mem",
        "with q as (select 1) select * from q",
        "values (1)",
        "table orders",
        "select count(*) from people",
    ],
)
def test_early_reads(text: str) -> None:
    assert one(text).early


@pytest.mark.parametrize(
    "text",
    [
        "select get_ssn(1)",
        "select random()",
        "select nextval('x')",
        "select @@@ 1",
        "select 'x'::mood",
        "select mood from feelings",
        "select * into x from orders",
        "select id from orders for update",
        "select * from guarded",
        "select * from far",
        "select * from kept",
        "select who from short_v",
        "insert into orders values (1)",
        "with d as (delete from orders where id = 1 returning 1) select 1",
        "select set_config('work_mem', '1', false)",
        "commit",
        "rollback",
        "set work_mem = 1",
        "explain select 1",
        "copy orders to stdout",
        "declare c cursor for select 1",
        "prepare p as select 1",
        "execute p",
        "select pg_sleep(1)",
        "select * from pg_stat_activity",
        "select clock_timestamp()",
        "fetch cur",
        "select c from customers c",
        "do 'x'",
        "listen x",
        "select pg_read_file('x')",
        "select (select random())",
        "select 1 where exists (select get_ssn(1))",
        "select pg_catalog.set_config('work_mem', '1', true)",
    ],
)
def test_what_waits_for_its_record(text: str) -> None:
    assert not one(text, replace(CONTEXT, prepared={"p": "select 1"}, cursors={"cur": ()})).early


def test_fetch_of_an_early_cursor_is_early() -> None:
    declared = one("declare c cursor for select id from orders")
    assert not declared.early
    assert declared.inner is not None
    assert declared.inner.early
    assert declared.declares == "c"
    context = replace(CONTEXT, cursors={"c": declared.columns}, early_cursors=frozenset({"c"}))
    fetched = one("fetch 2 from c", context)
    assert fetched.early
    assert fetched.columns == declared.columns
    assert fetched.returns == "rows"
    assert one("move c", context).returns == "none"


SINKS = """
select set_config('app.x', ssn, false) from customers
select pg_notify('c', ssn) from customers
select lo_from_bytea(0, ssn::bytea) from customers
select setval('s', ssn::bigint) from customers
select get_ssn(ssn::int) from customers
select @@@ ssn::int from customers
select pretty(c) from customers c
select ssn::checked from customers
select pg_advisory_lock(ssn::bigint) from customers
create table n as select ssn from customers
create temp table n as select ssn from customers
create view n as select ssn from customers
create materialized view n as select ssn from customers
select ssn into n from customers
copy customers to '/tmp/x'
copy (select ssn from customers) to program 'cat'
update pg_settings set setting = (select ssn from customers) where name = 'application_name'
select set_config('application_name', (select ssn from customers), false)
select 1 from customers where get_ssn(ssn::int) = 'x'
with q as (select pg_notify('c', ssn) from customers) select 1 from q
""".strip().splitlines()


@pytest.mark.parametrize("text", SINKS)
def test_values_handed_to_what_keeps_them(text: str) -> None:
    assert any(("public", "customers", "ssn") in sink.flow.origins for sink in one(text).sinks)


@pytest.mark.parametrize("text", ["select pg_notify('c', 'x')", "select upper(ssn) from customers", "create table n as select 1"])
def test_constants_and_harmless_calls_are_no_sinks(text: str) -> None:
    assert not one(text).sinks


WRITES = {
    "insert into orders (total) select ssn::numeric from customers": ("orders", "total"),
    "insert into customers (name) select ssn from customers": ("customers", "name"),
    "insert into customers (name) values ((select ssn from customers))": ("customers", "name"),
    "update customers set name = ssn where id = 1": ("customers", "name"),
    "update orders set total = ssn::numeric from customers c where c.id = orders.id": ("orders", "total"),
    "update customers set (id, name) = (select id, ssn from customers) where id = 1": ("customers", "name"),
    "update customers set (id, name) = row(1, ssn) where id = 1": ("customers", "name"),
    "update customers set (id, name) = (1, ssn) where id = 1": ("customers", "name"),
    "insert into customers values (1) on conflict (id) do update set name = excluded.ssn": ("customers", "name"),
    "merge into orders o using customers c on o.id = c.id when matched then update set total = c.ssn::numeric": ("orders", "total"),
    "merge into orders o using customers c on o.id = c.id when not matched then insert (total) values (c.ssn::numeric)": (
        "orders",
        "total",
    ),
    "with q as (select ssn as s from customers) update orders set total = q.s::int from q where q.s = 'x' and id = 1": ("orders", "total"),
    "insert into orders (total) with q as (select ssn from customers) select ssn::numeric from q": ("orders", "total"),
    "alter table customers alter column name type text using ssn": ("customers", "name"),
    "update customer_v set national_id = name from customers c where c.id = customer_v.id": ("customers", "ssn"),
}


@pytest.mark.parametrize("text", WRITES)
def test_writes(text: str) -> None:
    wanted = ("public", *WRITES[text])
    source = "name" if "customer_v" in text else "ssn"
    flows = [write.flow for write in one(text).writes if write.column == wanted]
    assert any(("public", "customers", source) in flow.origins for flow in flows)


def test_dml_counts_what_max_rows_bounds() -> None:
    assert one("with d as (delete from orders where id = 1) update customers set id = 1 where id = 2").dml == {"delete", "update"}
    assert one("explain delete from orders").dml == frozenset()
    assert one("explain analyze delete from orders").dml == {"delete"}
    assert one("copy orders from stdin").dml == {"insert"}
    assert "merge" in one("merge into orders o using customers c on o.id = c.id when matched then delete").dml


def test_copy_forms() -> None:
    out = one("copy customers (id, ssn) to stdout")
    assert (out.returns, out.copy_text, out.copy_header) == ("copy-out", True, False)
    assert [column.name for column in out.columns or ()] == ["id", "ssn"]
    assert one("copy orders to stdout with (format text, header, encoding 'UTF8')").copy_header
    assert not one("copy orders to stdout with (format csv)").copy_text
    assert not one("copy orders to stdout with (delimiter ',')").copy_text
    assert not one("copy orders to stdout with (format binary)").copy_text
    assert not one("copy orders to stdout csv").copy_text
    for text, form in {
        "copy orders to stdout": "text", "copy orders to stdout (format csv, header)": "csv", "copy orders to stdout csv header": "csv",
        "copy orders to stdout binary": "binary", "copy orders to stdout (format binary)": "binary",
        "copy orders to stdout (format csv, delimiter ',', null '', quote '\"', escape '\"')": "csv",
        "copy orders to stdout (format csv, delimiter ';')": "csv", "copy orders to stdout (format csv, force_quote *)": "csv",
        "copy orders to stdout (format csv, null 'x')": "csv", "copy orders to stdout (format csv, escape 'x')": "csv",
        "copy orders to stdout (delimiter ',')": "text", "copy orders to stdout (null '')": "",
        "copy orders to stdout (delimiter 'ab')": "",
        "copy orders to stdout (delimiter 'a')": "", "copy orders to stdout (delimiter ',', delimiter ';')": "",
        "copy orders to stdout (delimiter ',', quote '-')": "", "copy orders to stdout (format csv, delimiter 'ä')": "",
        "copy orders to stdout (format csv, quote ',')": "", "copy orders to stdout (format csv, null 'a,b')": "",
        "copy orders to stdout (format csv, null 'a\"')": "", "copy orders to stdout (format csv, quote '')": "",
        "copy orders to stdout (format binary, delimiter ',')": "", "copy orders to stdout (format csv, default 'x')": "",
        "copy orders to stdout (format csv, encoding 'LATIN1')": "",
        "copy orders to stdout (format html)": "",
    }.items():
        assert one(text).copy_format == form, text
    assert not one("copy orders to stdout with (encoding 'LATIN1')").copy_text
    assert one("copy orders from stdin").returns == "copy-in"
    assert one("copy orders to '/tmp/x'").returns == "none"
    assert [column.name for column in one("copy badges to stdout").columns or ()] == ["id", "code"]


def test_prepare_and_execute() -> None:
    prepared = one("prepare p (int, text) as select ssn from customers where id = $1 and ssn = $2")
    assert prepared.prepares == "p"
    assert prepared.inner_text == "select ssn from customers where id = $1 and ssn = $2"
    assert prepared.returns == "none"
    executed = one("execute p(1, 'secret')", replace(CONTEXT, prepared={"p": prepared.inner_text}))
    assert executed.verb == "execute"
    assert executed.uses_prepared == "p"
    assert executed.returns == "rows"
    assert executed.columns[0].flow.plain  # type: ignore[index]
    hidden = [literal for literal in executed.literals if ("public", "customers", "ssn") in literal.origins]
    assert ["execute p(1, 'secret')"[x.start : x.end] for x in hidden] == ["'secret'"]


def test_a_prepared_statement_that_executes_itself_ends() -> None:
    with pytest.raises(SqlFault):
        one("execute p", replace(CONTEXT, prepared={"p": "execute p"}))


def test_transactions_and_context() -> None:
    assert one("rollback to a").transaction == "rollback-to"
    assert one("prepare transaction 'x'").transaction == "prepare"
    assert one("set search_path = alt").changes_context
    assert one("set role x").changes_context
    assert one("select set_config('search_path', 'alt', false)").changes_context
    assert one("select get_ssn(1)").changes_context
    assert not one("select get_ssn(1)").changes_catalog
    assert one("select pretty(c) from customers c").changes_catalog
    assert not one("set application_name = 'x'").changes_context
    assert one("set application_name = 'x'").settings == {"application_name": "x"}
    assert one("reset work_mem").settings == {"work_mem": None}
    assert one("create table n (id int)").changes_catalog
    assert one("drop table orders").changes_catalog
    assert one("do 'x'").changes_catalog
    assert one("discard all").forgets == "*"
    assert one("close all").forgets == "*"
    assert one("insert into fired values (1)").changes_context


def test_pinned_settings_may_be_set_to_their_value() -> None:
    for text in (
        "set client_encoding = 'UTF8'",
        "set names 'utf-8'",
        'set client_encoding to "UTF8"',
        "set client_encoding = unicode",
        "set standard_conforming_strings = on",
        "select set_config('client_encoding', 'UTF8', false)",
    ):
        assert any(operation.attributes.get("pinned") for operation in one(text).operations)
    for text in ("set client_encoding = 'LATIN1'", "set standard_conforming_strings = off", "reset client_encoding", "set names default"):
        assert not any(operation.attributes.get("pinned") for operation in one(text).operations)


def test_call_and_show_results() -> None:
    assert one("call work(1)").returns == "none"
    answer = one("call answer(1)")
    assert [(column.name, column.flow.unknown) for column in answer.columns or ()] == [("o", True)]
    assert [column.name for column in one("show all").columns or ()] == ["name", "setting", "description"]


# several statements in one text


def test_later_statements_see_a_literal_search_path() -> None:
    _, found = statements("set search_path = alt; select secret from orders")
    assert found.columns[0].flow.origins == {("alt", "orders", "secret")}  # type: ignore[index]
    _, found = statements("set search_path to alt, public; select secret from orders")
    assert found.operations[0].objects == ("alt.orders",)


@pytest.mark.parametrize(
    "text",
    [
        "reset all; select id from orders",
        "rollback; select id from orders",
        "select set_config('search_path', 'alt', false); select id from orders",
        "set role x; select id from orders",
        "create table orders2 (id int); select * from orders2",
        "create table orders2 (id int); select id from customer_v",
        "create function upper(int) returns int language sql as 'select 1'; select upper('x')",
        "do 'x'; select id from customer_v",
        "create type fancier as (x int); select null::fancier",
        "drop table orders; create table x as select * from customers",
        "rollback; create table n (id int)",
    ],
)
def test_what_cannot_be_known_has_to_be_sent_alone(text: str) -> None:
    with pytest.raises(SqlFault) as caught:
        statements(text)
    assert caught.value.code == "42501"
    assert "one by one" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "rollback; select pg_advisory_unlock_all(); close all; unlisten *; reset all",
        "reset all; select name, upper(name) from alt.orders, pg_class, customers",
        "rollback; select total from public.orders",
        "create table n (id int); select 1, 'x'::text",
        "begin; select id from orders; commit",
        "drop table orders; drop database x",
        "reset all; select * from badges",
        "set application_name = 'x'; select id from orders",
    ],
)
def test_what_does_not_depend_on_it_may_follow(text: str) -> None:
    try:
        statements(text)
    except SqlFault as fault:
        assert fault.code == "42703"  # alt.orders has no name column: resolved all the same


def test_prepared_statements_and_cursors_within_a_text() -> None:
    found = statements("prepare q as select ssn from customers; execute q; deallocate q")
    assert found[1].columns[0].flow.origins == {("public", "customers", "ssn")}  # type: ignore[index]
    found = statements("begin; declare c cursor for select ssn from customers; fetch c; close c")
    assert found[2].columns[0].flow.origins == {("public", "customers", "ssn")}  # type: ignore[index]
    with pytest.raises(SqlFault):
        statements("prepare q as select 1; deallocate q; execute q")


def test_offsets_are_characters() -> None:
    text = "select 'é'; select 'ü' as x"
    first, second = statements(text)
    assert text[first.start : first.end] == "select 'é'"
    assert text[second.start : second.end].strip() == "select 'ü' as x"


def test_relations_for_an_approval() -> None:
    assert dict(one("select * from customers").relations) == {"public.customers": CUSTOMERS.oid}
    assert dict(one("drop table customers").relations) == {"public.customers": CUSTOMERS.oid}


def test_the_same_snapshot_is_used_again() -> None:
    assert statements("select ssn from customers", catalog=CATALOG) == statements("select ssn from customers", catalog=CATALOG)


def test_merge_itself_can_be_named_by_deny_and_approve_rules() -> None:
    (own,) = [op for op in one("merge into orders o using customers c on true when matched then delete").operations if op.verb == "merge"]
    assert own.attributes == {"relations": ("public.orders",), "free": True, "where": "missing"}


def test_a_statements_own_verb_comes_first() -> None:
    for text in (
        "update orders set total = 1 from customers c where c.id = orders.id",
        "insert into orders select id from customers",
        "merge into orders o using customers c on true when matched then delete",
        "with d as (delete from orders where id = 1 returning id) insert into customers select id from d",
        "copy customers to stdout",
        "create table n as select * from orders",
    ):
        assert one(text).operations[0].verb == one(text).verb


def test_fetch_runs_what_the_cursor_holds() -> None:
    assert one("fetch c", replace(CONTEXT, cursors={"c": ()})).changes_context
    assert not one("fetch c", replace(CONTEXT, cursors={"c": ()}, early_cursors=frozenset({"c"}))).changes_context


def test_containers_that_run_nothing_set_nothing() -> None:
    assert one("prepare p as select set_config('search_path', 'alt', false)").settings == {}
    assert one("explain select set_config('search_path', 'alt', false)").settings == {}
    assert one("explain analyze select set_config('jit', 'on', false)").settings == {"jit": "on"}


def test_objects_inside_create_schema_are_refused() -> None:
    with pytest.raises(SqlFault):
        one("create schema s create view v as select ssn from public.customers")


@pytest.mark.parametrize(
    "text",
    [
        "select (select 1 from pg_settings where set_config(name, 'x', false) is null) from pg_settings where name = 'jit'",
        "select (select set_config(name, 'x', false)) from pg_settings where name = 'jit'",
        "select q.* from pg_settings, lateral (select set_config(name, 'x', false) from pg_settings) q where name = 'jit'",
        "select set_config(name, 'x', false) from pg_settings where name = 'jit' or true",
        "select set_config(a.name, 'x', false) from pg_settings a, pg_settings b where b.name = 'jit'",
        "select set_config(name, 'x', false) from (select name from pg_settings) q where true",
        "update pg_settings p set setting = 'x' from pg_settings where pg_settings.name = 'jit'",
        "update pg_settings set setting = 'x' where name <> 'jit'",
        "update pg_settings set setting = 'x'",
        "select set_config(setting_name => 'jit', new_value => 'x', is_local => false)",
    ],
)
def test_a_setting_whose_name_is_not_certain_is_refused(text: str) -> None:
    with pytest.raises(SqlFault) as caught:
        one(text)
    assert caught.value.code == "42501"


def test_reading_a_view_may_run_code() -> None:
    assert one("select who from short_v").changes_context
    assert not one("select national_id from customer_v").changes_context
