-- SPDX-License-Identifier: Apache-2.0
create schema app; create type app.mood as enum('a','b'); create type app.pair as (x int, y text); create domain app.posint as int check (value>0);
create table app.t(id serial primary key, a text, b varchar(10), c numeric, m app.mood, p app.pair, arr text[], j jsonb, ts timestamptz default now(), d app.posint);
create table app.u(id int, a text, x int, y text);
create table app.par(id int, secret text); create table app.chi(extra text) inherits (app.par);
create table app.g(id int, base text, der text generated always as (upper(base)) stored);
create view app.v as select t.id, a as aa, upper(b) as ub from app.t; create view app.vv as select aa||'x' as z, id from app.v; create view app.cteview as with q as (select a, id from app.t) select q.*, row_number() over (order by id) rn from q;
create materialized view app.mv as select a, id from app.t;
create function app.f(int) returns text language sql stable as 'select a from app.t where id=$1';
create function app.srf(int) returns setof app.t language sql stable as 'select * from app.t';
create function app.outs(in a int, out x int, out y text) language sql as 'select 1,''y''::text';
create function app.tab(int) returns table(p int, q text) language sql as 'select 1, ''q''::text';
create function app.one(out k text) language sql as 'select ''k''::text';
create function public.shadow(text) returns text language sql as 'select $1';
create sequence app.s;
set search_path=app,public;
