-- SPDX-License-Identifier: Apache-2.0
-- What an application normally has around a table with masked columns. Masks name public.customers.ssn, .card and .email.
create table persons(id int, name text, ssn text);
create table customers(email text, card text, notes jsonb, primary key (id)) inherits (persons);
create table customers_vip(perk text) inherits (customers);
create table orders(id int primary key, customer_id int, total numeric, note text, doc jsonb default '{}', tags text[] default '{}');
create table accounts(id int primary key, holder text, code text unique deferrable initially deferred);
create table logins(id int primary key, customer_ssn text generated always as (id::text) stored);
create unique index on customers(ssn);
alter table customers add constraint customers_card unique (card) deferrable initially immediate;
alter table customers add column ssn_digits text generated always as (replace(ssn, '-', '')) stored;
create table counts(id int primary key, n bigint) partition by range (id);
create table counts_low partition of counts for values from (0) to (100);

create view customer_names as select id, name from customers;
create view customer_v as select id, ssn as national_id from customers;
create view customer_vv as select id, national_id as x, upper(national_id) as y from customer_v;
create view customer_rows as select c as whole from customers c;
create view customer_json as select id, to_jsonb(c) as j from customers c;
create view customer_union as select id, name as t from customers union all select id, ssn from customers;
create view customer_lateral as select o.id, l.s from orders o, lateral (select c.ssn as s from customers c where c.id = o.customer_id) l;
create materialized view customer_m as select id, ssn as national_id from customers;
create recursive view customer_tree(id, s) as select id, ssn from customers where id = 1 union all select t.id + 1, t.s from customer_tree t where t.id < 3;

create type pair as (a text, b text);
create type mood as enum ('sad', 'ok');
create domain national_id as text check (value ~ '^[0-9-]+$');
create domain holder as pair;
create type span as range (subtype = text);
create function get_ssn(int) returns text language sql stable as 'select ssn from public.customers where id = $1';
create function shout(text) returns text language plpgsql immutable as 'begin raise notice ''%'', $1; return $1; end';
create function stop(text) returns text language plpgsql immutable as 'begin raise exception ''%'', $1; end';
create aggregate glue(text) (sfunc = textcat, stype = text);
create function same_text(text, text) returns boolean language sql immutable as 'select $1 = $2';
create operator public.=== (leftarg = text, rightarg = text, function = same_text);
create schema archive;
create table archive.customers(id int, name text, ssn text);
create schema shadow;
create function shadow.lower(text) returns text language sql stable as 'select ssn from public.customers limit 1';

insert into customers values
  (1, 'Alice Archer', '078-05-1120', 'alice.secret@example.com', '4111111111111111', '{"tier": "gold"}'),
  (2, 'Bob Burns', '219-09-9999', 'bob.hidden@corp.test', '5500005555555559', '{"tier": "silver"}'),
  (3, 'Carol Cole', null, null, null, '{"tier": "none"}');
insert into orders(id, customer_id, total, note) select g, 1 + g % 3, g * 1.5, 'order ' || g from generate_series(1, 20) g;
insert into accounts values (1, 'a', 'x-1'), (2, 'b', 'x-2');
insert into counts select g, g from generate_series(1, 9) g;
insert into archive.customers values (1, 'old', 'archived');
refresh materialized view customer_m;
analyze;
