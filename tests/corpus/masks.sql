-- SPDX-License-Identifier: Apache-2.0
-- A table with a column for every kind of mask and of type. Every name and number is made up.
create table public.typed(
  id int primary key, name text, email varchar(80), code char(8), ref uuid, label text, small smallint, age int, salary bigint, amount numeric,
  score float8, ratio real, born date, seen timestamp, at timestamptz, flag boolean, pin int, tags text[], mails varchar[], numbers int[],
  span int4range, profile jsonb, doc json, note text, loose text);
create table public.joined(id int primary key, label text, ref uuid, code char(12), plain text);
create table public.closed(id int primary key, ssn text, ok text);
create table public.looked(id int primary key, ssn text, ok text);
create type public.mood as enum ('good', 'bad', 'other');
create type public.place as (street text, number int);
create table public.shaped(id int primary key, mood mood, moods mood[], span int4range, spans int4multirange, place place, places place[],
  days date[], amounts numeric[], refs uuid[], flags boolean[], seats int[], home place[]);
create view public.closed_v as select id, ssn as number from public.closed;
insert into public.typed values
 (1, 'Alice Archer', 'alice@example.com', 'AB12', '00000000-0000-0000-0000-000000000001', 'same', 1234, 47, 123456, 1234.56, 1234.5, 47.5,
  '2024-05-17', '2024-05-17 13:14:15.678', '2024-05-17 23:14:15+00', true, 1234, '{one,"two, three",NULL}', '{a@example.com,b}', '{1,2}', '[1,5)',
  '{"ssn": "078-05-1120", "tier": "gold", "cards": [{"number": "4111111111111111"}], "age": 47}', '{"ssn":"078-05-1120","tier":"gold"}',
  'paid with 4111 1111 1111 1111, ticket TKT-123456', 'tab	and\backslash "quoted", comma'),
 (2, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null),
 (3, 'Ünal', 'no address', 'ÄÖ', '00000000-0000-0000-0000-000000000002', 'other', -49, -47, -123456, -0.5, 'NaN', 'Infinity', '0044-03-15 BC',
  'infinity', '-infinity', false, 0, '{}', '{}', '{}', 'empty', '[1, 2]', '[]', 'nothing here', '');
insert into public.shaped values
 (1, 'good', '{good,bad}', '[1,5)', '{[1,5),[7,9)}', '("Secret Street 5",5)', '{"(\"Secret Street 5\",5)",NULL}', '{2024-05-17,NULL,infinity}',
  '{1234.56,-5,NaN}', '{00000000-0000-0000-0000-000000000001}', '{t,f,NULL}', '[2:3]={7,8}', '{"(\"Secret Street 5\",5)"}');
insert into public.shaped values (2);
insert into public.joined values (1, 'same', '00000000-0000-0000-0000-000000000001', 'AB12', 'clear');
insert into public.closed values (1, '078-05-1120', 'a'), (2, '219-09-9999', 'b');
insert into public.looked values (1, '078-05-1120', 'a'), (2, '219-09-9999', 'b');
create table public.many as select g as id, 'secret ' || g as ssn, repeat('x', g % 50) as pad from generate_series(1, 20000) g;
analyze;
