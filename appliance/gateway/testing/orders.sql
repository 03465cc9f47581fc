-- SPDX-License-Identifier: Apache-2.0
-- The tables of the demo and of policy/schemas/orders-db.json. Every name and number is made up.
create table public.customers(id int primary key, name text not null, email text, ssn text, card text, notes jsonb);
create table public.orders(id int primary key, customer_id int, total numeric);
create view public.customer_v as select id, ssn as national_id from public.customers;
create function public.get_ssn(int) returns text language sql stable as 'select ssn from public.customers where id=$1';
insert into customers values
 (1,'Alice Archer','alice.secret@example.com','078-05-1120','4111111111111111','{"ssn":"078-05-1120","tier":"gold"}'),
 (2,'Bob Burns','bob.hidden@corp.test','219-09-9999','5500005555555559','{"tier":"silver"}'),
 (3,'Carol Cole',null,null,null,'{"tier":"none"}');
insert into orders select g, 1+g%3, g*1.5 from generate_series(1,20) g;
analyze;
