# SPDX-License-Identifier: Apache-2.0
"""What only the newest PostgreSQL can say: SQL/JSON, JSON_TABLE, OLD and NEW, MERGE … RETURNING, virtual generated columns."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.testing.postgres import PostgresServer
from tests.peers.attack import DATABASE, Attacked, attacked, leaked, outcome

SHOWN = {
    "JSON_TABLE": "select t.* from customers c, json_table(to_jsonb(c), '$' columns (o for ordinality, s text path '$.ssn')) t order by 1",
    "JSON_TABLE, nested": "select t.s from customers c, json_table(to_jsonb(c), '$' columns (nested '$' columns (s text path '$.ssn'))) t",
    "JSON constructors": "select json_array(ssn)::text, json_object('a': ssn)::text, json_scalar(ssn)::text from customers",
    "JSON aggregates": "select json_arrayagg(ssn)::text, json_objectagg(id: ssn)::text from customers",
    "JSON_VALUE": "select json_value(to_jsonb(c), '$.ssn'), json_query(to_jsonb(c), '$.ssn')::text from customers c",
    "OLD and NEW": "update customers set name = 'x' where id = 1 returning old.ssn, new.ssn, old.*",
    "OLD and NEW under other names": "update customers set name = 'x' where id = 1"
        " returning with (old as o, new as n) o.ssn || '', (n).ssn",
    "OLD of DELETE": "delete from customers where id = 1 returning old, old.ssn, upper(old.ssn)",
    "MERGE RETURNING": "merge into customers c using (values (1)) v(i) on c.id = v.i when matched then update set name = 'x'"
        " returning merge_action(), c.*, old.ssn",
    "a virtual column": "select v from virtual_v order by id",
    "a virtual column in an expression": "select upper(v), (t).v from virtual_v t order by id",
}
REFUSED = {
    "OLD into another table": "with u as (update customers set name = name where id = 1 returning old.ssn as s)"
        " update orders set note = s from u",
    "MERGE into another table": "with m as (merge into customers c using (values (1)) v(i) on c.id = v.i when matched then do nothing"
        " when not matched by source then delete returning c.ssn as s) insert into orders (id, note) select 900, s from m",
    "JSON into another table": "update orders set doc = (select json_object('a': ssn returning jsonb) from customers limit 1)",
}
BENIGN = {
    "JSON_TABLE of orders": "select * from json_table('[{\"a\": 1}, {\"a\": 2}]', '$[*]' columns (o for ordinality, a int path '$.a'))",
    "JSON of orders": "select json_object('id': id, 'note': note) from orders order by id limit 3",
    "OLD and NEW of orders": "update orders set total = 5 where id = 1 returning old.total, new.total",
}


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory, newest_postgres: PostgresServer) -> Iterator[Attacked]:
    with attacked(tmp_path_factory.mktemp("newest"), newest_postgres, max_age="0s") as appliance:
        newest_postgres.execute("alter table customers add v text generated always as (ssn || '!') virtual;"
                                "create view virtual_v as select id, v from customers", DATABASE)
        found = Attacked(appliance, newest_postgres)
        yield found
        found.close()


@pytest.mark.parametrize("name", SHOWN)
def test_nothing_masked_is_shown(name: str, newest: Attacked) -> None:
    found = newest.send([SHOWN[name]])
    assert leaked(found) == set()
    assert outcome(found, newest.directly([SHOWN[name]])) in ("masked", "NULL", "masked, NULL")


@pytest.mark.parametrize("name", REFUSED)
def test_nothing_masked_is_moved(name: str, newest: Attacked) -> None:
    assert outcome(newest.send([REFUSED[name]]), []) == "refused 42501"


@pytest.mark.parametrize("name", BENIGN)
def test_what_is_clear_comes_as_it_is(name: str, newest: Attacked) -> None:
    assert outcome(newest.send([BENIGN[name]]), newest.directly([BENIGN[name]])) == "allowed"
