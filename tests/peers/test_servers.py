# SPDX-License-Identifier: Apache-2.0
"""The servers that the other tests rely on are what they say: authentication, TLS, versions, and nothing left behind."""

from __future__ import annotations

import os
import pwd
import ssl

import psycopg
import pytest

from gateway.testing.certificates import Pair
from gateway.testing.client import Client, ServerError
from gateway.testing.postgres import PostgresServer, PostgresUnavailable, system_binaries
from tests.peers.clients import direct, psql
from tests.peers.postgres import corpus


def test_corpus_database_holds_its_tables(postgres: PostgresServer) -> None:
    assert postgres.execute("select count(*) from customers", "orders")[0].rows == [("84",)]
    assert len(corpus()) == 159


def test_psql_goes_straight_to_the_server(postgres: PostgresServer) -> None:
    done = psql(postgres, "-Atc", "select name from customers where id = 1", environment=direct(postgres))
    assert (done.stdout, done.stderr) == ("Alice Archer\n", "")


@pytest.mark.parametrize(("auth", "stored"), [("md5", "md5"), ("scram-sha-256", "SCRAM-SHA-256$")])
def test_passwords_are_kept_as_the_login_method_wants(auth: str, stored: str) -> None:
    with PostgresServer(auth=auth) as server:
        server.create_role("someone", "a 'quoted' password")
        assert server.execute("select rolpassword from pg_authid where rolname = 'someone'")[0].rows[0][0].startswith(stored)  # type: ignore[union-attr]
        with psycopg.connect(server.dsn(user="someone", password="a 'quoted' password")) as connection:
            assert connection.execute("select current_user").fetchone() == ("someone",)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.dsn(user="someone", password="wrong"))


def test_trust_asks_for_no_password_and_tls_is_verified(server_certificate: Pair) -> None:
    with PostgresServer(auth="trust", tls=server_certificate, binaries=system_binaries()) as server:
        context = ssl.create_default_context(cafile=str(server_certificate.ca))
        with Client.connect("127.0.0.1", server.port, user="postgres", database="postgres", tls=context) as client:
            assert client.query("select ssl from pg_stat_ssl where pid = pg_backend_pid()")[0].rows == [("t",)]
        with pytest.raises(ssl.SSLCertVerificationError):
            Client.connect("127.0.0.1", server.port, user="postgres", database="postgres", tls=ssl.create_default_context())


def test_server_leaves_nothing_and_never_runs_as_root() -> None:
    with PostgresServer() as server:
        owner = server.folder.stat().st_uid
        assert owner != 0
        assert owner == os.geteuid() or pwd.getpwuid(owner).pw_name in ("postgres", "nobody")
        folder = server.folder
    assert not folder.exists()


def test_newest_server_is_newer_than_the_system_one(newest_postgres: PostgresServer) -> None:
    assert newest_postgres.version >= 18


def test_restart_keeps_data(tmp_path: object) -> None:
    with PostgresServer(durable=True) as server:
        server.execute("create table kept as select 1 as one")
        server.restart()
        assert server.execute("table kept")[0].rows == [("1",)]


def test_a_server_that_cannot_start_says_why() -> None:
    with pytest.raises(PostgresUnavailable, match="shared_buffers"):
        PostgresServer(settings={"shared_buffers": "nonsense"}).start()


def test_errors_and_notices_reach_the_small_client(postgres: PostgresServer) -> None:
    with Client.connect_unix(postgres.folder / "s" / f".s.PGSQL.{postgres.port}", user="postgres", database="orders") as client:
        with pytest.raises(ServerError, match="division by zero") as caught:
            client.query("select 1/0")
        assert caught.value.code == "22012"
        client.query("do $$ begin raise notice 'said'; end $$")
        assert [notice["M"] for notice in client.notices] == ["said"]
        assert client.query("copy (select 1, 'a') to stdout")[0].rows == [("1\ta",)]
