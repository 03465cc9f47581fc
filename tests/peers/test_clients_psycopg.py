# SPDX-License-Identifier: Apache-2.0
"""psycopg 3, unchanged: what it gives through the gateway is what it gives without it.

Each function of ``PARTS`` takes a connection and gives values; they are run straight and through the gateway, on both servers.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg.types.composite import CompositeInfo, register_composite
from psycopg.types.enum import EnumInfo, register_enum
from psycopg.types.range import RangeInfo

from gateway.testing.postgres import PostgresServer
from tests.peers.gateway import Appliance

Connection = psycopg.Connection[Any]
TYPES = r"""select 1::int2, 2::int4, 3::int8, 1.5::float4, 2.5::float8, 1.25::numeric, 'x'::text, true, '2020-01-01'::date,
    '2020-01-01 01:02:03'::timestamp, '2020-01-01 01:02:03+00'::timestamptz, '1 day'::interval, '\x00ff'::bytea, array[1, 2],
    '{"a": 1}'::jsonb, '00000000-0000-0000-0000-000000000001'::uuid, '[1,3)'::int4range, inet '1.2.3.4', null"""
TAKE = "copy public.plain (id, label) from stdin"


def types(connection: Connection) -> object:
    return [connection.cursor(binary=binary).execute(TYPES).fetchone() for binary in (False, True)]


def parameters(connection: Connection) -> object:
    values = (1, "x", Decimal("1.5"), b"\0\1", date(2020, 1, 1), [1, 2], None)
    return [connection.execute(f"select {', '.join([mark] * 7)}", values).fetchone() for mark in ("%s", "%b", "%t")]


def own_types(connection: Connection) -> object:
    place, mood = CompositeInfo.fetch(connection, "app.place"), EnumInfo.fetch(connection, "app.mood")
    span = RangeInfo.fetch(connection, "app.span")
    assert place and mood and span
    register_composite(place, connection)
    register_enum(mood, connection)
    rows = [[str(row) for row in connection.cursor(binary=binary).execute("select * from app.people order by id").fetchall()]
            for binary in (False, True)]
    return place.field_names, mood.labels, span.subtype_oid, rows


def prepared(connection: Connection) -> object:
    connection.prepare_threshold = 0
    found = [connection.execute("select id from app.people where name = %s", (name,)).fetchone() for name in ("Ann", "Ben", "Zed")]
    kept = connection.execute("select count(*) from pg_prepared_statements").fetchone()
    connection.execute("deallocate all")
    return found, kept, connection.execute("select count(*) from pg_prepared_statements").fetchone()


def many(connection: Connection) -> object:
    cursor = connection.cursor()
    rows = [(2000 + number, str(number)) for number in range(50)]
    cursor.executemany("insert into public.plain (id, label) values (%s, %s) returning id", rows, returning=True)
    count = 0
    while True:
        count += len(cursor.fetchall())
        if not cursor.nextset():
            return count, connection.execute("select count(*) from public.plain where id >= 2000").fetchone()


def several_results(connection: Connection) -> object:
    cursor = connection.execute("select 1; select 2, 'b'; select 3 where false")
    found = [cursor.fetchall()]
    while cursor.nextset():
        found.append(cursor.fetchall())
    return found


def description(connection: Connection) -> object:
    cursor = connection.execute("select p.id, p.name, i.price, s.at, 1 + 1 as two from app.people p, app.items i, app.sales s where false")
    return [(c.name, c.type_code, c.display_size, c.internal_size, c.precision, c.scale) for c in cursor.description or ()]


def copy_in(connection: Connection) -> object:
    with connection.cursor().copy(TAKE) as lines:
        lines.write_row((3000, "text"))
    with connection.cursor().copy(f"{TAKE} (format binary)") as lines:
        lines.set_types(["int4", "text"])
        lines.write_row((3001, "binary"))
    with connection.cursor().copy(f"{TAKE} (format csv)") as lines:
        lines.write('3002,"c,sv"\n')
    return connection.execute("select id, label from public.plain where id >= 3000 order by 1").fetchall()


def copy_out(connection: Connection) -> object:
    with connection.cursor().copy("copy app.items (id, title) to stdout (format binary)") as lines:
        lines.set_types(["int4", "text"])
        rows = list(lines.rows())
    with connection.cursor().copy("copy (select * from app.items order by id) to stdout") as lines:
        return rows, b"".join(lines)


def copy_given_up(connection: Connection) -> object:
    with contextlib.suppress(ValueError), connection.cursor().copy(TAKE) as lines:
        lines.write_row((3000, "x"))
        raise ValueError
    connection.rollback()
    return connection.execute("select 1").fetchone(), connection.info.transaction_status


def named_cursors(connection: Connection) -> object:
    with connection.cursor("walk", scrollable=True) as cursor:
        cursor.execute("select n from generate_series(1, 10) n")
        first = cursor.fetchmany(3)
        cursor.scroll(2)
        second = cursor.fetchmany(2)
        cursor.scroll(0, mode="absolute")
        third = cursor.fetchone()
    with connection.cursor("walk", binary=True) as cursor:
        cursor.execute("select id, title, price from app.items order by id")
        fourth = cursor.fetchall()
    connection.execute("declare taken cursor for select n from generate_series(1, 5) n")
    with connection.cursor("taken") as cursor:
        fifth = cursor.fetchmany(2)
    with connection.cursor("held", withhold=True) as cursor:
        cursor.execute("select n from generate_series(1, 4) n")
        connection.commit()
        return first, second, third, fourth, fifth, cursor.fetchall()


def streamed(connection: Connection) -> object:
    return list(connection.cursor().stream("select n, repeat('x', 10) from generate_series(1, 5) n"))


def pipeline(connection: Connection) -> object:
    with connection.pipeline() as pipe:
        one = connection.execute("insert into public.plain (id, label) values (4000, 'a') returning id")
        two = connection.execute("select %s::int", (1,))
        pipe.sync()
        three = connection.execute("select count(*) from public.plain where id = 4000")
    return one.fetchone(), two.fetchone(), three.fetchone()


def pipeline_with_an_error(connection: Connection) -> object:
    connection.autocommit = True
    found = []
    try:
        with connection.pipeline() as pipe:
            connection.execute("insert into public.plain (id, label) values (4001, 'a')")
            connection.execute("select 1 / 0")
            connection.execute("select 2")
            pipe.sync()
    except psycopg.Error as error:
        found.append(repr(error))
    return found, connection.execute("select count(*) from public.plain where id = 4001").fetchone()


def pipeline_with_transactions(connection: Connection) -> object:
    connection.autocommit = True
    with connection.pipeline(), connection.transaction():
        connection.execute("insert into public.plain (id, label) values (4002, 'a')")
        with connection.transaction():
            connection.execute("delete from public.plain where id = 4002")
    return connection.execute("select count(*) from public.plain where id = 4002").fetchone()


def savepoints(connection: Connection) -> object:
    found: list[object] = []
    with connection.transaction(force_rollback=True):
        connection.execute("insert into public.plain (id, label) values (4003, 'a')")
        with contextlib.suppress(psycopg.errors.DivisionByZero), connection.transaction():
            connection.execute("select 1 / 0")
        with connection.transaction(force_rollback=True):
            connection.execute("delete from public.plain where id = 4003")
        found.append(connection.execute("select count(*) from public.plain where id = 4003").fetchone())
    return found, connection.execute("select count(*) from public.plain where id = 4003").fetchone()


def transaction_modes(connection: Connection) -> object:
    connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    connection.read_only = connection.deferrable = True
    shown = connection.execute("show transaction_isolation").fetchone()
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("insert into public.plain (id) values (1)")
    return shown


def notifications(connection: Connection) -> object:
    connection.autocommit = True
    connection.execute("listen channel")
    connection.execute("notify channel, 'payload'")
    return [(note.channel, note.payload) for note in connection.notifies(timeout=60, stop_after=1)]


def cancelled(connection: Connection) -> object:
    """Both ways of cancelling: libpq's old one, without TLS, and the new one."""
    connection.autocommit = True
    found = []
    for cancel in (connection.cancel, connection.cancel_safe):
        running = threading.Event()
        worker = threading.Thread(target=again_and_again, args=(cancel, running))
        worker.start()
        try:
            connection.execute("select count(*) from generate_series(1, 4000000000)")
        except psycopg.Error as error:
            found.append(repr(error))
        finally:
            running.set()
            worker.join()
    return found, connection.execute("select 1").fetchone()


