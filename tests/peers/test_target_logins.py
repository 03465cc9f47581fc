# SPDX-License-Identifier: Apache-2.0
"""Logging in at real servers, and through those who stand in between: channel binding, passwords in clear, certificates, direct TLS."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from gateway.config.load import load_folder
from gateway.credentials import Credential, Secret
from gateway.errors import TargetFault
from gateway.net.tls import client_context
from gateway.protocols.postgres.login import METHODS, Rules
from gateway.protocols.postgres.messages import ALPN
from gateway.protocols.postgres.target import DEFAULT_RULES, Address, TargetConnection, connect
from gateway.protocols.postgres.towards import Towards
from gateway.testing.certificates import Authority, Pair
from gateway.testing.postgres import PostgresServer, free_port
from tests.peers.cancelling import cancel_ends_a_query
from tests.peers.gateway import Appliance, running
from tests.peers.terminator import Terminator

PASSWORD = "a-password-for-the-target"


@dataclass(frozen=True)
class Place:
    """A server with TLS, whose certificate and our client certificates come from one authority."""

    server: PostgresServer
    authority: Authority
    pair: Pair
    clients: Authority

    def context(self, mode: str = "verify-full", client: Pair | None = None) -> object:
        own = (client.certificate.read_text(), client.key.read_text()) if client is not None else None
        return client_context(mode, self.pair.ca if mode.startswith("verify") else None, own=own, alpn=(ALPN,))


RULES = """\
local all all trust
hostssl all clear 127.0.0.1/32 password
hostssl all scram 127.0.0.1/32 scram-sha-256
hostssl all app 127.0.0.1/32 cert
hostssl all both 127.0.0.1/32 scram-sha-256 clientcert=verify-full
hostnossl all clear 127.0.0.1/32 password
hostnossl all scram 127.0.0.1/32 scram-sha-256
host all postgres 127.0.0.1/32 scram-sha-256
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    authority = Authority(tmp_path_factory.mktemp("servers"))
    clients = Authority(tmp_path_factory.mktemp("clients"), "Clients' CA")
    pair = authority.issue("localhost", "127.0.0.1")
    with PostgresServer(tls=pair) as server:
        for role in ("clear", "scram", "app", "both"):
            server.create_role(role, PASSWORD)
        data = server.folder / "d"
        shutil.copyfile(clients.ca, data / "clients.crt")
        server._own(data)
        server.execute("alter system set ssl_ca_file = 'clients.crt'")
        (data / "pg_hba.conf").write_text(RULES)
        server.execute("select pg_reload_conf()")
        yield Place(server, authority, pair, clients)


def login(place: Place, role: str, context: object, *, port: int = 0, password: str = PASSWORD, rules: Rules = DEFAULT_RULES,
          direct: bool = False) -> str:
    """Log in, ask who we are, cancel something, say goodbye; the role's name. Raises what ``connect`` raises."""
    async def main() -> str:
        credential = Credential("db", "password", role, Secret(password))
        address = Address("127.0.0.1", port or place.server.port, direct=direct)
        connection: TargetConnection = await connect(address, "postgres", credential, context, rules=rules)  # type: ignore[arg-type]
        [(name,)] = await connection.query("select session_user")
        await cancel_ends_a_query(connection)
        await connection.close()
        return name or ""

    return asyncio.run(main())


def refused(place: Place, role: str, context: object, wanted: str, **options: object) -> TargetFault:
    with pytest.raises(TargetFault, match=wanted) as caught:
        login(place, role, context, **options)  # type: ignore[arg-type]
    assert PASSWORD not in str(caught.value)
    return caught.value


BOUND = Rules(channel_binding="require")

# channel binding


@pytest.mark.parametrize("mode", ["verify-full", "verify-ca", "require"])
def test_bound_to_the_channel(place: Place, mode: str) -> None:
    assert login(place, "scram", place.context(mode), rules=BOUND) == "scram"
    assert login(place, "scram", place.context(mode), rules=Rules(channel_binding="disable")) == "scram"


@pytest.mark.parametrize("rules", [Rules(), BOUND], ids=["prefer", "require"])
@pytest.mark.parametrize("mode", ["verify-full", "require"])
def test_t20_tls_that_ends_elsewhere(place: Place, rules: Rules, mode: str) -> None:
    """Somebody with a certificate that we trust passes everything on to the real server: what each side signed is not the same."""
    between = place.authority.issue("localhost", "127.0.0.1", stem="between")
    with Terminator(between, place.server.port, inner_tls=True) as middle:
        refused(place, "scram", place.context(mode), "SQLSTATE 28", port=middle.port, rules=rules)
        assert b"p=tls-server-end-point" in middle.heard


