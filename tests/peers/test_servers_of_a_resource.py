# SPDX-License-Identifier: Apache-2.0
"""Several servers behind one resource: which of them a session goes to, and what becomes of it when the primary is gone."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from gateway.config.load import Folder, load_folder
from gateway.errors import TargetFault
from gateway.protocols.postgres.settings import PostgresResource
from gateway.protocols.postgres.towards import Towards
from gateway.testing.postgres import PostgresServer, free_port
from tests.peers.cancelling import cancel_ends_a_query
from tests.peers.gateway import Appliance, running
from tests.peers.pair import Standby, pair, stop_at_once
from tests.peers.postgres import make_corpus_database

Pair = tuple[PostgresServer, Standby]


@pytest.fixture(scope="module")
def servers() -> Iterator[Pair]:
    with pair() as (primary, standby):
        make_corpus_database(primary)
        primary.create_role("app", "app's password", "superuser")
        standby.catch_up()
        yield primary, standby


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    appliance = Appliance(tmp_path_factory.mktemp("folder"), password="app's password")
    appliance.prepare("127.0.0.1:1", "app")
    return load_folder(appliance.folder)


def resource(*ports: int, **keys: object) -> PostgresResource:
    return PostgresResource.model_validate({
        "name": "orders-db", "protocol": "postgres", "address": [f"127.0.0.1:{port}" for port in ports], "database": "orders",
        "credential": "orders-db", "tls": {"mode": "disable"}, **keys})


def port_of(folder: Folder, wanted: PostgresResource, **settings: str) -> int:
    """The port of the server that a session gets."""
    async def main() -> int:
        connection = await Towards(folder).open(wanted, "orders", settings)
        found: int = connection.address.port
        await connection.close()
        return found

    return asyncio.run(main())


@pytest.mark.parametrize(("attributes", "which"), [
    ("any", "first"), ("read-write", "primary"), ("primary", "primary"), ("read-only", "standby"), ("standby", "standby"),
    ("prefer-standby", "standby"),
])
@pytest.mark.parametrize("turned", [False, True], ids=["primary first", "standby first"])
def test_which_server(servers: Pair, folder: Folder, attributes: str, which: str, turned: bool) -> None:
    primary, standby = servers
    ports = [standby.port, primary.port] if turned else [primary.port, standby.port]
    wanted = {"first": ports[0], "primary": primary.port, "standby": standby.port}[which]
    assert port_of(folder, resource(*ports, target_session_attrs=attributes)) == wanted


def test_a_server_that_is_gone_is_passed_over(servers: Pair, folder: Folder) -> None:
    primary, standby = servers
    assert port_of(folder, resource(free_port(), free_port(), primary.port)) == primary.port
    assert port_of(folder, resource(free_port(), primary.port, standby.port, target_session_attrs="standby")) == standby.port
    assert port_of(folder, resource(primary.port, free_port(), target_session_attrs="prefer-standby")) == primary.port


@pytest.mark.parametrize("attributes", ["standby", "read-only"])
def test_nobody_is_what_is_wanted(servers: Pair, folder: Folder, attributes: str) -> None:
    primary, _ = servers
    with pytest.raises(TargetFault, match=f"the target is not {attributes}"):
        port_of(folder, resource(primary.port, target_session_attrs=attributes))
    with pytest.raises(TargetFault, match="none of its servers can be had") as caught:
        port_of(folder, resource(free_port(), primary.port, target_session_attrs=attributes))
    assert str(primary.port) not in str(caught.value)


def test_a_caller_does_not_choose_the_server(servers: Pair, folder: Folder) -> None:
    """It may begin with default_transaction_read_only; a primary is no read-only server for that, and stays one that can be written to."""
    primary, standby = servers
    both = [primary.port, standby.port]
    mine = {"default_transaction_read_only": "on"}
    assert port_of(folder, resource(*both, target_session_attrs="read-only"), **mine) == standby.port
    assert port_of(folder, resource(*both, target_session_attrs="read-write"), **mine) == primary.port

    async def main() -> None:
        connection = await Towards(folder).open(resource(*both, target_session_attrs="read-write"), "orders", mine)
        assert await connection.query("show default_transaction_read_only") == [("on",)]
        await connection.close()
        with pytest.raises(TargetFault) as caught:
            await Towards(folder).open(resource(*both, target_session_attrs="read-write"), "orders",
                                       {"default_transaction_read_only": "on'; select 1; --"})
        assert caught.value.code == "22023"

    asyncio.run(main())


def test_random_order_reaches_all(servers: Pair, folder: Folder) -> None:
    primary, standby = servers
    wanted = resource(primary.port, standby.port, load_balance="random")
    seen = set[int]()
    for _ in range(64):
        seen.add(port_of(folder, wanted))
        if len(seen) == 2:
            break
    assert seen == {primary.port, standby.port}


def test_a_wrong_password_is_not_tried_elsewhere(servers: Pair, folder: Folder) -> None:
    """Who refuses us was reached: the rest of the list is for servers that are gone."""
    primary, standby = servers
    with PostgresServer() as other, pytest.raises(TargetFault) as caught:
        other.create_role("app", "another password")
        other.create_database("orders")
        port_of(folder, resource(other.port, primary.port, standby.port))
    assert caught.value.code == "28P01"


def test_a_silent_server_costs_its_timeout(servers: Pair, folder: Folder) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            wanted = resource(silent.getsockname()[1], servers[0].port, connect_timeout="300ms")
            connection = await Towards(folder).open(wanted, "orders", {})
            assert connection.address.port == servers[0].port
            await connection.close()

    asyncio.run(main())


def test_a_name_with_several_addresses(servers: Pair, folder: Folder) -> None:
    """localhost may be ::1 first, where nobody listens; the cancel request goes to the server that the session is on."""
    async def main() -> None:
        wanted = PostgresResource.model_validate(resource(servers[0].port).model_dump() | {"address": f"localhost:{servers[0].port}"})
        connection = await Towards(folder).open(wanted, "orders", {})
        assert (connection.address.host, connection.address.ip) == ("localhost", "127.0.0.1")
        await cancel_ends_a_query(connection)
        await connection.close()

    asyncio.run(main())


# through the gateway


def test_failover_and_promotion(tmp_path: Path) -> None:
    """Sessions on the primary end with it; new ones wait for nobody to change the policy: the promoted standby is the primary now."""
    with pair() as (primary, standby):
        make_corpus_database(primary)

        def change(appliance: Appliance) -> None:
            both = f"[{primary.address}, {standby.address}]"
            appliance.rewrite("policy/resources.yaml", {primary.address: f"{both}\n    target_session_attrs: read-write"})
            appliance.run("check")
            plan = appliance.json("network")
            assert {(one["host"], one["port"]) for one in plan["destinations"]} == {
                ("127.0.0.1", primary.port), ("127.0.0.1", standby.port)}

        with running(tmp_path, primary, role="app", change=change) as gateway:
            standby.catch_up()
            session = psycopg.connect(gateway.dsn(), autocommit=True)
            assert server_of(session) == primary.port
            stop_at_once(primary)
            with pytest.raises(psycopg.OperationalError):
                session.execute("select count(*) from public.orders")
            with pytest.raises(psycopg.OperationalError, match="cannot be reached"):
                psycopg.connect(gateway.dsn())
            standby.promote()
            with psycopg.connect(gateway.dsn(), autocommit=True) as later:
                assert server_of(later) == standby.port
                assert later.execute("select ssn from public.customers limit 1").fetchone() == ("****",)
                assert later.execute("update public.orders set total = total where id = 1").rowcount == 1
            ended = [record for record in gateway.lines("audit", "export") if record["kind"] == "session.end"]
            assert any("target" in record["reason"] for record in ended)


def server_of(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    found = connection.execute("show port").fetchone()
    assert found is not None
    return int(str(found[0]))


def test_sessions_on_a_standby_are_decided_by_its_own_catalog(tmp_path: Path) -> None:
    """While replay is paused there, the standby does not have what the primary has: its sessions see, and are masked by, what is there."""
    with pair() as (primary, standby):
        make_corpus_database(primary)
        standby.catch_up()

        def change(appliance: Appliance) -> None:
            both = f"[{primary.address}, {standby.address}]"
            appliance.rewrite("policy/resources.yaml", {primary.address: f"{both}\n    target_session_attrs: standby"})

        with running(tmp_path, primary, role="app", change=change) as gateway:
            standby.catch_up()
            standby.execute("select pg_wal_replay_pause()")
            while standby.value("select pg_get_wal_replay_pause_state()") != "paused":
                time.sleep(0.05)
            primary.execute("create view public.orders_of_today as select * from public.orders", "orders")
            with psycopg.connect(gateway.dsn(), autocommit=True) as session:
                assert server_of(session) == standby.port
                with pytest.raises(psycopg.errors.UndefinedTable):
                    session.execute("select * from public.orders_of_today")
                assert session.execute("select ssn from public.customers limit 1").fetchone() == ("****",)
                standby.execute("select pg_wal_replay_resume()")
                standby.catch_up()
                time.sleep(1.1)
                assert session.execute("select count(*) from public.orders_of_today").fetchone() is not None