def again_and_again(cancel: Callable[[], None], stop: threading.Event) -> None:
    """A cancel that comes too early cancels nothing, so it is sent until it has worked."""
    while not stop.wait(0.3):
        cancel()


def reported(connection: Connection) -> object:
    names = ("server_version", "client_encoding", "TimeZone", "DateStyle", "IntervalStyle", "integer_datetimes", "is_superuser",
             "standard_conforming_strings", "in_hot_standby", "default_transaction_read_only", "server_encoding", "search_path")
    before = [connection.info.parameter_status(name) for name in names]
    connection.execute("set datestyle = german; set timezone = 'Europe/Vienna'")
    return before, [connection.info.parameter_status(name) for name in names], connection.info.encoding, connection.info.server_version


def large_values(connection: Connection) -> object:
    value = "é" * 3_000_000
    row = connection.execute("select length(%s), repeat('y', 5000000), %s", (value, value)).fetchone()
    assert row is not None
    return row[0], len(row[1]), row[2] == value


def discarded(connection: Connection) -> object:
    connection.autocommit = True
    connection.execute("set search_path = app")
    connection.execute("discard all")
    connection.execute("set search_path = app")
    connection.execute("reset all")
    return connection.execute("show search_path").fetchone()


PARTS = (types, parameters, own_types, prepared, many, several_results, description, copy_in, copy_out, copy_given_up, named_cursors,
         streamed, pipeline, pipeline_with_an_error, pipeline_with_transactions, savepoints, transaction_modes, notifications, cancelled,
         reported, large_values, discarded)


