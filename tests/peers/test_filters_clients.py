# SPDX-License-Identifier: Apache-2.0
"""Row filters as psql and drivers meet them, beside masks, after a reload, in the log, and in what the program says of a policy."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from gateway.protocols.postgres import messages
from gateway.testing.postgres import PostgresServer
from tests.peers.clients import connect_asyncpg, connect_psycopg, program, psql
from tests.peers.filters import MARK, POLICY, gated, make, put
from tests.peers.gateway import Appliance
from tests.peers.wire import Wire, codes, errors, rows, texts

MINE = [6, 16, 26, 36, 46, 56, 66, 76, 86, 96]


@pytest.fixture(scope="module")
def filtered(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Appliance]:
    make(postgres)
    with gated(tmp_path_factory.mktemp("filters"), postgres) as appliance:
        yield appliance


def wire(appliance: Appliance) -> Wire:
    return Wire.connect(appliance.port, "ci-bot", appliance.token("ci-bot"), "orders-db", ca=appliance.ca)


def test_psql(filtered: Appliance, postgres: PostgresServer, tmp_path: Path) -> None:
    script = r"""
\d orders
\dt
select id from orders order by id;
select id from orders where id = :mine \gset got_
\echo got :got_id
\copy (select id from orders order by id) to 'out.csv' csv
\copy orders to 'table.csv' csv header
select id, total from orders where note like 'mine%' order by id \crosstabview
select id from orders \bind \g
\set FETCH_COUNT 3
select note from orders order by id;
"""
    done = psql(postgres, "-At", "-v", "mine=16", environment=filtered.client_variables(), stdin=script.replace("'out", f"'{tmp_path}/out")
                .replace("'table", f"'{tmp_path}/table").replace("select id from orders \\bind \\g\n", ""))
    assert "got 16" in done.stdout
    assert "HIDDEN" not in done.stdout + done.stderr
    assert (tmp_path / "out.csv").read_text().split() == [str(number) for number in MINE]
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 11
    assert done.stdout.count("mine ") == 10


def test_pg_dump_of_a_table(filtered: Appliance, postgres: PostgresServer) -> None:
    """Its COPY is filtered; what it asks the catalog is not about rows. It wants row_security, which always needs a rule that names it."""
    done = program(postgres, "pg_dump", "--data-only", "-t", "public.orders", "--enable-row-security",
                   environment=filtered.client_variables())
    assert "HIDDEN" not in done.stdout
    assert done.stdout.count("mine ") in (0, 10), done.stderr


def test_psycopg(filtered: Appliance) -> None:
    with connect_psycopg(filtered, prepare_threshold=2) as connection:
        for _ in range(6):
            found = connection.execute("select id from orders where id > %s order by id", (10,)).fetchall()
            assert [row[0] for row in found] == MINE[1:]
        assert connection.execute("select count(*) from orders where note like %s", ("nobody%",)).fetchone() == (0,)
        with connection.cursor("named") as cursor:
            cursor.execute("select id from orders where total > %s order by id", (20,))
            assert [row[0] for row in cursor.fetchmany(2) + cursor.fetchall()] == MINE[1:]
        with connection.cursor() as cursor:
            cursor.executemany("update orders set total = %s where id = %s", [(1, 6), (1, 7), (1, 16)])
            assert cursor.rowcount == 2
            with cursor.copy("copy (select id from orders where id < 30 order by id) to stdout (format binary)") as copy:
                copy.set_types(["int4"])
                assert [row[0] for row in copy.rows()] == MINE[:3]
        connection.rollback()
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row filter"):
            connection.execute("insert into orders values (1000, 7, 1, 'x')")


async def test_asyncpg(filtered: Appliance) -> None:
    connection = await connect_asyncpg(filtered)
    try:
        for _ in range(3):
            assert [row["id"] for row in await connection.fetch("select * from public.orders where id < $1 order by id", 40)] == MINE[:4]
        prepared = await connection.prepare("select o.id, c.name from orders o left join customers c on c.id = customer_id where o.id = $1")
        assert await prepared.fetchrow(7) is None
        assert tuple(await prepared.fetchrow(16)) == (16, "customer 7")
        async with connection.transaction():
            assert [row["id"] async for row in connection.cursor("select id from orders order by id")] == MINE
            assert await connection.execute("update orders set note = $1 where id = any ($2)", "x", [6, 7]) == "UPDATE 1"
            await connection.execute("update orders set note = 'mine 6' where id = 6")
    finally:
        await connection.close()


MASKED = POLICY.replace("  - name: own-rows\n", """  - name: own-rows
    columns: {public.orders.note: {keep_first: 4}, public.docs.owner: redact}
