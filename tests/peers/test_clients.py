# SPDX-License-Identifier: Apache-2.0
"""Real clients, unchanged: what they answer through the gateway is what they answer without it, but for the masks."""

from __future__ import annotations

import asyncio
import re
import ssl
from pathlib import Path

import asyncpg
import psycopg
import pytest
import sqlalchemy
from psycopg import sql

from tests.peers.clients import connect_asyncpg, connect_psycopg, direct, program, psql
from tests.peers.gateway import Appliance
from tests.peers.postgres import PostgresServer

BACKSLASH = [f"\\{command}" for command in (
    "d", "dt", "dt+", "d customers", "d+ customers", "d orders", "d customer_v", "d+ customer_v", "dv", "dv+", "di", "di+", "ds", "df",
    "df+ get_ssn", "sf get_ssn", "sv customer_v", "dn", "dn+", "du", "dg+", "l", "dp", "z customers", "dT", "dD", "do", "dC", "dc", "dx",
    "dL", "db", "dew", "des", "det", "dF", "dO", "dRp", "dRs", "dy", "drds", "encoding")]


def _both(server: PostgresServer, gateway: Appliance, *arguments: str) -> tuple[str, str]:
    """What psql says straight and through the gateway."""
    said = []
    for environment in (direct(server), gateway.client_variables()):
        done = psql(server, "-v", "VERBOSITY=verbose", *arguments, environment=environment)
        said.append(f"{done.stdout}{done.stderr}{done.returncode}")
    return said[0], said[1]


# --- psql and pgbench ---


@pytest.mark.parametrize("command", BACKSLASH)
def test_psql_backslash_commands(postgres: PostgresServer, gateway: Appliance, command: str) -> None:
    straight, through = _both(postgres, gateway, "-c", command)
    assert through == straight
    assert straight.endswith("0")


def test_psql_tab_completion_query(postgres: PostgresServer, gateway: Appliance) -> None:
    """What psql sends when somebody presses Tab after ``select * from c``."""
    text = """SELECT c.relname, NULL::pg_catalog.text FROM pg_catalog.pg_class c
        WHERE c.relkind IN ('r', 'S', 'v', 'm', 'f', 'p') AND (c.relname) LIKE 'c%' AND pg_catalog.pg_table_is_visible(c.oid)
        UNION ALL SELECT NULL::pg_catalog.text, n.nspname FROM pg_catalog.pg_namespace n WHERE n.nspname LIKE 'c%' LIMIT 1000"""
    straight, through = _both(postgres, gateway, "-c", text)
    assert through == straight


def test_psql_masks_and_refuses_in_its_own_words(postgres: PostgresServer, gateway: Appliance) -> None:
    done = psql(postgres, "-Atc", "select name, ssn, card, email from customers where id = 1", environment=gateway.client_variables())
    assert done.stdout == "Alice Archer|****|************1111|a***@example.com\n"
    refused = psql(postgres, "-v", "VERBOSITY=verbose", "-c", "drop database orders", environment=gateway.client_variables())
    assert refused.returncode == 1
    assert re.match("ERROR:  42501: ", refused.stderr)


def test_psql_variables_and_gexec_and_crosstabview(postgres: PostgresServer, gateway: Appliance) -> None:
    script = "\\set who 2\nselect name from customers where id = :who \\gset\n\\echo :name\nselect 'select 1' \\gexec\n" \
             "select 1 a, 2 b, 3 c \\crosstabview\nselect id from orders where id < 3 order by 1 \\g | cat\n" \
             "\\set FETCH_COUNT 7\ntable orders;\n"
    done = [psql(postgres, "-At", environment=environment, stdin=script) for environment in (direct(postgres), gateway.client_variables())]
    assert done[1].stdout == done[0].stdout
    assert done[1].stderr == done[0].stderr == ""