def run(part: Callable[[Connection], object], connect: Callable[[], Connection]) -> str:
    """What a part gives; nothing it does stays."""
    with contextlib.closing(connect()) as connection:
        found = repr(part(connection))
        if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            connection.rollback()
        return found


def straight(server: PostgresServer) -> Connection:
    return psycopg.connect(server.dsn("shop"))


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_same_as_direct(shop: Appliance, postgres: PostgresServer, part: Callable[[Connection], object]) -> None:
    expected = run(part, lambda: straight(postgres))
    assert run(part, lambda: psycopg.connect(shop.dsn("shop-app", "orders-db/shop"))) == expected


def test_same_as_direct_on_the_newest(newest_shop: Appliance, newest_postgres: PostgresServer) -> None:
    differing = []
    for part in PARTS:
        expected = run(part, lambda: straight(newest_postgres))
        got = run(part, lambda: psycopg.connect(newest_shop.dsn("shop-app", "orders-db/shop")))
        if got != expected:
            differing.append(f"{part.__name__}\n{expected}\n{got}")
    assert differing == []


MISTAKES = (
    "select nope", "select * from nope", "select * from nowhere.x", "select nope()", "select app.nope(1)", "select nope.f(1)",
    "select 1::nope", "select upper(1, 2)", "select nope.x", "select n.x from app.people n", "select id from app.people a, app.items b",
    "select count(*) from app.people group by nope", "delete from app.nope where id = 1", "insert into app.nope values (1)",
    "insert into public.plain (id) values (null)", "insert into app.sales values (99, 1, now(), 1)", "select 1 / 0", "select 'x'::int",
    "selec", "select 1 +", "select $1", "copy app.nope to stdout", "execute nope", "fetch nope", "close nope",
    "deallocate nope", "release nope", "update app.people set nope = 1 where id = 1", "insert into app.people (nope) values (1)",
    "savepoint a", "show nope", "explain select nope", "set search_path = ", "select (-1)::app.price",
    "select 'x'::app.mood",
    "update app.items set price = -1 where id = 1", "delete from app.items where id = 1",
    "insert into app.people (name) values (repeat('x', 200))",
)


def test_errors_are_the_targets_own(shop: Appliance, postgres: PostgresServer) -> None:
    """Code, message, detail, hint, position and the names in it, whether the target found the mistake or the gateway."""
    fields = ("sqlstate", "severity", "message_primary", "message_detail", "message_hint", "statement_position", "constraint_name",
              "table_name", "column_name", "schema_name")
    found = []
    for connection in (straight(postgres), psycopg.connect(shop.dsn("shop-app", "orders-db/shop"))):
        connection.autocommit = True
        with contextlib.closing(connection):
            found.append([told(connection, sql, fields) for sql in MISTAKES])
    assert found[1] == found[0]


def told(connection: Connection, sql: str, fields: tuple[str, ...]) -> tuple[object, ...]:
    with pytest.raises(psycopg.Error) as failed:
        connection.execute(sql)
    said = [getattr(failed.value.diag, name) for name in fields]
    if said[3] and said[3].startswith("Failing row"):
        said[3] = "Failing row"        # it names the number that a sequence gave
    return (sql, *said)


def test_what_masks_refuse(shop: Appliance) -> None:
    """COPY out with a NULL or encoding of its own cannot be masked; COPY in may come in any format."""
    with psycopg.connect(shop.dsn("ci-bot"), autocommit=True) as connection:
        for options in ("(null '-')", "(format csv, encoding 'LATIN1')"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="this COPY cannot be masked"), \
                    connection.cursor().copy(f"copy customers to stdout {options}"):
                pass
        binary = "copy orders (id, total) from stdin (format binary)"
        with connection.transaction(force_rollback=True), connection.cursor().copy(binary) as lines:
            lines.set_types(["int4", "numeric"])
            lines.write_row((9501, Decimal(1)))
