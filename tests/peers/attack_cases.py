# SPDX-License-Identifier: Apache-2.0
"""Every class of attack on masks and rules that the tests send, and what becomes of each: the source of ``docs/masking-matrix.md``.

``python -m tests.peers.attack_cases`` writes the page; ``test_attack_matrix`` holds it against this table, the other attack tests hold
the table against a running gateway.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[2] / "docs" / "masking-matrix.md"


class Case(NamedTuple):
    """``texts`` are sent one after the other inside a transaction. ``outcome`` is what ``attack.outcome`` says."""

    what: str
    outcome: str
    texts: tuple[str, ...]


LEAKS = (
    Case("another name", "masked", ("select ssn as name from customers",)),
    Case("quoted and Unicode identifiers", "masked", ("select \"ssn\", U&\"\\0073sn\" from customers",)),
    Case("the name with schema and database", "masked", ("select attacks.public.customers.ssn from customers",)),
    Case("duplicated column names", "masked", ("select a.* from (select ssn, name as ssn from customers) a",)),
    Case("alias list shorter than the columns", "masked", ("select c.d, c.email from customers c(a, b, d)",)),
    Case("row of a table with an alias list", "masked", ("select (x.o).ssn from (select c as o from customers c(ssn, b, d)) x",)),
    Case("whole row", "NULL", ("select c from customers c",)),
    Case("whole row as text", "masked", ("select c::text from customers c",)),
    Case("field of a row", "masked", ("select (c).ssn, ssn(c) from customers c",)),
    Case("field of a row from an array", "masked", ("select (array_agg(c))[1].ssn from customers c",)),
    Case("row constructor", "masked", ("select (a.b).f1 from (select row(ssn, 1) as b from customers) a",)),
    Case("composite, and domain over a composite", "NULL", ("select (ssn, name)::pair, row(ssn, name)::holder from customers",)),
    Case("casts, by name too", "masked, NULL", ("select ssn::bytea, ssn::national_id, name(ssn), cast(ssn as varchar(4)) from customers",)),
    Case("COLLATE", "masked", ("select ssn collate \"C\" from customers",)),
    Case("string functions", "masked", ("select substr(ssn, 1, 3), reverse(ssn), md5(ssn), replace(ssn, '-', '') from customers",)),
    Case("numbers out of text", "NULL", ("select length(ssn), ascii(ssn), replace(ssn, '-', '')::int from customers",)),
    Case("comparisons in the result", "NULL", ("select ssn = 'x', ssn like '0%', ssn in ('078-05-1120'), ssn is null from customers",)),
    Case("CASE, COALESCE, NULLIF, GREATEST", "masked", (
        "select case when ssn > '1' then 'a' else 'b' end, coalesce(ssn, ''), nullif(ssn, ''), greatest(ssn, '') from customers",
    )),
    Case("EXISTS in the result", "NULL", ("select exists(select 1 from customers where ssn like '0%')",)),
    Case("json", "NULL", ("select row_to_json(c), to_jsonb(ssn), jsonb_build_object(ssn, 1) from customers c where ssn is not null",)),
    Case("json taken apart", "masked", ("select e.key, e.value from customers c, jsonb_each_text(to_jsonb(c)) e",)),
    Case("json to a record", "masked", ("select * from json_to_recordset((select json_agg(c) from customers c)) as x(ssn text)",)),
    Case("json path", "NULL", ("select jsonb_path_query(to_jsonb(c), '$.ssn') from customers c",)),
    Case("json_populate_record", "masked", ("select (json_populate_record(null::customers, to_json(c))).ssn from customers c",)),
    Case("XML", "masked, NULL", ("select xmlelement(name x, ssn), xmlforest(ssn)::text from customers",)),
    Case("XMLTABLE", "masked", (
        "select * from xmltable('/r' passing (select xmlelement(name r, ssn) from customers where id = 1) columns a text path '.')",
    )),
    Case("arrays, slices, subscripts", "masked, NULL", (
        "select (array(select ssn from customers))[1], (array_agg(ssn))[1:2], array_to_string(array_agg(ssn), ',') from customers",
    )),
    Case("unnest of rows of a type that is not named", "masked", (
        "select t.c from unnest((select array_agg(c) || array_agg(c) from customers c), array[1], array[2]) as t(a, b, c)",
    )),
    Case("ROWS FROM", "masked", (
        "select t.c from rows from (unnest((select array_agg(c) from customers c)), generate_series(1, 2)) as t(a, b, c)",
    )),
    Case("WITH ORDINALITY", "masked", (
        "select s.* from customers c cross join lateral regexp_split_to_table(c.ssn, '-') with ordinality s",
    )),
    Case("aggregates", "masked, NULL", ("select min(ssn), string_agg(ssn, ','), array_agg(ssn), count(distinct ssn) from customers",)),
    Case("FILTER", "NULL", ("select count(*) filter (where ssn like '0%') from customers",)),
    Case("ordered-set aggregates", "masked", (
        "select mode() within group (order by ssn), percentile_disc(0.5) within group (order by ssn) from customers",
    )),
    Case("window functions", "masked", (
        "select first_value(ssn) over w, lag(ssn) over w, nth_value(ssn, 1) over w from customers window w as (order by id)",
    )),
    Case("GROUPING SETS", "masked", ("select ssn from customers group by rollup(ssn)",)),
    Case("DISTINCT ON", "masked", ("select distinct on (ssn) ssn from customers",)),
    Case("UNION, INTERSECT", "masked", (
        "select name from customers union all (select ssn from customers intersect select ssn from customers)",
    )),
    Case("scalar sub-query", "masked", ("select (select ssn from customers where id = 1)",)),
    Case("VALUES", "masked", ("values ((select ssn from customers where id = 1))",)),
    Case("LATERAL", "masked", ("select v.x from customers c, lateral (values (c.ssn)) v(x)",)),
    Case("WITH, materialized and not", "masked", (
        "with a as materialized (select ssn from customers), b as not materialized (table a) select b.ssn from b",
    )),
    Case("recursion that turns columns round", "masked", (
        "with recursive a(x, y, n) as (select 'a', ssn, 1 from customers union all select y, x, n + 1 from a where n < 3) select x from a",
    )),
    Case("SEARCH", "NULL", (
        "with recursive t(s, n) as (select ssn, 1 from customers union all select s, n + 1 from t where n < 3) search depth "
        "first by n, s set o select o from t",
    )),
    Case("CYCLE", "NULL", (
        "with recursive t(s, n) as (select ssn, 1 from customers union all select s, n + 1 from t where n < 3) cycle s set c "
        "using p select p from t",
    )),
    Case("JOIN USING, merged, with an alias", "masked", (
        "select ssn, u.ssn from customers a full join (select ssn from customers) b using (ssn) as u",
    )),
    Case("NATURAL RIGHT JOIN over a clear column of that name", "masked", (
        "select ssn from (select 'x'::text as ssn) l natural right join customers",
    )),
    Case("alias over a join", "masked", (
        "select j.i from (orders o join customers c on c.id = o.customer_id) as j(a, b, c, d, e, f, g, h, i)",
    )),
    Case("TABLE, ONLY, TABLESAMPLE, FOR UPDATE", "masked", (
        "table customers",
        "select ssn from only customers tablesample system (100)",
        "select ssn from customers for update",
    )),
    Case("generated column", "masked", ("select ssn_digits from customers",)),
    Case("inheritance parent", "masked", ("select ssn from persons",)),
    Case("view, view over a view", "masked", ("select national_id, x, y from customer_v join customer_vv using (id)",)),
    Case("view of a row, of json", "masked", ("select (whole).ssn, j ->> 'ssn' from customer_rows, customer_json",)),
    Case("view with UNION, with LATERAL", "masked", ("select t from customer_union", "select s from customer_lateral",)),
    Case("recursive view", "masked", ("select s from customer_tree",)),
    Case("materialized view", "masked", ("select national_id from customer_m",)),
    Case("cursor", "masked", ("declare c cursor for select ssn from customers", "fetch all from c",)),
    Case("binary cursor WITH HOLD", "masked", (
        "declare c binary scroll cursor with hold for select ssn from customers",
        "move last from c",
        "fetch backward all from c",
    )),
    Case("PREPARE and EXECUTE", "masked", ("prepare p(int) as select ssn from customers where id = $1", "execute p(1)",)),
    Case("INSERT RETURNING", "masked", ("insert into customers (id, name, ssn) values (700, 'x', '078051120') returning ssn, name",)),
    Case("UPDATE RETURNING", "masked", ("update customers set name = 'x' where id = 1 returning customers.*",)),
    Case("DELETE RETURNING", "masked", ("delete from customers where id = 1 returning ssn || ''",)),
    Case("writing WITH", "masked", ("with d as (delete from customers where id = 1 returning *) select d.ssn, d::text from d",)),
    Case("COPY of a table", "masked", ("copy customers to stdout",)),
    Case("COPY of some columns, of a query", "masked", (
        "copy customers (id, ssn) to stdout",
        "copy (select ssn || name from customers) to stdout",
    )),
    Case("COPY of a writing statement", "masked", ("copy (delete from customers where id = 1 returning ssn) to stdout",)),
    Case("COPY with a header", "masked", ("copy (select ssn from customers) to stdout with (header)",)),
    Case("COPY in csv", "masked", ("copy (select ssn from customers where id < 3) to stdout (format csv)",)),
    Case("COPY binary", "masked", ("copy (select ssn from customers where id < 3) to stdout (format binary)",)),
    Case("COPY with other options", "masked", ("copy (select ssn from customers where id < 3) to stdout (format csv, delimiter ';')",)),
    Case("COPY with a NULL that a value may look like", "refused 42501", ("copy customers to stdout (null '078-05-1120')",)),
    Case("COPY of a row", "NULL", ("copy (select c from customers c) to stdout",)),
    Case("EXPLAIN", "masked", (
        "explain (verbose, analyze, costs off, timing off, summary off) select * from customers where ssn = '078-05-1120'",
    )),
    Case("EXPLAIN as json", "NULL", ("explain (format json) select id from customers where ssn = '078-05-1120'",)),
    Case("EXPLAIN EXECUTE", "masked", ("prepare p as select ssn from customers where ssn > '078-05-1120'", "explain execute p",)),
    Case("statistics", "NULL", (
        "select most_common_vals, histogram_bounds from pg_stats where tablename = 'customers' and attname = 'ssn'",
    )),
    Case("pg_statistic", "NULL", ("select stavalues1 from pg_statistic where starelid = 'customers'::regclass",)),
    Case("other sessions' statements", "masked", ("select query from pg_stat_activity where pid = pg_backend_pid()",)),
    Case("error of a cast", "error 22P02", ("select ssn::int from customers",)),
    Case("error of a cast in WHERE", "error 22008", ("select id from customers where ssn::date > now()",)),
    Case("error of an enum, of json, of a domain", "error 22P02", ("select ssn::mood from customers",)),
    Case("error of a domain", "error 23514", ("select (ssn || 'x')::national_id from customers",)),
    Case("error of a regular expression", "error 2201B", ("select id from customers where name ~ ('(' || ssn)",)),
    Case("unique violation", "error 23505", ("insert into customers (id, ssn) values (900, '078-05-1120')",)),
    Case("NOT NULL violation", "error 23502", ("update customers set id = null where ssn = '078-05-1120'",)),
    Case("deferred constraint", "error 23505", (
        "set constraints all deferred",
        "update customers set card = '5500005555555559' where id = 1",
        "set constraints all immediate",
    )),
    Case("user function", "refused 42501", ("select get_ssn(1)",)),
    Case("user function that raises the value", "refused 42501", ("select stop(ssn) from customers",)),
    Case("user function that notes the value", "refused 42501", ("select shout(ssn) from customers",)),
    Case("user aggregate", "refused 42501", ("select glue(ssn) from customers",)),
    Case("user operator", "refused 42501", ("select ssn operator(public.===) 'x' from customers",)),
    Case("function of a user range", "refused 42501", ("select lower(span(ssn, null)) from customers",)),
    Case("SQL from text", "refused 42501", ("select query_to_xml('select ssn from customers', true, false, '')",)),
    Case("table from its name", "refused 42501", ("select table_to_xml('customers', true, false, '')",)),
    Case("schema before pg_catalog", "refused 42501", ("set local search_path = shadow, pg_catalog, public", "select lower('x')",)),
    Case("path and query in one text", "refused 42501", ("set local search_path = archive, public; select ssn || '' from customers",)),
)
"""Attempts to see a masked value or something made of it."""

LAUNDERING = (
    Case("INSERT … SELECT", "refused 42501", ("insert into orders (id, note) select 100 + id, ssn from customers",)),
    Case("INSERT of rows whose columns cannot be counted", "refused 0A000", (
        "insert into orders (id, note) select u.* from unnest(coalesce((select array_agg(c) from customers c), (select "
        "array_agg(o) from orders o))) u",
    )),
    Case("UPDATE … FROM", "refused 42501", ("update orders set note = c.ssn from customers c where c.id = orders.customer_id",)),
    Case("UPDATE of several columns by a star", "refused 42501", (
        "update customers set (ssn, name) = row(s.*, z.*) from (select id::text, ssn from customers) s, (select) z where customers.id = 1",
    )),
    Case("UPDATE of one column in brackets by a row", "refused 42501", (
        "update orders set (note) = (select c from customers c limit 1) where id = 1",
    )),
    Case("UPDATE of several columns by a sub-query", "refused 42501", (
        "update customers set (ssn, name) = (select name, ssn from customers where id = 2) where id = 1",
    )),
    Case("another column of the same row", "refused 42501", ("update customers set name = ssn where id = 1",)),
    Case("a json key", "refused 42501", ("update orders set doc[c.ssn] = '1' from customers c where c.id = orders.id",)),
    Case("a json key of INSERT", "refused 42501", ("insert into orders (id, doc[(select ssn from customers limit 1)]) values (100, '1')",)),
    Case("a place in an array", "refused 42501", ("update orders set tags[length(c.ssn)] = 'x' from customers c where c.id = orders.id",)),
    Case("MERGE", "refused 42501", ("merge into orders o using customers c on o.id = c.id when matched then update set note = c.ssn",)),
    Case("MERGE with a star", "refused 42501", (
        "merge into customers c using (select id::text, ssn from customers) s on false when not matched then insert (ssn, name) "
        "values (s.*)",
    )),
    Case("ON CONFLICT", "refused 42501", (
        "insert into orders (id) values (1) on conflict (id) do update set note = (select ssn from customers limit 1)",
    )),
    Case("EXCLUDED", "refused 42501", (
        "insert into customers (id, ssn) values (1, 'x') on conflict (id) do update set name = customers.ssn",
    )),
    Case("RETURNING of a WITH", "refused 42501", (
        "with d as (delete from customers where id = 1 returning ssn) insert into orders (id, note) select 100, ssn from d",
    )),
    Case("a weaker mask", "refused 42501", ("update customers set card = ssn where id = 1",)),
    Case("half of it reversed into a partial mask", "refused 42501", ("update customers set card = reverse(card) where id = 1",)),
    Case("a number", "refused 42501", ("insert into counts select 50, length(ssn) from customers where id = 1",)),
    Case("a key that tells a partition", "refused 42501", ("insert into counts select length(ssn), 1 from customers where id = 1",)),
    Case("through a view", "refused 42501", ("insert into customer_names (id, name) select 100, ssn from customers where id = 1",)),
    Case("a setting", "refused 42501", ("select set_config('application_name', ssn, false) from customers",)),
    Case("a setting through pg_settings", "refused 42501", (
        "update pg_settings set setting = (select ssn from customers limit 1) where name = 'application_name'",
    )),
    Case("a notification", "refused 42501", ("select pg_notify('a', ssn) from customers",)),
    Case("an advisory lock", "refused 42501", ("select pg_advisory_lock(length(ssn)) from customers",)),
    Case("a large object", "refused 42501", ("select lo_from_bytea(0, ssn::bytea) from customers",)),
    Case("a sequence", "refused 42501", ("select nextval(ssn::regclass) from customers",)),
    Case("the random sequence", "refused 42501", ("select setseed(length(ssn) / 100.0) from customers",)),
    Case("temporary table", "refused 42501", ("create temp table t as select ssn from customers",)),
    Case("SELECT INTO", "refused 42501", ("select ssn into temp t from customers",)),
    Case("a parameter of EXECUTE", "refused 42501", (
        "prepare p(text) as insert into orders (id, note) values (300, $1)",
        "execute p(get_ssn(1))",
    )),
    Case("a file of the server", "refused 42501", ("copy customers to '/tmp/customers'",)),
    Case("a program of the server", "refused 42501", ("copy customers to program 'cat'",)),
)
"""Attempts to move a masked value to where it can be read."""

POLICY = (
    Case("no condition", "held", ("delete from orders",)),
    Case("true", "held", ("update orders set total = 0 where true",)),
    Case("x = x", "held", ("delete from orders where id = id",)),
    Case("x = x by another name", "held", ("delete from orders o where o.id = id",)),
    Case("x in a sub-query", "held", ("delete from orders where id = (select id)",)),
    Case("x IN (SELECT x)", "held", ("delete from orders where id in (select orders.id)",)),
    Case("x = ANY (ARRAY[x])", "held", ("delete from orders where id = any(array[id])",)),
    Case("null or not", "held", ("delete from orders where id is null or orders.id is not null",)),
    Case("a test that is never null", "held", ("delete from orders where (id is null) is not null",)),
    Case("CASE of constants", "held", ("delete from orders where case when true then true else id = 1 end",)),
    Case("EXISTS without rows of its own", "held", ("delete from orders where exists (select orders.id)",)),
    Case("uncorrelated EXISTS", "held", ("delete from orders where exists (select 1 from customers)",)),
    Case("WITH", "held", ("with x as (delete from orders returning id) select count(*) from x",)),
    Case("EXPLAIN ANALYZE", "held", ("explain analyze delete from orders",)),
    Case("PREPARE and EXECUTE", "held", ("prepare p as delete from orders", "execute p",)),
    Case("MERGE", "held", ("merge into orders o using (select 1) s on true when matched then delete",)),
    Case("USING without a join", "held", ("delete from orders using customers c where c.id = 1",)),
    Case("in a later statement", "held", ("select 1; delete from orders",)),
    Case("TRUNCATE", "held", ("truncate orders",)),
    Case("second statement denied", "refused 42501", ("select 1; drop database attacks",)),
    Case("DO", "refused 42501", ("do $$ begin delete from orders; end $$",)),
    Case("SET ROLE", "refused 42501", ("set role postgres",)),
    Case("RESET ROLE", "refused 42501", ("reset role",)),
    Case("SET SESSION AUTHORIZATION", "refused 42501", ("set session authorization default",)),
    Case("set_config of the role", "refused 42501", ("select set_config('role', 'postgres', false)",)),
    Case("pg_settings", "refused 42501", ("update pg_settings set setting = 'postgres' where name = 'role'",)),
    Case("pg_settings under another name", "refused 42501", (
        "update pg_settings p set setting = 'postgres' from (select 'application_name' as name) pg_settings where "
        "pg_settings.name = 'application_name' and p.name = 'role'",
    )),
    Case("set_config of a name from another query", "refused 42501", (
        "select (select s from pg_settings p, set_config(p.name, 'postgres', false) s where p.name = 'role') from pg_settings p "
        "where p.name = 'application_name'",
    )),
    Case("set_config of a name that changes", "refused 42501", (
        "select set_config(case when random() < 0.5 then 'role' else name end, 'postgres', false) from pg_settings where (case "
        "when random() < 0.5 then 'role' else name end) = 'application_name'",
    )),
    Case("pinned settings", "refused 42501", ("set standard_conforming_strings = off",)),
    Case("SET NAMES", "refused 42501", ("set names 'LATIN1'",)),
    Case("files", "refused 42501", ("select pg_read_file('/etc/passwd')",)),
    Case("sequences", "refused 42501", ("select setval('nosuch', 1)",)),
    Case("sleeping", "refused 42501", ("select pg_sleep(100)",)),
    Case("the gateway's own names", "refused 42602", ("prepare lockgate_1 as select 1",)),
    Case("a cursor of the gateway's own name", "refused 42602", ("declare lockgate_refused cursor with hold for select 1 where false",)),
    Case("NOTIFY", "refused 42501", ("notify a, 'b'",)),
    Case("CREATE in another schema", "refused 42501", ("create table pg_temp.customers (id int)",)),
)
"""Attempts to run what is denied, or what needs a vote, without one."""

BENIGN = (
    Case("plain columns", "allowed", ("select id, name from customers order by id",)),
    Case("count", "allowed", ("select count(*) from customers",)),
    Case("count with a filter on a clear column", "allowed", ("select count(*) filter (where name like 'A%') from customers",)),
    Case("join on ids", "allowed", ("select o.id, c.name from orders o join customers c on c.id = o.customer_id order by o.id",)),
    Case("group by", "allowed", (
        "select c.name, sum(o.total), max(o.id) from customers c join orders o on o.customer_id = c.id group by c.name order by 1",
    )),
    Case("having, order by number", "allowed", (
        "select customer_id, count(*) from orders group by 1 having count(*) > 1 order by 2 desc, 1",
    )),
    Case("grouping sets", "allowed", (
        "select customer_id, grouping(customer_id), count(*) from orders group by rollup(customer_id) order by 1",
    )),
    Case("json of orders", "allowed", ("select json_agg(o order by o.id) from orders o",)),
    Case("json path of a clear column", "allowed", (
        "select notes ->> 'tier', jsonb_path_query(notes, '$.tier') from customers order by id",
    )),
    Case("row of orders", "allowed", ("select o, o::text, (o).note from orders o order by id limit 3",)),
    Case("window functions", "allowed", (
        "select id, row_number() over (order by id), lag(total) over (partition by customer_id order by id) from orders order by id",
    )),
    Case("generate_series", "allowed", ("select * from generate_series(1, 3) with ordinality",)),
    Case("unnest", "allowed", (
        "select * from unnest(array[1, 2] || 3) u",
        "select * from unnest(array['a', 'b'], array[1, 2]) as t(a, b)",
    )),
    Case("VALUES", "allowed", ("values (1, 'a'), (2, 'b') order by 1",)),
    Case("LATERAL on orders", "allowed", (
        "select c.id, l.total from customers c left join lateral (select total from orders o where o.customer_id = c.id order "
        "by id limit 1) l on true order by 1",
    )),
    Case("recursion", "allowed", ("with recursive t(n) as (values (1) union all select n + 1 from t where n < 5) select sum(n) from t",)),
    Case("recursion with SEARCH and CYCLE", "allowed", (
        "with recursive t(i) as (select 1 union all select i + 1 from t where i < 3) search breadth first by i set o cycle i "
        "set c using p select i, c from t order by o",
    )),
    Case("string functions on clear columns", "allowed", (
        "select upper(name), length(name), format('%s-%s', id, name), name || '!' from customers order by id",
    )),
    Case("CASE", "allowed", ("select case when total > 5 then 'much' else 'little' end from orders order by id",)),
    Case("arrays", "allowed", ("select array_agg(id order by id), string_agg(note, ',' order by id) from orders",)),
    Case("EXISTS", "allowed", ("select id from customers c where exists (select 1 from orders o where o.customer_id = c.id) order by id",)),
    Case("EXISTS with a star", "allowed", ("select exists (select * from customers where id = 1)",)),
    Case("condition on a masked column", "allowed", ("select id, name from customers where ssn = '078-05-1120'",)),
    Case("order by a masked column", "allowed", ("select id from customers order by ssn",)),
    Case("view without masked columns", "allowed", ("select * from customer_names order by id",)),
    Case("cursor", "allowed", (
        "declare c cursor for select id from customers order by id",
        "fetch 2 from c",
        "fetch all from c",
        "close c",
    )),
    Case("PREPARE", "allowed", ("prepare p(int) as select name from customers where id = $1", "execute p(1)", "deallocate p",)),
    Case("COPY of clear columns", "allowed", (
        "copy customers (id, notes) to stdout",
        "copy (select id, name from customers order by id) to stdout",
    )),
    Case("COPY of orders", "allowed", ("copy (select id, total from orders order by id) to stdout (format csv, header)",)),
    Case("INSERT RETURNING", "allowed", ("insert into orders (id, customer_id, total, note) values (500, 1, 9.5, 'new') returning *",)),
    Case("upsert", "allowed", (
        "insert into orders (id, total) values (1, 5) on conflict (id) do update set total = excluded.total returning id, total",
    )),
    Case("UPDATE of several columns", "allowed", (
        "update orders set (total, note) = (select 1.5, name from customers where id = 1) where id = 1 returning *",
    )),
    Case("UPDATE of several columns by a row", "allowed", (
        "update orders set (total, note) = row(s.*) from (select 2.5, 'x') s where id = 1 returning orders.*",
    )),
    Case("json and array places", "allowed", ("update orders set doc['a'] = '1', tags[1] = 'x' where id = 1 returning doc, tags",)),
    Case("UPDATE … FROM", "allowed", (
        "update orders set note = c.name from customers c where c.id = orders.customer_id and orders.id < 3 returning orders.id, note",
    )),
    Case("MERGE", "allowed", (
        "merge into orders o using (values (1, 'm'), (501, 'n')) v(id, note) on o.id = v.id when matched then update set note = "
        "v.note when not matched then insert (id, note) values (v.*)",
        "select note from orders where id in (1, 501) order by id",
    )),
    Case("masked value into a column with the same mask", "allowed", (
        "update customers set ssn = (select ssn from customers where id = 2) || 'x' where id = 1",
        "select id from customers where id = 1",
    )),
    Case("DELETE", "allowed", ("delete from orders where id = 1 returning id, total",)),
    Case("writing WITH", "allowed", ("with gone as (delete from orders where id < 3 returning id) select count(*) from gone",)),
    Case("EXPLAIN", "allowed", ("explain (costs off) select id from orders where total > 3",)),
    Case("savepoints", "allowed", ("savepoint a", "select 1", "rollback to a", "release a",)),
    Case("SET and SHOW", "allowed", ("set local statement_timeout = '5s'", "show statement_timeout", "reset statement_timeout",)),
    Case("search_path", "allowed", ("set local search_path = public", "select count(*) from orders",)),
    Case("catalog", "allowed", (
        "select relname, relkind from pg_class where relname = 'customers'",
        "select column_name, data_type from information_schema.columns where table_name = 'customers' order by ordinal_position",
    )),
    Case("definitions", "allowed", (
        "select pg_get_viewdef('customer_names'::regclass), format_type(23, null), obj_description('customers'::regclass)",
    )),
    Case("statistics without values", "allowed", (
        "select attname, null_frac, avg_width from pg_stats where tablename = 'customers' order by 1",
    )),
    Case("sizes", "allowed", ("select pg_size_pretty(pg_table_size('orders')) is not null",)),
    Case("settings", "allowed", (
        "select name, setting from pg_settings where name = 'server_version_num'",
        "select set_config('TimeZone', 'UTC', true)",
    )),
    Case("errors of the caller's own", "error 42703", ("select nosuch from customers",)),
    Case("division by zero on clear columns", "error 22012", ("select 1 / (id - id) from orders",)),
)
"""What must work as if there were no gateway."""


_SECTIONS = (
    ("To see a masked value", LEAKS, "test_attack_leaks.py::test_leak"),
    ("To move a masked value to where it can be read", LAUNDERING, "test_attack_laundering.py::test_laundering"),
    ("To run what is denied or needs a vote", POLICY, "test_attack_policy.py::test_policy"),
    ("What works as without a gateway", BENIGN, "test_attack_benign.py::test_benign"),
)

_HEAD = """# Masking matrix

What becomes of each class of statement, with masks on `public.customers` `.ssn`, `.card` and `.email` and the rules of the example's
`ci-bot`. Written from `tests/peers/attack_cases.py` by `python -m tests.peers.attack_cases`; every line is a test in `tests/peers`
that sends the statement through a running gateway to a real server.

- **masked**: text that hides the value; **NULL**: a value of another type than text; **masked, NULL**: both, by type.
- **refused 42501**: not sent to the target. **refused 0A000**, **refused 42602**: not understood, or not allowed by name; not sent either.
- **error CODE**: the target's own error, without what could quote a value.
- **held**: waits for its votes. **allowed**: byte for byte as without the gateway.
"""


def render() -> str:
    """The page."""
    parts = [_HEAD]
    for title, cases, test in _SECTIONS:
        rows = [f"| {case.what.replace('|', chr(92) + '|')} | {case.outcome} | `{test}[{case.what}]` |" for case in cases]
        parts.append("\n".join([f"## {title}", "", "| class | what happens | test |", "|---|---|---|", *rows, ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(render())
