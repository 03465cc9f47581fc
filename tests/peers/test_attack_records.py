# SPDX-License-Identifier: Apache-2.0
"""What the log keeps of statements that carry values of masked columns: never the value, always the statement."""

from __future__ import annotations

import re
import time
from typing import Any

from gateway.protocols.postgres.messages import Bind, Execute, Parse
from tests.peers.attack import Attacked, through

COMPARED = """
select 1 from customers where ssn = 'X'
select 1 from customers where ssn in ('X', 'b')
select 1 from customers where ssn = any('{X}')
select 1 from customers where ssn = any(array['X'])
select 1 from customers where (id, ssn) in ((1, 'X'))
select 1 from customers where ssn between 'X' and 'Z'
select 1 from customers where ssn = 'X' || 'b'
select 1 from customers where upper(ssn) = lower('X')
select 1 from customers where ssn = (select 'X')
select 1 from customers where ssn in (values ('X'))
with w as (select 'X' as s) select 1 from customers, w where ssn = s
select 1 from customers join (values ('X')) v(ssn) using (ssn)
select 1 from customers natural join (select 'X'::text as ssn) v
select 1 from customers where position('X' in ssn) > 0
select 1 from customers where case ssn when 'X' then true end
select 1 from customers where nullif(ssn, 'X') is null
select 1 from customers where ssn ~ 'X' or ssn similar to 'X' or ssn is distinct from 'X'
select count(*) filter (where ssn = 'X') from customers
select count(*) from customers group by ssn having ssn = 'X'
select replace(ssn, 'X', 'b') from customers order by ssn = 'X'
select 1 from customers c where to_jsonb(c) @> '{"ssn": "X"}' or c::text like '%X%'
select 1 from customer_v where national_id = 'X'
select 1 from persons where ssn = 'X' or ssn = $$X$$ or ssn = E'X' or ssn = U&'X' or ssn = text 'X'
select 1 from customers where ssn_digits = 'X'
insert into customers (id, ssn) values (902, 'b'), (903, 'X')
insert into customers (id, ssn) select 905, s from (values ('X')) v(s)
insert into customers select * from json_populate_record(null::customers, '{"id": 906, "ssn": "X"}')
insert into persons values (908, 'n', 'X')
insert into customers_vip (id, ssn) values (909, 'X')
insert into customer_v values (910, 'X')
update customers set (ssn, name) = ('X', 'n') where id = 903
update customers set ssn = v.s from (values ('X')) v(s) where id = 903
merge into customers c using (select 'X' as s) v on c.ssn = v.s when not matched then insert (id, ssn) values (911, v.s)
delete from customers where ssn = 'X' and id = 903
prepare p1 as select 1 from customers where ssn = 'X'
prepare p2(text) as select 1 from customers where ssn = $1;;execute p2('X')
explain select 1 from customers where ssn = 'X'
copy (select 1 from customers where ssn = 'X') to stdout
select 1 from customers where ssn = 'X' and nosuch = 1
select 1 from customers where ssn = 'X
select 1 from customers, unnest(array['X']) u where ssn = u
select 1 from customers where exists (select 1 from (values ('X')) v(s) where s = ssn)
with recursive r(s) as (select 'X' union all select ssn from customers) select 1 from r, customers where s = ssn limit 1
alter role x password 'X'
create user mapping for x server y options (password 'X')
select dblink('password=X', 'select 1')
""".strip().splitlines()

BOUND = ("select 1 from customers where ssn = $1", "update customers set ssn = $1 where id = 999",
         "select 1 from customers c join (values ($1::text)) v(s) on s = ssn", "select name from customers where ssn like $1 || '%'")

MARK = re.compile(r"ZQ[0-9]{3}QZ")


def records(attacks: Attacked) -> list[dict[str, Any]]:
    time.sleep(0.2)
    return attacks.appliance.lines("audit", "export")


def test_values_that_masked_columns_are_compared_with_are_not_kept(attacks: Attacked) -> None:
    with through(attacks.appliance) as wire:
        for number, text in enumerate(COMPARED):
            wire.query("begin")
            for part in text.replace("X", f"ZQ{number:03d}QZ").split(";;"):
                wire.query(part)
            wire.query("rollback")
            assert not wire.closed, text
        for number, text in enumerate(BOUND):
            wire.run(Parse("", text, (25,)), Bind("", "", parameters=(f"ZQ{900 + number}QZ".encode(),)), Execute(""))
    kept = {mark for record in records(attacks) for mark in MARK.findall(str(record))}
    assert {int(mark[2:5]) for mark in kept} == set()
    assert not [path for path in attacks.appliance.root.rglob("*.log") if MARK.search(path.read_text(errors="replace"))]


def test_other_values_are_kept(attacks: Attacked) -> None:
    with through(attacks.appliance) as wire:
        wire.query("select 'kept-literal' from customers where name = 'kept-name'")
    found = [record for record in records(attacks) if "kept-literal" in str(record.get("text"))]
    assert found and "kept-name" in str(found[0]["text"])


def test_every_statement_that_answered_has_a_record_that_began_before(attacks: Attacked) -> None:
    marks = [f"select {number} as m{number}_of_attacks" for number in range(5)]
    with through(attacks.appliance) as wire:
        wire.query(marks[0])
        wire.run(Parse("", marks[1]), Bind("", ""), Execute(""))
        wire.run(Parse("n", marks[2]), Bind("p", "n"), Execute("p", 1))
        wire.query(f"prepare q as {marks[3]}")
        wire.query("execute q")
        wire.query(f"explain {marks[4]}")
    found = records(attacks)
    began = {record["seq"]: record for record in found if record["kind"] == "command.begin"}
    ended = {record["begin"] for record in found if record["kind"] == "command.end"}
    for mark in marks:
        own = [seq for seq, record in began.items() if mark in record["text"]]
        assert own and set(own) <= ended
    assert any(record["text"] == "execute q" for record in began.values())