""")


def test_masks_go_by_origin_through_a_filter(tmp_path: Path, postgres: PostgresServer) -> None:
    make(postgres)
    with gated(tmp_path, postgres, MASKED) as appliance, wire(appliance) as caller:
        assert texts(caller.query("select note, id from orders where id = 6")) == [("mine**", "6")]
        joined = "select o.note from customers c left join orders o on o.customer_id = c.id and o.id / 2 = 3 where c.id = 7"
        assert texts(caller.query(joined)) == [("mine**",)]
        assert texts(caller.query("select upper(note) from (select * from orders) s where s.id = 6")) == [("****",)]
        assert {row[0] for row in texts(caller.query("select o from orders o"))} == {None}
        assert texts(caller.query("with x as (select * from docs) select distinct owner from x")) == [("****",)]
        lines = [payload for kind, payload in caller.query("copy orders (id, note) to stdout") if kind == "d"]
        assert lines[:1] == [b"6\tmine**\n"]
        assert codes(caller.query("create temp table t as select note from orders")) == ["42501"]


def test_statistics_tell_nothing_of_hidden_rows(filtered: Appliance) -> None:
    with wire(filtered) as caller:
        found = texts(caller.query("select most_common_vals::text, histogram_bounds::text from pg_stats where tablename = 'orders'"))
        assert found
        assert {value for row in found for value in row} <= {None, "****"}


def test_an_error_has_no_place_in_another_text(filtered: Appliance) -> None:
    with wire(filtered) as caller:
        told = errors(caller.query("select id from orders where 'x' = id::int"))
        assert [(one["C"], "P" in one) for one in told] == [("22P02", False)]
        told = errors(caller.query("select id from customers where 'x' = id::int"))
        assert [(one["C"], "P" in one) for one in told] == [("22P02", True)]


def test_the_log_has_the_callers_text_and_what_was_filtered(filtered: Appliance) -> None:
    with wire(filtered) as caller:
        caller.query("select id as of_the_log from orders")
        caller.query("select id as of_the_log from customers")
        caller.query("explain select id as of_the_log from orders")
    found = [line for line in filtered.lines("audit", "export") if line["kind"] == "command.begin" and "of_the_log" in line["text"]]
    assert [line["text"] for line in found] == [
        "select id as of_the_log from orders", "select id as of_the_log from customers", "explain select id as of_the_log from orders"]
    assert [line.get("filtered") for line in found] == [["public.orders"], None, None]
    assert found[2]["decision"]["effect"] == "deny"
    assert "row filter" in found[2]["decision"]["reason"]


@pytest.mark.parametrize("other", ["customer_id = 3", "true", ""])
def test_what_the_target_holds_is_of_no_use_under_other_filters(other: str, tmp_path: Path, postgres: PostgresServer) -> None:
    """Prepared statements and cursors of before a reload: what they would show is what was there under the old filter."""
    make(postgres)
    after = POLICY.replace('public.orders: {filter: "customer_id = 7"}', f'public.orders: {{filter: "{other}"}}') if other else \
        POLICY.replace('      public.orders: {filter: "customer_id = 7"}\n', "")
    with gated(tmp_path, postgres) as appliance, wire(appliance) as caller:
        caller.run(messages.Parse("kept", "select id from orders order by id"))
        caller.query("prepare p as select id from orders")
        caller.query("begin")
        caller.query("declare h cursor with hold for select id from orders")
        caller.query("commit")
        assert len(rows(caller.run(messages.Bind("", "kept"), messages.Execute("")))) == 10
        before = caller.query("begin")
        caller.run(messages.Bind("portal", "kept"))
        put(appliance, after)
        appliance.reload()
        _until_loaded_again(appliance)
        assert codes(caller.run(messages.Execute("portal"))) == ["34000"]
        caller.query("rollback")
        assert codes(before) == []
        assert codes(caller.run(messages.Bind("", "kept"), messages.Execute(""))) == ["26000"]
        assert codes(caller.query("execute p")) == ["26000"]
        assert codes(caller.query("fetch all from h")) == ["34000"]
        caller.run(messages.Close("S", "kept"))
        assert codes(caller.run(messages.Parse("kept", "select id from orders order by id"), messages.Bind("", "kept"))) == []
        found = rows(caller.query("select id from orders order by id limit 1"))
        assert found == [(b"1",)] if other != "customer_id = 3" else found == [(b"2",)]


def _until_loaded_again(appliance: Appliance) -> None:
    for _ in range(200):
        if sum(line["kind"] == "policy.loaded" for line in appliance.lines("audit", "export")) > 1:
            return
        time.sleep(0.05)
    raise AssertionError("the policy was not loaded")


CASES = """tests:
  - {identity: ci-bot, resource: orders-db, sql: "select id from orders", effect: allow, filtered: [public.orders]}
  - {identity: ci-bot, resource: orders-db, sql: "select id from customers", effect: allow, filtered: []}
  - {identity: ci-bot, resource: orders-db, sql: "select note from orders_v", effect: deny}
