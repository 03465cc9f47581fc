# SPDX-License-Identifier: Apache-2.0
"""Row filters through a live gateway, on both servers: tests/corpus/filters.jsonl.

What the gateway shows and changes is compared with PostgreSQL's own row security on a database of the same content: another role, the
same conditions as policies. ``same``: the rows are the same; ``writes``: so is every row of every table afterwards, hidden ones too;
``refused``: nothing happens; ``error``: the target's own. No answer holds a text of a hidden row.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gateway.protocols.postgres import messages
from gateway.testing.postgres import PostgresServer
from tests.peers.filters import CORPUS, GATED, MARK, ORACLE, POLICY, Pair, both, caller, everything, gated, restore
from tests.peers.wire import Frame, Wire, codes, rows, tags

CASES = [json.loads(line) for line in (CORPUS / "filters.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Pair]:
    with both(tmp_path_factory.mktemp("filters"), postgres) as pair:
        yield pair


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory, newest_postgres: PostgresServer) -> Iterator[Pair]:
    with both(tmp_path_factory.mktemp("filters"), newest_postgres) as pair:
        yield pair


@pytest.fixture(params=["old", "new"])
def pair(request: pytest.FixtureRequest) -> Pair:
    found: Pair = request.getfixturevalue(request.param)
    found.fresh()
    return found


def texts(case: dict[str, Any]) -> list[str]:
    return case["sql"] if isinstance(case["sql"], list) else [case["sql"]]


def played(wire: Wire, case: dict[str, Any]) -> list[Frame]:
    return [frame for text in texts(case) if not wire.closed for frame in wire.query(text)]


def shown(frames: list[Frame], case: dict[str, Any]) -> list[Any]:
    """Rows and COPY lines; where the statement does not order them, sorted."""
    found: list[Any] = [*rows(frames), *(payload for kind, payload in frames if kind == "d")]
    return found if "order by" in texts(case)[-1] else sorted(found, key=repr)


def of(kind: str) -> list[Any]:
    return [pytest.param(case, id=case["id"]) for case in CASES if case["kind"] == kind]


@pytest.mark.parametrize("case", of("same"))
def test_the_rows_are_those_of_row_security(case: dict[str, Any], pair: Pair) -> None:
    expected, got = played(pair.oracle, case), played(pair.gated, case)
    assert codes(expected) == [], "the case itself"
    assert codes(got) == [], got
    assert shown(got, case) == shown(expected, case)
    assert tags(got) == tags(expected)
    assert not any(MARK in payload for _, payload in got)


@pytest.mark.parametrize("case", [one for one in of("same") if isinstance(one.values[0]["sql"], str)])
def test_and_with_prepared_statements_once_and_again(case: dict[str, Any], pair: Pair) -> None:
    text = case["sql"]
    if text.count(";") or text.startswith("copy"):
        return
    expected = pair.oracle.query(text)
    for prepared in ("", "kept"):
        pair.gated.run(messages.Parse(prepared, text))
        for _ in range(3):
            got = pair.gated.run(messages.Bind("", prepared), messages.Describe("P", ""), messages.Execute(""))
            assert codes(got) == [], got
            assert shown(got, case) == shown(expected, case)
    assert not any(MARK in payload for _, payload in got)


@pytest.mark.parametrize("case", of("writes"))
def test_what_is_changed_is_what_row_security_lets_change(case: dict[str, Any], pair: Pair) -> None:
    for name in (GATED, ORACLE):
        restore(pair.server, name)
    expected, got = played(pair.oracle, case), played(pair.gated, case)
    assert codes(expected) == codes(got) == []
    assert sorted(rows(got)) == sorted(rows(expected))
    assert tags(got) == tags(expected)
    assert everything(pair.server, GATED) == everything(pair.server, ORACLE)
    assert not any(MARK in payload for _, payload in got)
    for name in (GATED, ORACLE):
        restore(pair.server, name)


@pytest.mark.parametrize("case", of("refused"))
def test_what_cannot_be_shown_to_be_right_is_refused(case: dict[str, Any], pair: Pair) -> None:
    before = everything(pair.server, GATED)
    got = played(pair.gated, case)
    assert codes(got)[:1] == [case["code"]]
    assert not rows(got) or len(texts(case)) > 1
    assert not any(MARK in payload for _, payload in got)
    pair.fresh()
    assert everything(pair.server, GATED) == before


@pytest.mark.parametrize("case", of("error"))
def test_an_error_of_a_row_that_is_there_is_the_callers_own(case: dict[str, Any], pair: Pair) -> None:
    assert codes(played(pair.gated, case)) == codes(played(pair.oracle, case)) == [case["code"]]


CAST = [("$1::int", 25, b"no number"), ("$1::int4", 20, b"99999999999"), ("$1::int", 0, b"no number")]


@pytest.mark.parametrize(("value", "type_oid", "sent"), CAST)
def test_a_cast_of_a_parameter_is_not_tried_on_hidden_rows(old: Pair, tmp_path: Path, value: str, type_oid: int, sent: bytes) -> None:
    """A filter that costs more than the cast: PostgreSQL would try the cast first, on a row that an index found."""
    policy = POLICY.replace('"customer_id = 7"', '"customer_id in (7, 101, 102, 103, 104, 105, 106, 107, 108)"')
    listed = "$1::text, note" if type_oid == 0 else "note"
    with gated(tmp_path, old.server, policy) as appliance, caller(appliance) as wire:
        wire.query("set plan_cache_mode = force_generic_plan")
        text = f"select {listed} from orders where id = $2 and customer_id = {value}"
        assert codes(wire.run(messages.Parse("p", text, (type_oid, 23)))) == []
        for there, expected in ((b"6", True), (b"5", False), (b"1005", False)):
            got = wire.run(messages.Bind("", "p", (), (sent, there)), messages.Execute(""))
            assert bool(codes(got)) is expected, got


def test_a_column_computed_as_it_is_read_is_not_computed_for_hidden_rows(new: Pair, tmp_path: Path) -> None:
    """PostgreSQL 18: a virtual column whose expression fails for a row that the filter hides."""
    policy = POLICY.replace('"customer_id = 7"', '"customer_id in (7, 101, 102, 103, 104, 105, 106, 107, 108)"')
    new.server.execute("alter table orders add column share int generated always as (1 / (id - 5)) virtual", GATED)
    try:
        with gated(tmp_path, new.server, policy) as appliance, caller(appliance) as wire:
            for condition in ("id = 5 and share = 1", "share = 0", "share is null", "share in (1, 2) or id = 5"):
                got = wire.query(f"select note from orders where {condition}")
                assert codes(got) == [] and not any(MARK in payload for _, payload in got), got
            assert codes(wire.query("select c.id from customers c join orders o on c.id = o.share and o.id = 5")) == []
    finally:
        new.server.execute("alter table orders drop column share", GATED)


@pytest.mark.parametrize("text", [
    "select upper(note) from orders",
    "select upper(note) from orders where exists (with orders as (select 1) select from orders)",
    "explain analyze insert into alt.taken select note from orders",
])
def test_a_name_that_becomes_another_relation_s_while_it_waits(text: str, old: Pair, tmp_path: Path) -> None:
    """The table in front of the filtered one is dropped while the statement waits for its lock."""
    with gated(tmp_path, old.server) as appliance, caller(appliance) as wire, caller(appliance) as other, ThreadPoolExecutor(1) as pool:
        old.server.execute("create table alt.taken(note text)", GATED)
        try:
            wire.query("set search_path = alt, public")
            other.query("begin")
            assert codes(other.query("drop table alt.orders")) == []
            waiting = pool.submit(wire.query, text)
            deadline = time.monotonic() + 60
            while not waiting.done() and old.server.execute("select 1 from pg_locks where not granted")[-1].rows == []:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert codes(other.query("commit")) == []
            got = waiting.result(60)
            assert len(codes(got)) == 1 and not any(MARK in payload for _, payload in got), got
            assert old.server.execute("select * from alt.taken", GATED)[-1].rows == []
        finally:
            old.server.execute("drop table alt.taken; drop table if exists alt.orders; create table alt.orders(id int, customer_id int, "
                               "note text); insert into alt.orders select n, n, 'other ' || n from generate_series(1, 10) n", GATED)
