# SPDX-License-Identifier: Apache-2.0
"""asyncpg with its pool, unchanged: straight and through the gateway, on both servers."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from gateway.testing.postgres import SUPERUSER, PostgresServer
from tests.peers.gateway import Appliance

Where = dict[str, Any]


def straight(server: PostgresServer) -> Where:
    return {"host": "127.0.0.1", "port": server.port, "user": SUPERUSER, "password": server.password, "database": "shop", "ssl": False}


def through(gateway: Appliance, identity: str = "shop-app", database: str = "orders-db/shop") -> Where:
    return {"host": "127.0.0.1", "port": gateway.port, "user": identity, "password": gateway.token(identity), "database": database,
            "ssl": ssl.create_default_context(cafile=str(gateway.ca))}


@contextlib.asynccontextmanager
async def connected(where: Where, **options: Any) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(**where, **options)
    try:
        yield connection
    finally:
        await connection.close()


async def pool(where: Where) -> list[object]:
    """Release runs the reset query (pg_advisory_unlock_all, CLOSE ALL, UNLISTEN *, RESET ALL): what a user left is gone."""
    found: list[object] = []
    async with asyncpg.create_pool(min_size=1, max_size=2, **where) as connections:
        for number in range(3):
            async with connections.acquire() as connection:
                found.append(await connection.fetchval("select $1::int + 1", number))
                await connection.execute("set search_path = app")
                await connection.execute("listen channel")
        found.append(await connections.fetchval("show search_path"))
        found.append(await connections.fetch("select pg_listening_channels()"))
        found.append(await asyncio.gather(*(connections.fetchval("select count(*) from app.people") for _ in range(10))))
        await connections.expire_connections()
        found.append(await connections.fetchval("select 5"))
    return found


async def own_types(where: Where) -> list[object]:
    """Types that asyncpg does not know: it asks the catalog (with jit off, by set_config)."""
    async with connected(where) as connection:
        found: list[object] = [str(dict(row)) for row in await connection.fetch("select * from app.people order by id")]
        found += [str(dict(row)) for row in await connection.fetch("select id, title, price, heat from app.items order by id")]
        found.append(await connection.fetchval("select $1::app.mood[]", ["ok", "sad"]))
        found.append(str(await connection.fetchval("select $1::app.place", ("street", 1))))
        found.append(str(await connection.fetchval("select array[row('s', 1)::app.place]")))
        found.append(str(await connection.fetchval("select $1::app.price", Decimal("3.5"))))
        found.append(str(await connection.fetchval("select $1::app.span", asyncpg.Range(1.0, 2.0))))
        found.append(str(await connection.fetchval("select row(1, 'x', null)")))
        await connection.set_type_codec("mood", schema="app", encoder=str, decoder=lambda text: f"!{text}")
        await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=str, decoder=str)
        found.append(str(await connection.fetchrow("""select 'ok'::app.mood, '{"a": 1}'::jsonb""")))
        await connection.reload_schema_state()
        return found


async def statements(where: Where) -> list[object]:
    """The statement cache with little room, prepared statements, executemany."""
    async with connected(where, statement_cache_size=3) as connection:
        found: list[object] = [await connection.fetchval(f"select $1::int + {number % 5}", number) for number in range(12)]
        prepared = await connection.prepare("select id, name from app.people where id = $1")
        found += [str(prepared.get_attributes()), str(prepared.get_parameters()), str(await prepared.fetch(1)), prepared.get_statusmsg()]
        rows = [(5000 + number, str(number)) for number in range(200)]
        await connection.executemany("insert into public.plain (id, label) values ($1, $2)", rows)
        found.append(await connection.fetchval("select count(*) from public.plain where id >= 5000"))
        found.append(await connection.execute("delete from public.plain where id >= 5000"))
        return found


async def cursors(where: Where) -> list[object]:
    async with connected(where) as connection, connection.transaction():
        cursor = await connection.cursor("select n from generate_series(1, 20) n")
        found: list[object] = [str(await cursor.fetch(5))]
        await cursor.forward(3)
        found.append(str(await cursor.fetchrow()))
        found.append([row[0] async for row in connection.cursor("select n from generate_series(1, 20) n", prefetch=3)])
        return found


async def transactions(where: Where) -> list[object]:
    async with connected(where) as connection:
        with pytest.raises(ValueError, match="mine"):
            async with connection.transaction():
                await connection.execute("insert into public.plain (id) values (1)")
                with contextlib.suppress(asyncpg.UndefinedColumnError):
                    async with connection.transaction():
                        await connection.execute("select nope")
                assert await connection.fetchval("select count(*) from public.plain where id = 1") == 1
                raise ValueError("mine")
        found: list[object] = [await connection.fetchval("select count(*) from public.plain where id = 1")]
        async with connection.transaction(isolation="serializable", readonly=True, deferrable=True):
            found.append(await connection.fetchval("show transaction_isolation"))
        return found


async def listening(where: Where) -> list[object]:
    async with connected(where) as connection:
        heard: asyncio.Queue[object] = asyncio.Queue()

        def hear(_connection: object, _pid: int, channel: str, payload: object) -> None:
            heard.put_nowait((channel, payload))

        await connection.add_listener("channel", hear)
        await connection.execute("notify channel, 'payload'")
        found: list[object] = [await asyncio.wait_for(heard.get(), 30)]
        await connection.remove_listener("channel", hear)
        return found


async def timeouts(where: Where) -> list[object]:
    """A timeout sends a CancelRequest; the connection goes on."""
    async with connected(where) as connection:
        with pytest.raises(TimeoutError):
            await connection.fetch("select count(*) from generate_series(1, 4000000000)", timeout=0.7)
        return [await connection.fetchval("select 7"), str(connection.get_server_version()), connection.get_settings().server_encoding]


async def copies(where: Where) -> list[object]:
    """COPY both ways; ``copy_records_to_table`` is binary, and sends a simple Query behind the Flush of its Describe."""
    found: list[object] = []
    blocks: list[bytes] = []

    async def take(data: bytes) -> None:
        blocks.append(bytes(data))

    async def lines() -> AsyncIterator[bytes]:
        yield b"7001\ta\n"
        yield b"7002\tb\n"

    async with connected(where) as connection:
        records = [(6000 + number, str(number)) for number in range(300)]
        found.append(await connection.copy_records_to_table("plain", records=records, columns=["id", "label"], schema_name="public"))
        found.append(await connection.copy_to_table("plain", source=lines(), columns=["id", "label"], format="text"))
        found.append(await connection.copy_from_table("items", schema_name="app", output=take))
        found.append(await connection.copy_from_table("items", schema_name="app", output=take, columns=["id"], format="csv", header=True))
        for form in ("text", "csv", "binary"):
            found.append(await connection.copy_from_query("select id, title from app.items where id = $1", 1, output=take, format=form))
        found.append(await connection.execute("delete from public.plain where id >= 6000"))
    return [*found, blocks]


PARTS = (pool, own_types, statements, cursors, transactions, listening, timeouts, copies)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
async def test_same_as_direct(shop: Appliance, postgres: PostgresServer, part: Callable[[Where], Awaitable[list[object]]]) -> None:
    assert await part(through(shop)) == await part(straight(postgres))


async def test_same_as_direct_on_the_newest(newest_shop: Appliance, newest_postgres: PostgresServer) -> None:
    for part in PARTS:
        assert await part(through(newest_shop)) == await part(straight(newest_postgres)), part.__name__


async def test_what_masks_refuse(shop: Appliance) -> None:
    """Where columns are masked: COPY out in text format with a NULL of one's own. All else works."""
    blocks: list[bytes] = []

    async def take(data: bytes) -> None:
        blocks.append(bytes(data))

    async with connected(through(shop, "ci-bot", "orders-db")) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="this COPY cannot be masked"):
            await connection.copy_from_query("select id, ssn from customers where id = 1", output=take, format="text", null="-")
        assert blocks == []
        await connection.copy_from_query("select id, ssn from customers where id = 1", output=take, format="csv", delimiter=";", null="-")
        assert b"".join(blocks) == b"1;****\n"
        blocks.clear()
        for form in ("binary", "csv"):
            await connection.copy_from_query("select id, ssn from customers where id = 1", output=take, format=form)
        assert b"".join(blocks).count(b"****") == 2 and b"078" not in b"".join(blocks)
        blocks.clear()
        await connection.copy_from_query("select id, ssn from customers where id = $1", 1, output=take, format="text")
        assert b"".join(blocks) == b"1\t****\n"
        with contextlib.suppress(ZeroDivisionError):
            async with connection.transaction():
                assert await connection.copy_records_to_table("orders", records=[(9601, 1, Decimal(2))]) == "COPY 1"
                raise ZeroDivisionError
        rows = await connection.fetch("select id, ssn, card, notes from customers where id = 1")
        assert [tuple(row)[:3] for row in rows] == [(1, "****", "************1111")]


async def test_a_held_statement_without_waiting(shop: Appliance) -> None:
    async with connected(through(shop, "ci-bot", "orders-db"), server_settings={"lockgate.wait": "off"}) as connection:
        with pytest.raises(asyncpg.PostgresError) as held:
            await connection.execute("delete from orders")
        assert held.value.sqlstate == "LG001"
        assert await connection.fetchval("select count(*) from orders") == 20


async def test_a_pool_without_its_rule(shop: Appliance) -> None:
    """What the page warns of: the reset query is refused, and says what is missing."""
    async with connected(through(shop, "bench")) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="pg_advisory_unlock_all"):
            await connection.reset()


async def test_bound_values_are_on_record_as_people_write_them(shop: Appliance) -> None:
    """asyncpg names no types and sends binary values: the types come from the target's ParameterDescription."""
    async with connected(through(shop)) as connection:
        sql = "select $1::int, $2::text, $3::bool, $4::bigint, 'readable'"
        await connection.fetch(sql, 20000, "word", True, None)
    [record] = [one for one in shop.lines("audit", "export") if one["kind"] == "command.begin" and "'readable'" in one["text"]
                and one["parameters"]]
    assert record["parameters"] == ["20000", "word", "True", None]