def test_t20_stripped_binding(place: Place) -> None:
    """Who takes SCRAM-SHA-256-PLUS out of the offer is found out by the server: we said that we could have bound."""
    between = place.authority.issue("localhost", "127.0.0.1", stem="between")
    with Terminator(between, place.server.port, inner_tls=True, strips=True) as middle:
        refused(place, "scram", place.context(), "SQLSTATE 28", port=middle.port)
        assert b"y,,n=,r=" in middle.heard
        refused(place, "scram", place.context(), "channel_binding is require", port=middle.port, rules=BOUND)
        assert login(place, "scram", place.context(), port=middle.port, rules=Rules(channel_binding="disable")) == "scram"


def test_tls_that_ends_in_front_of_the_server_on_purpose(place: Place) -> None:
    """A proxy that speaks clear text to its server: nothing is offered, so nothing is bound, unless that is required."""
    between = place.authority.issue("localhost", "127.0.0.1", stem="between")
    with Terminator(between, place.server.port) as middle:
        assert login(place, "scram", place.context(), port=middle.port) == "scram"
        refused(place, "scram", place.context(), "channel_binding is require", port=middle.port, rules=BOUND)


def test_what_cannot_be_bound_is_no_login_where_that_is_required(place: Place) -> None:
    refused(place, "clear", place.context(), "asks for the password in clear, and channel_binding is require", rules=BOUND)
    shown = place.context(client=place.clients.issue("app"))
    refused(place, "app", shown, "no authentication, and channel_binding is require", rules=BOUND)


# passwords in clear


def test_a_password_in_clear_over_verified_tls(place: Place) -> None:
    assert login(place, "clear", place.context()) == "clear"
    assert login(place, "clear", place.context(), rules=Rules(methods=frozenset({"password"}))) == "clear"


@pytest.mark.parametrize("mode", ["verify-ca", "require", "disable"])
def test_t20_no_password_in_clear_to_who_did_not_prove_its_name(place: Place, mode: str) -> None:
    refused(place, "clear", place.context(mode), "in clear: refused without TLS in mode verify-full")


def test_t20_the_password_does_not_leave(place: Place) -> None:
    """It is not sent and then regretted: whoever is in between hears nothing of it."""
    between = place.authority.issue("localhost", "127.0.0.1", stem="between")
    with Terminator(between, place.server.port, inner_tls=True) as middle:
        refused(place, "clear", place.context("verify-ca"), "in clear", port=middle.port)
        assert PASSWORD.encode() not in middle.heard


@pytest.mark.parametrize(("role", "methods", "wanted"), [
    ("clear", {"scram-sha-256"}, "require_auth does not have 'password'"),
    ("scram", {"password"}, "require_auth does not have 'scram-sha-256'"),
    ("app", {"scram-sha-256", "password"}, "require_auth does not have 'none'"),
])
def test_ways_that_are_not_allowed(place: Place, role: str, methods: set[str], wanted: str) -> None:
    rules = Rules(methods=METHODS & methods)
    refused(place, role, place.context(client=place.clients.issue("app")), wanted, rules=rules)


def test_a_wrong_password_in_clear(place: Place) -> None:
    assert refused(place, "clear", place.context(), "refused the gateway's login", password="another").code == "28P01"


# certificates


def test_a_certificate_instead_of_a_password(place: Place) -> None:
    assert login(place, "app", place.context(client=place.clients.issue("app")), password="") == "app"


def test_a_certificate_and_a_password(place: Place) -> None:
    both = place.context(client=place.clients.issue("both"))
    assert login(place, "both", both, rules=BOUND) == "both"
    refused(place, "both", both, "refused the gateway's login", password="wrong")
    refused(place, "both", place.context(), "refused the gateway's login")


def test_certificates_that_the_target_does_not_take(place: Place, tmp_path: Path) -> None:
    refused(place, "app", place.context(client=place.clients.issue("other")), "refused the gateway's login", password="")
    refused(place, "app", place.context(), "refused the gateway's login", password="")
    with pytest.raises(TargetFault):
        login(place, "app", place.context(client=Authority(tmp_path).issue("app")), password="")


def test_a_certificate_through_the_gateway(place: Place, tmp_path: Path) -> None:
    """Kind ``certificate``: the key is read with the credentials and is nowhere else afterwards."""
    client = place.clients.issue("app", stem="client")

    def change(appliance: Appliance) -> None:
        shutil.copyfile(place.pair.ca, appliance.folder / "trust" / "targets.pem")
        appliance.rewrite("policy/resources.yaml", {"tls: {mode: disable}": "tls: {mode: verify-full, ca: trust/targets.pem}"})
        credential = {"kind": "certificate", "username": "app", "certificate": client.certificate.read_text(),
                      "private_key": client.key.read_text()}
        (appliance.folder / "credentials" / "orders-db.yaml").write_text(json.dumps(credential))

    place.server.execute("drop database if exists orders")
    place.server.create_database("orders")
    place.server.execute("create table public.orders (id int); insert into public.orders values (7)", "orders")
    place.server.execute("grant select on public.orders to app", "orders")
    with running(tmp_path, place.server, change=change) as gateway:
        with psycopg.connect(gateway.dsn()) as session:
            assert session.execute("select id from public.orders").fetchone() == (7,)
        body = client.key.read_text().splitlines()[1]
        places = {path: path.read_bytes() for path in gateway.state.rglob("*") if path.is_file()}
        assert not [path for path, content in places.items() if body.encode() in content]
        assert body not in gateway.log and body not in gateway.run("audit", "export")


