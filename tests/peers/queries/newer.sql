-- SPDX-License-Identifier: Apache-2.0
merge into u using t on t.id = u.id when matched then update set a = 'x' returning *
merge into u using t on t.id = u.id when matched then update set a = 'x' returning u.*, t.a, merge_action()
merge into u z using (select id, a from t) q on q.id = z.id when matched then delete when not matched then insert (id) values (q.id) returning *
merge into u z using (select id, a from t) q on q.id = z.id when matched then delete returning with (old as o, new as n) o.a, n.*, *
insert into u values (1,'a') returning old.a, new.*, *
update u set a = 'x' returning old.*, new.*
update u set a = 'x' returning old, new, u
delete from u returning with (old as o) o.*
select * from t, json_table(t.j, '$' columns (a int path '$.a', nested path '$.b[*]' columns (c text path '$.c', nested path '$.d' columns (e int path '$'), f text path '$.f'), g for ordinality, h text path '$.h')) q
select * from json_table('{}'::jsonb, '$' passing 1 as x columns (a int exists path '$.a', b jsonb format json path '$.b', c text path '$.c' default 'x' on empty)) as z(q)
select json_object('a': a, 'b': b), json_array(a, b), json_arrayagg(a), json_objectagg(a: b), json_array(select a from t) from t group by a, b
select json_value(j, '$.a'), json_query(j, '$.a'), json_exists(j, '$.a'), json_value(j, '$.a' returning int), json_scalar(1), json('{}'), json_serialize('{}'), '{}' is json from t
select any_value(a), system_user, random_normal() from t
select 0x1F, 1_000, 0b11, a at local from (select ts a from t) q
with recursive n as (select id, a from t union select n.id, u.a from n join u on u.id=n.id) search breadth first by id set o cycle id set cy to 'y' default 'n' using pa select * from n
select a, sum(id) from t group by distinct rollup(a), rollup(a)
select * from (values (1)) 
select * from (select 1 as z)
select * from t left join u on true, lateral (select u.a as m) x
