# SPDX-License-Identifier: Apache-2.0
"""psycopg 2, unchanged: literals written into the text by the client, named cursors, COPY, notices, errors."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import psycopg2.extras
import pytest

from gateway.testing.postgres import PostgresServer
from tests.peers.gateway import Appliance

pytestmark = pytest.mark.usefixtures("shop_made_anew")


@contextmanager
def connected(dsn: str) -> Iterator[Any]:
    connection = psycopg2.connect(dsn)
    try:
        yield connection
    finally:
        connection.close()


def work(connection: Any) -> list[object]:
    """What a script does; everything it got, and every error's code and message."""
    found: list[object] = []
    psycopg2.extras.register_uuid(conn_or_curs=connection)
    with connection, connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
        text = "select id, name, mood::text, tags, born from app.people where name like %s and active = %s order by id"
        cursor.execute(text, ("%", True))
        found.append(cursor.fetchall())
        cursor.execute("select %(a)s::int + 1 as a, %(b)s as b, %(c)s::bytea as c, %(d)s::jsonb as d, %(e)s::int[] as e",
                       {"a": 1, "b": "t'x\\y", "c": b"\0\1", "d": json.dumps({"k": [1]}), "e": [1, 2]})
        row = cursor.fetchone()
        found.append({**row, "c": bytes(row["c"])})
    with connection, connection.cursor() as cursor:
        numbers = range(700, 720)
        labels, amounts = [(number, f"row {number}") for number in numbers], [(number * 1.5, number) for number in numbers]
        psycopg2.extras.execute_values(cursor, "insert into public.plain (id, label) values %s", labels)
        psycopg2.extras.execute_batch(cursor, "update public.plain set amount = %s where id = %s", amounts)
        found.append(cursor.rowcount)
        out = io.StringIO()
        cursor.copy_expert("copy (select id, label, amount from public.plain where id >= 700 order by id) to stdout", out)
        found.append(out.getvalue())
        cursor.copy_from(io.StringIO("730\tin\n"), "plain", columns=("id", "label"))
        cursor.execute("delete from public.plain where id >= 700")
        found.append(cursor.rowcount)
    with connection, connection.cursor("by_name") as cursor:
        cursor.itersize = 9
        cursor.execute("select n from generate_series(1, 40) n")
        found.append(sum(row[0] for row in cursor))
    for text in ("select 1/0", "select * from nowhere", "selec 1"):
        with pytest.raises(psycopg2.Error) as failed, connection, connection.cursor() as cursor:
            cursor.execute(text)
        found.append((failed.value.pgcode, failed.value.diag.message_primary))
    connection.set_isolation_level(psycopg2.extensions.ISOLATION_LEVEL_AUTOCOMMIT)
    with connection.cursor() as cursor:
        cursor.execute("listen lamp; notify lamp, 'on'")
        connection.poll()
        found.append([(notice.channel, notice.payload) for notice in connection.notifies])
    connection.set_session(isolation_level="SERIALIZABLE", readonly=True)
    found.append(connection.get_parameter_status("server_version"))
    return found


@pytest.mark.parametrize("which", ["system", "newest"])
def test_a_script(request: pytest.FixtureRequest, which: str) -> None:
    server: PostgresServer = request.getfixturevalue("postgres" if which == "system" else "newest_postgres")
    gateway: Appliance = request.getfixturevalue("shop" if which == "system" else "newest_shop")
    with connected(server.dsn("shop")) as straight, connected(gateway.dsn("shop-app", "orders-db/shop")) as through:
        assert work(through) == work(straight)


def test_masked_and_refused(gateway: Appliance) -> None:
    with connected(gateway.dsn()) as connection:
        with connection, connection.cursor() as cursor:
            cursor.execute("select name, ssn, card from customers where id = %s", (1,))
            assert cursor.fetchone() == ("Alice Archer", "****", "************1111")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege), connection, connection.cursor() as cursor:
            cursor.execute("drop database orders")