def test_errors_of_what_comes_again_in_tls_on_both_sides(place: Place, tmp_path: Path) -> None:
    """What went by the short way and ends in an error is handed over, in the middle of an answer too, and the session goes on."""
    def change(appliance: Appliance) -> None:
        shutil.copyfile(place.pair.ca, appliance.folder / "trust" / "targets.pem")
        appliance.rewrite("policy/resources.yaml", {"tls: {mode: disable}": "tls: {mode: verify-full, ca: trust/targets.pem}"})
        credential = {"kind": "password", "username": "scram", "password": PASSWORD}
        (appliance.folder / "credentials" / "orders-db.yaml").write_text(json.dumps(credential))

    place.server.execute("drop database if exists orders")
    place.server.create_database("orders")
    place.server.execute("create table public.orders (id int); insert into public.orders select generate_series(1, 3000)", "orders")
    place.server.execute("grant select on public.orders to scram", "orders")
    with running(tmp_path, place.server, change=change) as gateway, psycopg.connect(gateway.dsn(), autocommit=True) as session:
        for _ in range(5):
            assert session.execute("select count(*) from public.orders where id > 1000").fetchone() == (2000,)
            for fails in ("select 1 / (id - id) from public.orders", "select 1 / (id - 2000) from public.orders order by id"):
                with pytest.raises(psycopg.errors.DivisionByZero):
                    session.execute(fails)
        for number in range(20):
            session.execute("select id from public.orders where id = %s", (number,), prepare=True)
            with pytest.raises(psycopg.errors.DivisionByZero):
                session.execute("select 10 / %s::int from public.orders", (0,), prepare=True)
        assert session.execute("select count(*) from public.orders").fetchone() == (3000,)


# direct TLS towards targets


def test_direct_tls(newest_postgres: PostgresServer, place: Place) -> None:
    """PostgreSQL 18's own protocol behind TLS at once, its long cancel key too."""
    with Terminator(place.pair, newest_postgres.port, direct=True) as front:
        async def main() -> None:
            credential = Credential("db", "password", "postgres", Secret(newest_postgres.password))
            address = Address("localhost", front.port, direct=True)
            connection = await connect(address, "postgres", credential, place.context(), rules=Rules(min_minor=2))  # type: ignore[arg-type]
            assert connection.key is not None and len(connection.key.secret) == 32
            await cancel_ends_a_query(connection)
            await connection.close()

        asyncio.run(main())


@pytest.mark.parametrize(("direct", "alpn"), [(True, None), (True, "http/1.1"), (True, "postgresql2")])
def test_t18_another_protocol_is_not_spoken_to(place: Place, direct: bool, alpn: str | None) -> None:
    with Terminator(place.pair, place.server.port, direct=direct, alpn=alpn) as front:
        refused(place, "scram", place.context(), "by ALPN", port=front.port, direct=direct)
        assert front.heard == b""


def test_t18_direct_tls_is_never_tried_in_clear(place: Place) -> None:
    """PostgreSQL 15 does not know it: the login ends there."""
    with pytest.raises(TargetFault):
        login(place, "scram", place.context(), direct=True)


def test_the_oldest_protocol_that_is_wanted(place: Place) -> None:
    refused(place, "scram", place.context(), "speaks protocol 3.0, and min_protocol_version is 3.2", rules=Rules(min_minor=2))
    assert login(place, "scram", place.context(), rules=Rules(max_minor=0)) == "scram"


def test_a_resource_says_all_of_it(place: Place, tmp_path: Path) -> None:
    """From the keys of a resource to the login, through ``Towards``."""
    appliance = Appliance(tmp_path, password=PASSWORD)
    appliance.prepare(f"127.0.0.1:{free_port()}", "scram")
    folder = load_folder(appliance.folder)
    [resource] = folder.policy.resources
    keys = resource.model_dump() | {
        "address": [place.server.address], "database": "postgres", "channel_binding": "require", "require_auth": ["scram-sha-256"],
        "max_protocol_version": "3.0", "tls": {"mode": "verify-full", "ca": str(place.pair.ca)}}

    async def main() -> None:
        connection = await Towards(folder).open(type(resource).model_validate(keys), "postgres", {})  # type: ignore[arg-type]
        assert await connection.query("select session_user") == [("scram",)]
        await connection.close()
        with pytest.raises(TargetFault, match="min_protocol_version"):
            again = keys | {"min_protocol_version": "3.2", "max_protocol_version": "3.2"}
            await Towards(folder).open(type(resource).model_validate(again), "postgres", {})  # type: ignore[arg-type]

    asyncio.run(main())
