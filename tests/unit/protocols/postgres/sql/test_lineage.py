# SPDX-License-Identifier: Apache-2.0
"""Where each result column comes from, as the target would resolve the names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.protocols.postgres.statement import Context, SqlFault
from tests.unit.protocols.postgres.sql.shop import CATALOG, CONTEXT, NEWER, one, origins

CARRY_SSN = """
select ssn from customers
select c.ssn from customers c
select public.customers.ssn from customers
select customers.ssn from public.customers
select U&"s\\0073n" from customers
select "ssn" as id from customers
select ssn || 'x' from customers
select upper(ssn) from customers
select ssn::bytea from customers
select cast(ssn as varchar(20)) from customers
select ssn collate "C" from customers
select coalesce(null, ssn) from customers
select nullif(ssn, 'x') from customers
select greatest(ssn, '0') from customers
select case when true then ssn end from customers
select case ssn when '1' then 'one' end from customers
select case when ssn like '0%' then 'zero' end from customers
select case when id = 1 then 'x' else ssn end from customers
select ssn = '1' from customers
select ssn in ('1', '2') from customers
select ssn between '1' and '2' from customers
select ssn like '0%' from customers
select ssn is null from customers
select (ssn = '1') is true from customers
select not (ssn = '1') from customers
select ssn = '1' or id = 2 from customers
select ssn is distinct from '1' from customers
select ssn = any(array['1']) from customers
select '1' = any(array[ssn]) from customers
select '1' in (select ssn from customers)
select (select ssn from customers)
select array(select ssn from customers)
select exists(select 1 from customers where ssn like '0%')
select exists(select generate_series(1, ascii(ssn) - 48)) from customers
select array[ssn] from customers
select array[[ssn]] from customers
select (array[ssn])[1] from customers
select row(1, ssn) from customers
select (row(1, ssn)).f2 from customers
select min(ssn) from customers
select count(ssn) from customers
select count(*) filter (where ssn = '1') from customers
select string_agg(ssn, ',') from customers
select array_agg(c) from customers c
select json_agg(c) from customers c
select first_value(ssn) over () from customers
select percentile_disc(0.5) within group (order by ssn) from customers
select c from customers c
select customers from customers
select c::text from customers c
select concat(c.*) from customers c
select row_to_json(c) from customers c
select c.row_to_json from customers c
select ssn(c) from customers c
select (c).ssn from customers c
select (x).ssn from (select c as x from customers c) q
select (array_agg(c))[1].ssn from customers c
select q from (select ssn from customers) q
select q.id from (select ssn as id from customers) q
select a from (select ssn from customers) q(a)
select z.b from customers as z(a, x, y, b)
select s from customers natural join (select ssn as s from customers) q
select ssn from customers natural join people
select j.ssn from (customers join people using (ssn)) as j
select u.ssn from customers join people using (ssn) as u
select ssn from people right join customers using (ssn)
select ssn from people full join customers using (ssn)
select l.x from customers c, lateral (select c.ssn as x) l
select x from customers c, unnest(array[c.ssn]) x
select x from customers c, lateral unnest(string_to_array(c.ssn, '-')) as t(x)
select value from customers c, jsonb_each(to_jsonb(c))
select j.v from customers c, json_to_record(row_to_json(c)) as j(v text)
select x from customers c, rows from (unnest(array[c.ssn]), generate_series(1, 2)) as r(x, y)
select t.n from customers, xmltable('/a' passing (ssn::xml) columns n text path 'b') t
select xmlelement(name a, ssn) from customers
select xmlelement(name a, xmlattributes(ssn as b)) from customers
select xmlforest(ssn as a) from customers
select xmlserialize(content ssn::xml as text) from customers
select name from customers union all select ssn from customers
select null::text union select ssn from customers
(select ssn from customers limit 1) except select 'x'
with q as (select ssn as a from customers) select a from q
with q(a) as (select ssn from customers), r as (select a || 'x' as b from q) select b from r
with recursive q(a) as (select '' union all select ssn from customers, q) select a from q
with recursive q(a, b) as (select '', ssn from customers union all select b, a from q) select a from q
with recursive q as (select id, ssn from customers union all select q.id, q.ssn from q) search depth first by id set o select o from q
with u as (update customers set name = name where id = 1 returning ssn as z) select z from u
with d as (delete from customers where id = 1 returning *) select ssn from d
insert into customers (id, ssn) values (1, '2') returning ssn
update customers set name = 'x' where id = 1 returning upper(ssn)
delete from customers where id = 1 returning customers
select national_id from customer_v
select a from short_v
select v.a from short_v v
select n from kept
select value from (values ((select ssn from customers))) v(value)
select distinct on (ssn) ssn from customers
select ssn from only customers for update
select t.ssn from customers t tablesample system (10)
table customers
select generate_series(1, length(ssn)) from customers
select (select upper(c.ssn)) from customers c
select (select q.a from (select c.ssn as a) q) from customers c
select lag(ssn) over (order by id) from customers
""".strip().splitlines()


@pytest.mark.parametrize("text", CARRY_SSN)
def test_the_value_is_followed(text: str) -> None:
    carried = {name for column in one(text).columns or () for name in column.flow.origins}
    assert ("public", "customers", "ssn") in carried


CLEAR = """
select id, name from customers where ssn = '1'
select total as ssn, id as card from orders
select count(*) from customers
select 1 from customers order by ssn
select name from customers group by name having max(ssn) > '0'
select row_number() over (order by ssn) from customers
select exists(select ssn from customers where id = 1)
select exists(select * from customers)
select id from (select * from customers) q
select q.id from customers natural join (select id from orders) q
select c.id from customers c where exists (select 1 from orders o where o.customer_id = c.id)
with q as (select * from customers) select name from q
select $q$select ssn from customers$q$
select o.* from orders o join customers c on c.id = o.customer_id
select row_to_json(o) from orders o
select ctid, tableoid, xmin from customers
insert into orders values (1, 2, 3) returning *
insert into filled (id) values (1) returning id, n
select relname from pg_class
select grouping(ssn) from customers group by ssn
""".strip().splitlines()


@pytest.mark.parametrize("text", CLEAR)
def test_other_columns_stay_clear(text: str) -> None:
    for column in one(text).columns or ():
        assert ("public", "customers", "ssn") not in column.flow.origins
        assert not column.flow.unknown


PLAIN = """
select ssn as x from customers
select q.x from (select ssn as x from customers) q
with q as (select ssn from customers) select * from q
select national_id from customer_v
select ssn from customers join people using (ssn)
select j.ssn from (customers join orders on true) j
""".strip().splitlines()


@pytest.mark.parametrize("text", PLAIN)
def test_an_unchanged_column_is_plain(text: str) -> None:
    assert one(text).columns[0].flow.plain  # type: ignore[index]


@pytest.mark.parametrize(
    "text",
    [
        "select ssn::text from customers",
        "select (c).ssn from customers c",
        "select ssn from customers union select ssn from customers",
        "select max(ssn) from customers",
        "select (select ssn from customers)",
        "select a from short_v",
        "select ssn from customers full join people using (ssn)",
        "select tail from badges",
    ],
)
def test_a_derived_value_is_not_plain(text: str) -> None:
    assert not one(text).columns[0].flow.plain  # type: ignore[index]


def test_a_view_column_carries_its_own_name_and_what_is_under_it() -> None:
    assert origins("select national_id from customer_v") == {"customer_v.national_id", "customers.ssn"}
    assert origins("select a from short_v") == {"short_v.a", "customer_v.national_id", "customers.ssn"}
    assert origins("select n from kept") == {"kept.n", "customers.ssn"}


def test_inheritance_goes_both_ways() -> None:
    assert origins("select ssn from people") == {"people.ssn", "staff.ssn"}
    assert origins("select ssn from staff") == {"people.ssn", "staff.ssn"}
    assert origins("select room from staff") == {"staff.room"}


def test_a_generated_column_carries_what_it_is_made_of() -> None:
    assert origins("select tail from badges") == {"badges.tail", "badges.code"}


@pytest.mark.parametrize(
    "text",
    [
        "select get_ssn(1)",
        "select @@@ 1",
        "select 'x' || 1",
        "select 1::wrap",
        "select 'x'::fancy",
        "select most(name) from customers",
        "select c.pretty from customers c",
        "select pretty(c) from customers c",
        "select x from looped_v",
        "select x from broken_v",
        "select who from short_v",
        "select y from pair_of(1)",
        "select (pair_of(1)).y",
        "select ssn from rows_of(1)",
        "insert into fired (id) values (1) returning v",
        "update fired set id = 2 where id = 1 returning v",
        "insert into filled (id) values (1) returning v",
        "insert into fired_v values (1) returning v",
        "select lower(id) from orders",
        "select pg_read_file('x')",
        "select query_to_xml('select 1', false, false, '')",
        "select current_setting('app.x')",
        "show app.x",
        "select query from pg_stat_activity",
        "select most_common_vals from pg_stats",
        "select data from pg_largeobject",
        "select chunk_data from pg_toast.pg_toast_20001",
        "select rolpassword from pg_authid",
        "explain select get_ssn(1)",
        "with x as (select get_ssn(1) as a) select a from x",
        "select array(select get_ssn(1))",
        "select a.v from (select get_ssn(1) v) a",
    ],
)
def test_what_cannot_be_followed_is_unknown(text: str) -> None:
    assert any(column.flow.unknown for column in one(text).columns or ())


@pytest.mark.parametrize(
    "text",
    [
        "select lower(name) from customers",
        "select lower('X')",
        "select name || 'x' from customers",
        "select id || 'x' from customers",
        "select * from pg_class",
        "select current_setting('work_mem')",
        "show work_mem",
        "delete from fired where id = 1 returning v",
        "select nextval('numbers')",
        "select 'a' || 'b'",
        "select 'a' || name from customers",
        "select * from orders where id = 1",
        "select 'ok'::mood",
        "select mood from feelings",
        "select current_user, now(), version()",
    ],
)
def test_what_is_certainly_built_in_is_known(text: str) -> None:
    assert not any(column.flow.unknown for column in one(text).columns or ())


def test_search_path_decides_which_relation_and_function() -> None:
    alt = Context(("pg_catalog", "alt", "public"), user="app")
    assert origins("select secret from orders", context=alt) == {"orders.secret"}
    first = Context(("alt", "pg_catalog", "public"), user="app")
    assert "?" in origins("select upper('x'::text)", context=first)
    assert "?" not in origins("select upper('x'::text)", context=alt)


def test_a_temporary_table_shadows() -> None:
    temp = replace(CONTEXT, temp_schema="pg_temp_3")
    assert one("select ssn from customers", temp).columns[0].flow.origins == {("pg_temp_3", "customers", "ssn")}  # type: ignore[index]


def test_system_means_nothing_of_user_tables() -> None:
    assert one("select relname from pg_class").columns[0].flow.system  # type: ignore[index]
    assert one("select 1, 'x'").columns[1].flow.system  # type: ignore[index]
    assert not one("select id from orders").columns[0].flow.system  # type: ignore[index]
    assert not one("select get_ssn(1)").columns[0].flow.system  # type: ignore[index]


def test_explain_carries_everything_that_is_read() -> None:
    assert "customers.ssn" in origins("explain select id from customers where ssn = '1'")
    assert origins("explain select id from orders") == {"orders.id"}


def test_reads_name_every_column() -> None:
    reads = one("select id from customers where email like 'x' order by ssn").reads
    assert {name for _, _, name in reads} == {"id", "email", "ssn"}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("select * from nothing", "42P01"),
        ("select * from nowhere.customers", "42P01"),
        ("select nothing from customers", "42703"),
        ("select c.nothing from customers c", "42703"),
        ("select nothing(1)", "42883"),
        ("select nowhere.f(1)", "3F000"),
        ("select x.id from customers c", "42P01"),
        ("select customers.id from customers c", "42P01"),
        ("select id from customers, orders", "42702"),
        ("select 1::nothing", "42704"),
        ("select 1 @#@ 2", "42883"),
        ("select * from a join b using (x)", "42P01"),
        ("select * from customers join orders using (nothing)", "42703"),
        ("select 1 union select 1, 2", "42601"),
        ("with q as (select 1), q as (select 2) select 1", "42712"),
        ("select a.id from customers a, orders a", "42P09"),
        ("select ssn from customers, (select ssn) q", "42703"),
        ("select x from orders o, (select o.id as x) q", "42P01"),
        ("insert into customers (nothing) values (1)", "42703"),
        ("update customers set nothing = 1", "42703"),
        ("selec 1", "42601"),
        ("insert into ruled values (1)", "42501"),
        ("delete from ruled_v", "42501"),
        ("execute nothing", "26000"),
        ("fetch nothing", "34000"),
        ("close nothing", "34000"),
        ("deallocate nothing", "26000"),
        ("select set_config(name, 'x', false) from customers", "42501"),
        ("values (1), (1, 2)", "42601"),
        ("select json_value('{}', '$')", "0A000"),
        ("select system_user", "42883"),
        ("drop table nothing", "42P01"),
        ("select other.public.f(1)", "0A000"),
        ("select * from orders q(a, b, c, d)", "42P10"),
        ("copy nothing to stdout", "42P01"),
    ],
)
def test_the_targets_own_codes(text: str, code: str) -> None:
    with pytest.raises(SqlFault) as caught:
        one(text)
    assert caught.value.code == code


def test_newer_servers_have_newer_constructs() -> None:
    assert "customers.ssn" in origins("select json_object('a': ssn) from customers", catalog=NEWER)
    assert "customers.ssn" in origins("select json_value(notes, '$.a' passing ssn as x) from customers", catalog=NEWER)
    assert "customers.ssn" in origins("select json_arrayagg(ssn) from customers", catalog=NEWER)
    assert "customers.ssn" in origins("select json_array(select ssn from customers)", catalog=NEWER)
    assert "customers.notes" in origins(
        "select t.x from customers c, json_table(c.notes, '$' columns (x text path '$.s')) t", catalog=NEWER
    )
    assert "customers.ssn" in origins("update customers set id = 1 where id = 2 returning old.ssn", catalog=NEWER)
    assert "customers.ssn" in origins("delete from customers where id = 2 returning with (old as o) o.ssn", catalog=NEWER)
    with pytest.raises(SqlFault):
        one("update customers set id = 1 returning with (old as o) o.ssn", catalog=CATALOG)


def test_a_recursion_that_moves_values_between_columns_settles() -> None:
    text = "with recursive q(a, b, c, d) as (select '', '', '', ssn from customers union all select b, c, d, a from q) select a from q"
    assert "customers.ssn" in origins(text)
