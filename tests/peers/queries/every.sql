-- SPDX-License-Identifier: Apache-2.0
select * from t
select t.*, u.* from t, u
select t from t
select (t).a from t
select (t).* from t
select a.a from t a
select * from t join u using (id)
select * from t natural join u
select * from t left join u using (id, a)
select * from t right join u using (id)
select * from t full join u using (id)
select id from t full join u using (id)
select id, z.id from t join u using (id) as z
select j.* from (t join u using (id)) j
select j.id, j.b from (t join u using (id)) as j(id, q, b)
select * from t cross join lateral (select t.a as q) l
select * from t, lateral (select x from u where u.id = t.id) l
select * from (values (1,'a'),(2,'b')) v(n, s)
select * from (values (1,'a'),(2,'b')) v
values (1,'x'),(2,'y')
select count(*), count(a), sum(c), avg(c), max(a), min(id), array_agg(a), string_agg(a, ','), bool_and(true) from t
select a, count(*) from t group by a having count(*) > 1 order by 2
select row_number() over (partition by a order by id), lag(a) over w from t window w as (order by id)
select case when id=1 then a else b end, case id when 1 then 2 end from t
select coalesce(a, b), nullif(a,b), greatest(a,b), least(id,1) from t
select a::varchar(3), b::text, cast(id as bigint), id::text, '1'::int, date '2020-01-01', interval '1 day' from t
select p, (p).x, (p).y, (p).* from t
select arr[1], arr[1:2], arr from t
select j->'a', j->>'a', j#>'{a}', j @> '{}' from t
select extract(year from ts), ts at time zone 'utc', date_trunc('day', ts), ts + interval '1 day', now() - ts from t
select substring(a from 1 for 2), position('a' in a), trim(both ' ' from a), overlay(a placing 'x' from 1), a like 'x', a similar to 'y', a ~ 'z' from t
select exists(select 1 from u), (select a from u limit 1), array(select a from u), id in (select id from u), id = any(array[1,2]), id = all(select id from u) from t
with q as (select a, id from t) select * from q
with q(z) as (select a from t), r as (select z||'x' w from q) select * from r, q
with recursive n(i, s) as (select 1, a from t union all select i+1, s||'x' from n where i < 3) select * from n
with recursive n as (select id, a from t union select n.id, u.a from n join u on u.id=n.id) search depth first by id set o cycle id set cy using pa select * from n
with x as (insert into u(id) values (1) returning *) select * from x
select a from t union select y from u
select a from t union all select null
select id, a from t intersect select id, a from u except select 1, 'x'
(select a from t order by id limit 1) union all (select a from u)
select * from generate_series(1,3)
select * from generate_series(1,3) g
select * from generate_series(1,3) with ordinality as g(n, o)
select * from unnest(array['a','b']) with ordinality
select * from unnest(array[1,2], array['a','b']) as x(n,s)
select * from jsonb_each('{"a":1}'), jsonb_array_elements('[1]'), jsonb_object_keys('{}')
select e, value from jsonb_array_elements('[1]') e
select * from json_to_record('{"a":1}') as r(a int, b text)
select * from rows from (generate_series(1,2), generate_series(1,3)) as q(a,b)
select * from f(1)
select * from f(1) q
select * from srf(1)
select srf.a from srf(1)
select (srf(1)).*
select (srf(1)).a
select * from outs(1)
select (outs(1)).*
select outs(1)
select (outs(1)).y
select * from tab(1)
select * from tab(1) z(a)
select * from one()
select * from one() as r
select one()
select f(1), upper('x'), current_date, current_user, current_timestamp(2), localtime, session_user, current_schema, current_catalog
select * from v
select * from vv
select * from cteview
select * from mv
select * from par
select * from chi
select * from only par
select * from g
select tableoid, ctid, xmin, t.ctid from t
select tableoid::regclass from par
select * from s
select row(1,2), row(t.*), (1,2), array[1,2], array[[1],[2]], '{}'::int[] from t
select a collate "C" from t
select xmlelement(name foo, a), xmlforest(a as b, id), xmlconcat(xmlpi(name php)), xmlparse(content a), xmlserialize(content '<a/>' as text) from t
select q.* from t, xmltable('/a' passing (j::text::xml) columns n int path 'n', o for ordinality, q text default 'z') q
select grouping(a), a from t group by rollup(a)
select a, id from t group by grouping sets ((a),(id),())
select distinct on (a) a, id from t order by a, id
select distinct a from t
select 1 as "Weird Name", a "A" from t
select true, false, null, 1.5, 1e3, 12345678901, b'01', x'1f', 'x', E'\n', U&'\0061', $$q$$
select -id, +id, not true, id + 1, id::numeric / 2, a || b, id between 1 and 2, a is null, a is distinct from b, true is true from t
select t.a from app.t
select app.t.a from app.t
select app.t.* from app.t
select a.t from (select t from t) a
select (a.t).a from (select t from t) a
select t1.a, t2.a from t t1, t t2
select x.y from (select 1 as y) x
select q from (select 1 as y) q
select (q).y from (select 1 as y) q
select upper(t) from (select a as t from t) z
select a(t) from t
select id(u) from u
select t.row_to_json from t
select (array_agg(t))[1] from t
select (array_agg(t))[1].a from t
select array_agg(p) from t
select m, m::text, enum_range(m), d, d+1 from t
select max(m) from t
select pg_typeof(a), format('%s', a), md5(a), encode(a::bytea,'hex'), length(a), left(a,1), concat(a,b), concat_ws(',',a,b) from t
select percentile_cont(0.5) within group (order by id), mode() within group (order by a) from t
select count(*) filter (where a = 'x'), sum(id) over (rows between 1 preceding and current row) from t group by id
select * from pg_class limit 1
select * from pg_catalog.pg_type
select * from information_schema.columns
select * from pg_settings
select * from pg_stat_activity
select nextval('s'), currval('s'), setval('s', 1)
select relname::text, oid::regclass, relkind from pg_class
insert into u values (1,'a') returning *, id+1
insert into u as z (id, a) select id, a from t on conflict do nothing returning z.id
update u set a = t.a from t where t.id = u.id returning u.*, t.b
update u set (a, x) = (select a, id from t limit 1) returning a
update u z set a = 'x' where z.id = 1 returning *
delete from u using t where u.id = t.id returning u.a, t.*
select * from t tablesample system (10)
select * from (t join u on t.id = u.id)
select t.a from (t join u on t.id = u.id)
select * from t join (u join par on u.id = par.id) on t.id = u.id
select * from (select 1) s
select "?column?" from (select 1) s
select max from (select max(a) from t) q
select q.coalesce from (select coalesce(a) from t) q
select "case" from (select case when true then id else 1 end from t) q
select bool_or(a = 'x') from t
select string_agg(distinct a, ',' order by a) from t
select ts::date, ts::time, extract(epoch from ts)::int from t
select shadow('x'), shadow(a) from t
select text(a), int4(id), "varchar"(a) from t
select current_setting('work_mem'), current_setting('a.b', true)
table t
select * from t for update
select all a from t
select $1::int + 1, $2::text
select id from t where id = $1 and a = $2
select count(*) from (select distinct a from t) z
select * from t where (id, a) = (select 1, 'x')
select * from t where (id, a) in (select id, a from u)
select * from t order by a using <
select a as id from t order by id
select id as a, a as b from t group by 1, 2
select a, sum(id) from t group by a order by sum(id) desc nulls last limit 5 offset 1
select jsonb_path_query(j, '$.a') from t
select * from t, jsonb_to_recordset(t.j) as r(q int)
select i, (select count(*) from generate_series(1, i)) from generate_series(1,3) i
select * from json_populate_record(null::app.pair, '{"x":1}')
select (json_populate_record(null::app.t, '{}')).*
select tsv from (select to_tsvector(a) tsv from t) q where tsv @@ to_tsquery('x')
select * from pg_options_to_table(array['a=b'])
select * from aclexplode(array[]::aclitem[])
select regexp_matches(a, 'x'), regexp_split_to_array(a, 'x'), regexp_replace(a,'x','y') from t
select * from regexp_split_to_table('a b', ' ') w
select lower(r), upper(r), isempty(r) from (select int4range(1,2) r) q
select * from t as zz(i, aa) where zz.aa = 'x'
select s.* from (select t.a, u.y from t left join u on true) s
select a.id from t a where exists (select * from u b where b.id = a.id)
select p.x from (select (p).* from t) p
select u.id, u.count from (select id, count(*) from t group by id) u
update u set a = 'x' from t where t.id = u.id returning *
delete from u using t where t.id = u.id returning *
