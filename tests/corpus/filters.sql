-- SPDX-License-Identifier: Apache-2.0
-- Tables under row filters. What a filter hides has HIDDEN in its texts. Every name and number is made up.
create type kind as enum ('memo', 'note', 'draft');
create domain short as varchar(20);
create table customers(id int primary key, name text, region text);
create table orders(id int primary key, customer_id int references customers, total numeric(12,2), note text, code short, place point);
create index on orders (customer_id);
create table lines(order_id int, sku text, amount int);
create table events(id int, tenant text, body text) partition by range (id);
create table events_a partition of events for values from (0) to (100);
create table events_b partition of events for values from (100) to (200);
create table animals(id int, name text);
create table cats(indoor boolean) inherits (animals);
create table docs(id int primary key, owner text, kind kind, open boolean, day date, at timestamptz, tags text[]);
create schema alt;
create table alt.orders(id int, customer_id int, note text);
create view orders_v as select id, note from orders;
create view orders_vv as select * from orders_v;
create view customers_v as select id, name from customers;
create materialized view orders_m as select id, note from orders;
create function order_note(int) returns text language sql stable as 'select note from public.orders where id = $1';
create function leak(text) returns boolean language plpgsql cost 0.0000001 as 'begin raise notice ''%'', $1; return true; end';
insert into customers select n, 'customer ' || n, case when n % 2 = 0 then 'north' else 'south' end from generate_series(1, 20) n;
insert into orders select n, n % 10 + 1, n * 1.5, case when n % 10 + 1 = 7 then 'mine ' || n else 'HIDDEN ' || n end, 'c' || n % 5,
  point(n, case when n % 10 + 1 = 7 then 1 else 1e200 end) from generate_series(1, 100) n;
insert into lines select n % 100 + 1, 'sku ' || n % 7, n % 11 from generate_series(1, 300) n;
insert into events select n, case when n % 3 = 0 then 'a' else 'b' end, case when n % 3 = 0 then 'seen ' else 'HIDDEN ' end || n
  from generate_series(0, 199) n;
insert into animals values (1, 'cow'), (2, 'hen');
insert into cats values (3, 'tom', true), (4, 'HIDDEN cat', false), (5, 'HIDDEN stray', null);
insert into docs select n, case when n % 2 = 0 then 'ann' else 'HIDDEN bob' end, (array['memo', 'note', 'draft'])[n % 3 + 1]::kind, n % 4 = 0,
  date '2025-12-20' + n, timestamptz '2026-01-01 00:00:00+00' + n * interval '1 day', array['t' || n] from generate_series(1, 40) n;
insert into alt.orders select n, n, 'other ' || n from generate_series(1, 10) n;
analyze;