def test_psql_transactions_and_copy(postgres: PostgresServer, gateway: Appliance, tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("901\t1\t5\n902\t2\t6\n")
    script = f"begin;\n\\copy orders from '{tmp_path}/rows'\nselect count(*) from orders where id > 900;\nsavepoint s;\nselect 1/0;\n" \
             "rollback to s;\nselect total from orders where id = 902;\nrollback;\nselect count(*) from orders where id > 900;\n"
    done = [psql(postgres, "-At", environment=environment, stdin=script) for environment in (direct(postgres), gateway.client_variables())]
    assert done[1].stdout == done[0].stdout
    assert done[1].stderr == done[0].stderr
    assert "COPY 2" in done[0].stdout


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_pgbench_with_a_script_of_its_own(postgres: PostgresServer, gateway: Appliance, tmp_path: Path, mode: str) -> None:
    script = tmp_path / "script.sql"
    script.write_text("\\set id random(1, 20)\nbegin;\nselect total from orders where id = :id;\n"
                      "update orders set total = total where id = :id;\nend;\n")
    done = program(postgres, "pgbench", "-n", "-M", mode, "-f", str(script), "-c", "4", "-t", "25", environment=gateway.client_variables())
    assert done.returncode == 0, done.stderr
    assert "number of transactions actually processed: 100/100" in done.stdout


# --- psycopg 3 ---


@pytest.mark.parametrize("binary", [False, True])
def test_psycopg_parameters_and_masks(gateway: Appliance, binary: bool) -> None:
    with connect_psycopg(gateway) as connection, connection.cursor(binary=binary) as cursor:
        cursor.execute("select id, name, ssn, card, notes from customers where id = %s and name like %b", (1, "Alice%"), binary=binary)
        row = cursor.fetchone()
        assert row is not None
        assert row[:4] == (1, "Alice Archer", "****", "************1111")


def test_psycopg_prepares_after_a_while(gateway: Appliance) -> None:
    with connect_psycopg(gateway, prepare_threshold=2) as connection:
        for number in range(1, 8):
            assert connection.execute("select id from orders where id = %s", (number,)).fetchone() == (number,)


def test_psycopg_pipeline(gateway: Appliance) -> None:
    with connect_psycopg(gateway, autocommit=True) as connection:
        with connection.pipeline():
            cursors = [connection.execute("select total from orders where id = %s", (number,)) for number in (1, 2, 3)]
        assert [cursor.fetchone() for cursor in cursors] == [(pytest.approx(number * 1.5),) for number in (1, 2, 3)]


def test_psycopg_pipeline_stops_at_the_refused_part(postgres: PostgresServer, gateway: Appliance) -> None:
    with connect_psycopg(gateway, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.pipeline():
            connection.execute("insert into orders values (910, 1, 1)")
            connection.execute("drop database orders")
            connection.execute("insert into orders values (911, 1, 1)")
        assert connection.execute("select 1").fetchone() == (1,)
    assert postgres.execute("select count(*) from orders where id in (910, 911)", "orders")[0].rows == [("0",)]


def test_psycopg_server_side_cursor(gateway: Appliance) -> None:
    with connect_psycopg(gateway) as connection, connection.cursor("walk") as cursor:
        cursor.itersize = 5
        cursor.execute("select id, ssn from customers order by id")
        rows = list(cursor)
    assert len(rows) == 84
    assert {row[1] for row in rows} == {"****", None}


def test_psycopg_copy_both_ways(gateway: Appliance) -> None:
    with connect_psycopg(gateway) as connection:
        with connection.cursor() as cursor, cursor.copy("copy orders from stdin") as lines:
            lines.write_row((920, 1, 7))
            lines.write_row((921, None, None))
        assert connection.execute("select id, customer_id from orders where id >= 920 order by 1").fetchall() == [(920, 1), (921, None)]
        with connection.cursor() as cursor, cursor.copy("copy (select name, ssn from customers where id = 1) to stdout") as lines:
            assert list(lines.rows()) == [("Alice Archer", "****")]
        connection.rollback()


def test_psycopg_transaction_is_aborted_by_a_refusal(gateway: Appliance) -> None:
    with connect_psycopg(gateway) as connection:
        connection.execute("insert into orders values (930, 1, 1)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("create table x()")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("select 1")
        assert connection.execute("commit").statusmessage == "ROLLBACK"
        assert connection.execute("select count(*) from orders where id = 930").fetchone() == (0,)


def test_psycopg_savepoint_survives_a_refusal(gateway: Appliance) -> None:
    with connect_psycopg(gateway) as connection:
        connection.execute("insert into orders values (931, 1, 1)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute("grant all on orders to public")
        assert connection.execute("select count(*) from orders where id = 931").fetchone() == (1,)
        connection.rollback()


def test_psycopg_cancel_reaches_its_own_session_only(gateway: Appliance) -> None:
    with connect_psycopg(gateway, autocommit=True) as one, connect_psycopg(gateway, autocommit=True) as other:
        two = other.execute("select pg_backend_pid()").fetchone()

        async def run() -> None:
            task = asyncio.create_task(asyncio.to_thread(one.execute, "select count(*) from generate_series(1, 2000000000)"))
            while not task.done():
                await asyncio.sleep(0.2)
                await asyncio.to_thread(one.cancel_safe)
            await task

        with pytest.raises(psycopg.errors.QueryCanceled):
            asyncio.run(run())
        assert other.execute("select pg_backend_pid()").fetchone() == two
        assert one.execute("select 1").fetchone() == (1,)


def test_psycopg_listens(postgres: PostgresServer, gateway: Appliance) -> None:
    with connect_psycopg(gateway, autocommit=True) as connection:
        connection.execute("listen orders_changed")
        postgres.execute("notify orders_changed, 'order 7'", "orders")
        notes = [(note.channel, note.payload) for note in connection.notifies(timeout=60, stop_after=1)]
    assert notes == [("orders_changed", "****")]  # nobody knows where a payload came from, and this identity has masks here


def test_psycopg_held_statement_and_resumption(postgres: PostgresServer, gateway: Appliance) -> None:
    with connect_psycopg(gateway, autocommit=True, options="-c lockgate.wait=off") as connection:
        with pytest.raises(psycopg.Error) as held:
            connection.execute("update orders set total = total")
        assert held.value.diag.sqlstate == "LG001"
        approval = held.value.diag.message_detail
        assert approval
        gateway.run("approvals", "approve", approval, "--reason", "test", "--token-file", str(gateway.token_file("ines")))
        assert connection.execute("update orders set total = total").rowcount == 20
        with pytest.raises(psycopg.Error) as again:
            connection.execute("update orders set total = total")
        assert again.value.diag.sqlstate == "LG001"
        assert again.value.diag.message_detail != approval


# --- asyncpg ---


async def test_asyncpg_pool(gateway: Appliance) -> None:
    context = ssl.create_default_context(cafile=str(gateway.ca))
    async with asyncpg.create_pool(host="127.0.0.1", port=gateway.port, user="x", password=gateway.token(), database="orders-db",
                                   ssl=context, min_size=2, max_size=4) as pool:
        async def one(number: int) -> tuple[int, str | None]:
            async with pool.acquire() as connection, connection.transaction():
                row = await connection.fetchrow("select id, ssn from customers where id = $1", number)
                return row["id"], row["ssn"]

        assert await asyncio.gather(*(one(number) for number in (1, 2, 1, 2, 1, 2, 3))) == [(1, "****"), (2, "****")] * 3 + [(3, None)]


async def test_asyncpg_cursor_and_types(gateway: Appliance) -> None:
    connection = await connect_asyncpg(gateway)
    try:
        assert await connection.fetchval("select array[1, 2]::int[]") == [1, 2]
        async with connection.transaction():
            seen = [record["id"] async for record in connection.cursor("select id from orders order by id", prefetch=6)]
        assert seen == list(range(1, 21))
        statement = await connection.prepare("select * from customers where id = $1")
        assert (await statement.fetchrow(1))["card"] == "************1111"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("create role intruder superuser")
        assert await connection.fetchval("select 1") == 1
    finally:
        await connection.close()


async def test_asyncpg_copy(gateway: Appliance) -> None:
    connection = await connect_asyncpg(gateway)
    try:
        blocks: list[bytes] = []

        async def take(data: bytes) -> None:
            blocks.append(data)

        await connection.copy_from_query("select id, ssn, email from customers where id = 1", output=take, format="text")
        assert b"".join(blocks) == b"1\t****\ta***@example.com\n"
    finally:
        await connection.close()


# --- SQLAlchemy ---


def test_sqlalchemy_reflection(postgres: PostgresServer, gateway: Appliance) -> None:
    def reflect(url: str) -> dict[str, object]:
        engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
        try:
            look = sqlalchemy.inspect(engine)
            tables = look.get_table_names()
            return {
                "schemas": look.get_schema_names(), "views": look.get_view_names(), "tables": tables,
                "columns": {name: repr(look.get_columns(name)) for name in tables},
                "keys": {name: look.get_pk_constraint(name) for name in tables},
                "foreign": {name: look.get_foreign_keys(name) for name in tables},
                "indexes": {name: look.get_indexes(name) for name in tables},
                "definition": look.get_view_definition("customer_v"),
            }
        finally:
            engine.dispose()

    assert reflect(gateway.dsn()) == reflect(postgres.dsn("orders"))


def test_sqlalchemy_core(gateway: Appliance) -> None:
    engine = sqlalchemy.create_engine(gateway.dsn().replace("postgresql://", "postgresql+psycopg://"))
    try:
        people = sqlalchemy.Table("customers", sqlalchemy.MetaData(), autoload_with=engine)
        with engine.connect() as connection:
            query = sqlalchemy.select(people.c.id, people.c.ssn, sqlalchemy.func.upper(people.c.ssn)).where(people.c.id == 1)
            rows = connection.execute(query).all()
        assert [tuple(row) for row in rows] == [(1, "****", "****")]
    finally:
        engine.dispose()


def test_identifiers_that_look_like_trouble(gateway: Appliance) -> None:
    with connect_psycopg(gateway) as connection:
        query = sql.SQL("select {} as {} from customers where id = 1").format(sql.Identifier("ssn"), sql.Identifier('clear"; --'))
        assert connection.execute(query).fetchone() == ("****",)
