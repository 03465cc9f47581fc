-- SPDX-License-Identifier: Apache-2.0
-- A database with one of nearly everything that PostgreSQL has, for clients that read the catalog.
create schema app;
comment on schema app is 'the shop';
create type app.mood as enum ('sad', 'ok', 'happy');
create type app.place as (street text, number int);
create type app.span as range (subtype = float8);
create domain app.price as numeric(10, 2) check (value >= 0);
comment on type app.mood is 'how people feel';
create collation app.plain (provider = libc, locale = 'C');
create sequence app.tickets start 100 increment 5;
create table app.people (
    id int generated always as identity primary key,
    name text not null,
    email text,
    ssn text,
    mood app.mood not null default 'ok',
    home app.place,
    tags text[] not null default '{}',
    born date,
    active bool not null default true,
    notes jsonb,
    shout text generated always as (upper(name)) stored,
    constraint people_name_length check (length(name) < 100),
    constraint people_email_key unique (email)
);
comment on table app.people is 'everybody';
comment on column app.people.mood is 'as they said';
create index people_mood on app.people (mood) where active;
create index people_lower on app.people (lower(name));
create table app.items (
    id serial primary key,
    title text not null collate "C",
    price app.price,
    heat app.span,
    stock bigint default 7
);
create table app.sales (
    person int not null references app.people on delete cascade deferrable initially deferred,
    item int not null references app.items (id) on update restrict,
    at timestamptz not null default now(),
    amount numeric,
    primary key (person, item, at)
) partition by range (at);
create table app.sales_old partition of app.sales for values from (minvalue) to ('2026-01-01');
create table app.sales_new partition of app.sales default;
create statistics app.sales_stats (dependencies) on person, item from app.sales;
create unlogged table app.scratch (k text primary key, v bytea);
create table app.premium (discount numeric) inherits (app.items);
create view app.happy as select id, name from app.people where mood = 'happy' with check option;
create materialized view app.totals as select person, sum(amount) total from app.sales group by person;
create rule no_delete as on delete to app.scratch do instead nothing;
create function app.twice(n int) returns int language sql immutable as 'select n * 2';
create function app.stamp() returns trigger language plpgsql as 'begin new.stock := new.stock; return new; end';
create procedure app.nothing() language sql as 'select 1';
create aggregate app.total(int) (sfunc = int4pl, stype = int, initcond = 0);
create operator app.=== (leftarg = int, rightarg = int, function = int4eq);
create cast (app.mood as int) with function pg_catalog.hashenum(anyenum);
create trigger stamped before insert on app.items for each row execute function app.stamp();
create table app.guarded (id int, owner text);
alter table app.guarded enable row level security;
create policy own on app.guarded using (owner = current_user);
create publication everything for table app.people;
create text search dictionary app.simple_dict (template = pg_catalog.simple);
create text search configuration app.words (copy = pg_catalog.english);
create extension if not exists plpgsql;
create foreign data wrapper nowhere;
create server far foreign data wrapper nowhere options (host 'example.com');
create foreign table app.afar (id int) server far;
create operator class app.int_ops for type int using btree as operator 1 <, operator 2 <=, operator 3 =, operator 4 >=, operator 5 >, function 1 btint4cmp(int, int);
create conversion app.conv for 'LATIN1' to 'UTF8' from iso8859_1_to_utf8;
insert into app.people (name, email, ssn, mood, home, tags, born, notes) values
    ('Ann', 'ann@example.com', '078-05-1120', 'happy', '("High Street",1)', '{a,b}', '1990-01-02', '{"x": 1}'),
    ('Ben', 'ben@example.com', '219-09-9999', 'sad', null, '{}', null, null);
insert into app.items (title, price, heat) values ('lamp', 10.50, '[1.5,2.5)'), ('rug', 99, null);
insert into app.sales values (1, 1, '2025-06-01', 3.5), (2, 2, '2026-06-01', 4);
refresh materialized view app.totals;
create table public.plain (id serial primary key, label text, amount numeric, flag bool default false, at timestamptz);
analyze;