"""


def test_what_the_program_says(tmp_path: Path, postgres: PostgresServer) -> None:
    make(postgres)

    def more(appliance: Appliance) -> None:
        (appliance.folder / "policy" / "tests").mkdir(exist_ok=True)
        (appliance.folder / "policy" / "tests" / "rows.yaml").write_text(CASES)

    with gated(tmp_path, postgres, more=more) as appliance:
        appliance.run("schema", "pull", "orders-db")
        asked = ("explain", "--identity", "ci-bot", "--resource", "orders-db")
        allowed = appliance.json(*asked, "select id from orders")
        assert allowed["filtered"] == {"public.orders": "(customer_id = 7)"}
        assert allowed["sent"].startswith("select id from orders WHERE")
        assert "rows      public.orders: (customer_id = 7)" in appliance.run(*asked, "select id from orders")
        denied = appliance.json(*asked, "select note from orders_v", expect=1)
        assert "public.orders_v shows rows of public.orders" in denied["reason"]
        assert "3" in appliance.run("policy", "test")
        assert appliance.json("access", "--identity", "ci-bot")["rows"]["public.events"] == "(tenant = 'a')"
        wider = tmp_path / "wider"
        shutil.copytree(appliance.folder, wider)
        masks = wider / "policy" / "masks.yaml"
        masks.write_text(masks.read_text().replace("customer_id = 7", "customer_id in (7, 8)"))
        told = appliance.run("policy", "diff", str(appliance.folder), str(wider), "--json", expect=(0, 1), config=False)
        changes = [json.loads(line) for line in told.splitlines()]
        rows_of = [one for one in changes if one["what"] == "rows"]
        assert any(one["question"] == "public.orders" and one["widens"] for one in rows_of), changes
        masks.write_text(masks.read_text().replace("customer_id in (7, 8)", "customer_id = now()"))
        assert 'rows."public.orders".filter' in _checked(appliance, wider, 2)
        masks.write_text(masks.read_text().replace("customer_id = now()", "customer = 7"))
        assert "every statement on it will be refused: there is no column customer" in _checked(appliance, wider, 0)


def _checked(appliance: Appliance, folder: Path, expect: int) -> str:
    done = subprocess.run([*appliance.command("check", config=False), "--config", str(folder)], capture_output=True, text=True,
                          env=appliance.variables(), check=False, timeout=120)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_nothing_hidden_is_in_the_log(filtered: Appliance) -> None:
    with wire(filtered) as caller:
        caller.query("select * from orders; select * from events")
    assert MARK.decode() not in json.dumps(filtered.lines("audit", "export"))
