# SPDX-License-Identifier: Apache-2.0
"""Strict masks: a column may be returned as it is, and not be used (T32)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.errors import Refused
from gateway.masking.model import MaskSet, Strictness, add_up
from gateway.masking.rules import REDACT
from gateway.protocols.postgres.context import understood
from gateway.protocols.postgres.masking import plan
from gateway.protocols.postgres.sql.analyze import analyze
from gateway.protocols.postgres.sql.parse import DEFAULT_LIMIT, answer_of
from gateway.protocols.postgres.statement import Context
from gateway.protocols.postgres.strict import Uses
from tests.unit.protocols.postgres.sql.shop import CATALOG, CONTEXT


def strict(level: Strictness) -> MaskSet:
    return MaskSet({"public.customers.ssn": REDACT}, strict={"public.customers.ssn": level})


def refused(text: str, level: Strictness = "all", context: Context = CONTEXT) -> str:
    """Why a text is refused, ``""`` where it is not."""
    masks = strict(level)
    statements = analyze(text, context, CATALOG)
    uses = Uses(text, context, CATALOG, statements)
    try:
        for statement in statements:
            plan(statement, masks, CATALOG, uses)
    except Refused as no:
        assert no.code == "42501"
        return str(no)
    return ""


RETURNED = [
    "select ssn from customers where id = 1",
    "select * from customers",
    "select c.*, c.ssn as x, c from customers c where c.name like 'A%' order by name, id",
    "table customers",
    "select national_id from customer_v where id = 3",
    "select id from customers",
    "select count(*) from customers where id > 3",
    "select ssn from customers where id = 1 union all select ssn from customers where id = 2",
    "select name, ssn from customers order by 1",
    "select name as n, ssn from customers order by n limit 3",
    "select distinct name from customers",
    "insert into customers(id, ssn) values ($1, $2) returning ssn, id",
    "update customers set ssn = $1 where id = 1 returning *",
    "delete from customers where id = 1 returning ssn",
    "copy customers to stdout",
    "copy (select ssn from customers) to stdout (format csv)",
    "explain select ssn from customers where id = 1",
    "prepare p as select ssn from customers where id = $1",
    "begin; declare c cursor for select ssn from customers; fetch c; commit",
    "select 1; select ssn from customers",
    "select ssn from customers where exists (select 1 from orders where customer_id = customers.id)",
    "select ssn from people where ssn = 'x'",
]


@pytest.mark.parametrize("text", RETURNED)
def test_returned_as_it_is(text: str) -> None:
    assert refused(text) == ""
    assert refused(text, "lookups") == ""


USED = [
    "select 1 from customers where ssn like '07%'",
    "select id from customers where ssn = '078-05-1120'",
    "select ssn from customers order by ssn",
    "select ssn from customers order by 1",
    "select ssn as x from customers order by x",
    "select ssn as x, id from customers order by id, 1",
    "select distinct ssn from customers",
    "select distinct * from customers",
    "select distinct on (ssn) id from customers",
    "select distinct on (x) ssn as x from customers",
    "select ssn, count(*) from customers group by ssn",
    "select ssn, count(*) from customers group by 1",
    "select ssn as x, count(*) from customers group by grouping sets ((x), ())",
    "select id from customers group by id having max(ssn) > '05'",
    "select count(ssn) from customers",
    "select count(c) from customers c",
    "select min(ssn) from customers",
    "select row_number() over (order by ssn) from customers",
    "select id, rank() over w from customers window w as (partition by ssn)",
    "select ssn = '078-05-1120' from customers",
    "select ssn::text from customers",
    "select upper(ssn) from customers",
    "select 'x' ~ ('(' || ssn) from customers",
    "select exists (select 1 from customers where ssn like '07%')",
    "select 1 from customers, generate_series(1, left(ssn, 3)::int)",
    "select total from orders group by total having (select ssn from customers where id = 1) > '05'",
    "select 1 from customers a join customers b on a.ssn = b.ssn",
    "select 1 from customers a join customers b using (ssn)",
    "select 1 from customers a natural join customers b",
    "select a.id from customers a natural join (select ssn from customers) b",
    "select 1 from customers c where c::text like '%078%'",
    "select 1 from customers c where (c).ssn = 'x'",
    "select 1 from customer_v where national_id like '0%'",
    "select x from (select ssn as x from customers) q where x like '0%'",
    "with q as (select ssn as x from customers) select 1 from q where x > '5'",
    "select ssn from customers union select 'x'",
    "select ssn from customers intersect select 'x'",
    "select ssn from customers except all select name from customers",
    "select ssn from customers union all (select ssn from customers order by 1)",
    "select case when ssn > '5' then 1 end from customers",
    "select (select ssn from customers where id = 1)",
    "select 1 where 'x' in (select ssn from customers)",
    "update customers set name = 'x' where ssn > '5'",
    "delete from customers where ssn like '0%'",
    "delete from orders using customers c where c.ssn > '5' and c.id = customer_id",
    "merge into orders o using customers c on c.ssn > '5' and o.id = c.id when matched then delete",
    "explain select 1 from customers where ssn like '07%'",
    "explain analyze select count(*) from customers where ssn like '07%'",
    "prepare p as select 1 from customers where ssn like $1",
    "declare c cursor for select 1 from customers where ssn > '0'",
    "copy (select id from customers where ssn > '0') to stdout",
    "select 1; select id from customers where ssn > '0'",
    "insert into customers(id, ssn) select id + 1000, ssn from customers where ssn > '5'",
    "select id from customers limit (select count(*) from customers where ssn > '5')",
    "values ((select ssn from customers limit 1))",
    "select id from customers where ssn is null",
    "select id from customers where ssn = any($1)",
    "select id from customers where not (ssn = $1)",
    "select id from customers where ssn = $1 or id = 2",
    "select ssn = $1 from customers",
    "select id from customers where ssn < $1",
    "select id from customers where ssn = lower($1)",
]


@pytest.mark.parametrize("text", USED)
def test_used(text: str) -> None:
    assert "under a strict mask" in refused(text), text
    assert "or compared with a parameter" in refused(text, "lookups"), text


LOOKED_UP = [
    "select id from customers where ssn = $1",
    "select id from customers where $1 = ssn and name like 'A%'",
    "select c.id from customers c where c.ssn = $1::text and c.id = $2",
    "update customers set name = 'x' where ssn = $1",
    "delete from customers where ssn = $1 and id = 3",
    "explain select id from customers where ssn = $1",
    "select id from customers where ssn = $1 union all select id from customers where ssn = $2",
]


@pytest.mark.parametrize("text", LOOKED_UP)
def test_looked_up(text: str) -> None:
    assert refused(text, "lookups") == ""
    assert refused(text, "all")


def test_execute_is_what_was_prepared() -> None:
    context = replace(CONTEXT, prepared={"p": "select 1 from customers where ssn like $1", "q": "select ssn from customers where id = $1"})
    assert refused("execute p('0%')", context=context)
    assert not refused("execute q(1)", context=context)
    assert refused("execute q((select 1 from customers where ssn > '5' limit 1))", context=context)


LONG = " where id in (" + ", ".join(map(str, range(12_000))) + ")"


@pytest.mark.parametrize(("text", "used"), [
    (f"select ssn from customers{LONG}", False), (f"select id from customers{LONG} and ssn > '5'", True),
    (f"select 1; select ssn from customers{LONG} order by 1", True), (f"prepare p as select ssn from customers{LONG}", False)])
def test_a_text_that_was_parsed_elsewhere(text: str, used: bool) -> None:
    """The parser's answer serves both looks, so that a text may be longer than what is parsed in this process."""
    limit = 1 << 20
    assert len(text) > DEFAULT_LIMIT
    _, _, plans, _, refusal = understood(text, CONTEXT, CATALOG, strict("all"), (limit, (), False), answer_of(text.encode()))
    assert len(plans) == text.count(";") + 1 and bool(refusal) == used
    short = text.replace(LONG, " where id = 1")
    assert bool(understood(short, CONTEXT, CATALOG, strict("all"), (limit, (), False))[4]) == used


def test_behind_a_statement_that_changes_names_everything_read_is_used() -> None:
    assert refused("set search_path = public; select ssn from public.customers")


def test_without_a_second_look_every_read_is_a_use() -> None:
    (statement,) = analyze("select ssn from customers", CONTEXT, CATALOG)
    with pytest.raises(Refused, match="strict"):
        plan(statement, strict("all"), CATALOG)


def test_of_several_sets_the_stricter_counts() -> None:
    column = ("public", "customers", "ssn")
    for sets in ([strict("all"), strict("lookups")], [strict("lookups"), strict("all")]):
        assert add_up(sets).strictness(column) == "all"
    assert add_up([MaskSet({"public.customers.ssn": REDACT}), strict("lookups")]).strictness(column) == "lookups"
    assert strict("all").strictness(("public", "customers", "id")) is None
    assert MaskSet({"*.*.ssn": REDACT}, strict={"*.*.ssn": "all"}).strictness(column) == "all"
