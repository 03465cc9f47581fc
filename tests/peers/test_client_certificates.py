# SPDX-License-Identifier: Apache-2.0
"""Callers that show a client certificate in place of a token, with real clients, and those that would like to pass for one (T12)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psycopg
import pytest
from cryptography import x509

from gateway.protocols.postgres import messages
from gateway.testing.certificates import Authority, Pair
from gateway.testing.postgres import PostgresServer
from tests.peers.gateway import Appliance, running
from tests.peers.wire import Wire, codes

PKI = """\
issuers:
  - {name: plant-pki, kind: certificate, ca: trust/robots.pem, max_lifetime: 2d}
identities:
  - {name: deploy-bot, issuer: plant-pki, match: {cn: deploy-bot, dns: "*.robots.example"}, groups: [robots]}
grants:
  - name: deploy reads orders
    to: [deploy-bot]
    targets: [orders-db]
    rules: [{name: read, allow: {sql: {verbs: [select], relations: [public.orders]}}}]
"""


@dataclass(frozen=True)
class Site:
    gateway: Appliance
    authority: Authority

    def shown(self, pair: Pair) -> dict[str, str]:
        """What libpq is told to show it."""
        return {"sslcert": str(pair.certificate), "sslkey": str(pair.key), "password": ""}

    def dsn(self, pair: Pair, **options: str) -> str:
        keys = {"host": "127.0.0.1", "port": str(self.gateway.port), "user": "whoever", "dbname": "orders-db", "sslmode": "verify-full",
                "sslrootcert": str(self.gateway.ca)}
        return " ".join(f"{key}='{value}'" for key, value in (keys | self.shown(pair) | options).items())

    def connect(self, pair: Pair, **options: str) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.dsn(pair, **options), autocommit=True)

    def context(self, pair: Pair | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.gateway.ca))
        context.set_alpn_protocols([messages.ALPN])
        if pair is not None:
            context.load_cert_chain(pair.certificate, pair.key)
        return context

    def wire(self, pair: Pair | None) -> Wire:
        raw = socket.create_connection(("127.0.0.1", self.gateway.port), 30)
        return Wire(self.context(pair).wrap_socket(raw, server_hostname="127.0.0.1"))

    def records(self, kind: str) -> list[dict[str, object]]:
        return [record for record in self.gateway.lines("audit", "export") if record["kind"] == kind]

    def policy_loaded(self) -> int:
        return len(self.records("policy.loaded"))

    def reload(self) -> None:
        before = self.policy_loaded()
        self.gateway.reload()
        deadline = time.monotonic() + 60
        while self.policy_loaded() == before:
            assert time.monotonic() < deadline, self.gateway.log[-2000:]
            time.sleep(0.1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Site]:
    authority = Authority(tmp_path_factory.mktemp("robots"), "Robots' CA")

    def change(appliance: Appliance) -> None:
        shutil.copyfile(authority.ca, appliance.folder / "trust" / "robots.pem")
        (appliance.folder / "policy" / "pki.yaml").write_text(PKI)

    with running(tmp_path_factory.mktemp("site"), postgres, change=change) as gateway:
        yield Site(gateway, authority)


@pytest.fixture(scope="module")
def robot(site: Site) -> Pair:
    return site.authority.issue("deploy-bot", "one.robots.example", stem="robot")


@pytest.mark.parametrize("options", [{}, {"sslnegotiation": "direct"}, {"max_protocol_version": "latest"}], ids=str)
def test_libpq_18(site: Site, robot: Pair, options: dict[str, str]) -> None:
    with site.connect(robot, **options) as session:
        assert session.execute("select count(*) from public.orders").fetchone() is not None
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("select count(*) from public.customers")
    start = site.records("session.start")[-1]
    serial = x509.load_pem_x509_certificate(robot.certificate.read_bytes()).serial_number
    assert (start["identity"], start["issuer"], start["subject"], start["certificate"]) == (
        "deploy-bot", "plant-pki", "CN=deploy-bot", f"{serial:x}")
    assert start["claimed"] == {"user": "whoever", "application_name": ""} and start["token_id"] is None


def test_libpq_15(site: Site, robot: Pair) -> None:
    done = subprocess.run(["psql", "-XAtc", "select 'in'", site.dsn(robot)], env=site.gateway.variables(), capture_output=True, text=True,
                          timeout=60, check=True)
    assert done.stdout.strip() == "in"


def test_asyncpg(site: Site, robot: Pair) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=site.gateway.port, user="x", database="orders-db", ssl=site.context(robot))
        assert await connection.fetchval("select 1") == 1
        await connection.close()

    asyncio.run(main())


def test_callers_without_a_certificate_bring_a_token(site: Site) -> None:
    with psycopg.connect(site.gateway.dsn("ci-bot", sslcertmode="disable")) as session:
        assert session.execute("select 1").fetchone() == (1,)


def refused(site: Site, pair: Pair, reason: str) -> None:
    """28000 without being asked for a password, and a record of why."""
    with site.wire(pair) as wire:
        wire.send(messages.Startup({"user": "x", "database": "orders-db"}))
        assert codes(wire.until("ER")) == ["28000"]
    assert reason in str(site.records("session.refused")[-1]["reason"])


def test_t12_a_name_that_is_nobody(site: Site) -> None:
    """A certificate decides alone: whoever shows one is not asked for a token in its place."""
    refused(site, site.authority.issue("ci-bot", "one.robots.example", stem="nobody"), "matches no identity")
    refused(site, site.authority.issue("deploy-bot", "robots.example", stem="elsewhere"), "matches no identity")


def test_t12_the_right_name_from_another_authority(site: Site, tmp_path: Path) -> None:
    """TLS itself refuses it: nothing is said of PostgreSQL."""
    pair = Authority(tmp_path, "Robots' CA").issue("deploy-bot", "one.robots.example")
    with pytest.raises(psycopg.OperationalError):
        site.connect(pair)
    with contextlib.suppress(ssl.SSLError, ConnectionError), site.wire(pair) as wire:
        wire.send(messages.Startup({"user": "x", "database": "orders-db"}))
        assert wire.until("RE") in ([], wire.seen) and "R" not in [kind for kind, _ in wire.seen]


def test_t12_the_gateways_own_certificate(site: Site) -> None:
    """It is for servers, and of another authority."""
    folder = site.gateway.folder / "tls"
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(site.dsn(Pair(folder / "gateway.crt", folder / "gateway.key", folder / "ca.crt")))


def test_t12_a_certificate_on_a_connection_in_clear(site: Site) -> None:
    """Loopback may speak in clear; then there is no certificate and a token is asked for."""
    with Wire(socket.create_connection(("127.0.0.1", site.gateway.port), 30)) as wire:
        wire.send(messages.Startup({"user": "deploy-bot", "database": "orders-db"}))
        assert wire.next() == ("R", (3).to_bytes(4, "big"))


def test_t12_nothing_is_resumed(site: Site, robot: Pair) -> None:
    """No session of TLS is taken up again: each is verified anew."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = site.context(robot)
        context.maximum_version = version
        session = None
        for _ in range(2):
            raw = socket.create_connection(("127.0.0.1", site.gateway.port), 30)
            with context.wrap_socket(raw, server_hostname="127.0.0.1", session=session) as sock:
                wire = Wire(sock)
                wire.send(messages.Startup({"user": "x", "database": "orders-db"}))
                answer = wire.until("ZE")
                reused, session = sock.session_reused, sock.session
            assert not codes(answer) or reused, "who resumes is not let in"
            assert not reused or codes(answer) == ["28000"]


def test_revocation_and_reload_reach_live_sessions(site: Site) -> None:
    first, second = (site.authority.issue("deploy-bot", f"{stem}.robots.example", stem=stem) for stem in ("first", "second"))
    serial = x509.load_pem_x509_certificate(first.certificate.read_bytes()).serial_number
    with site.connect(first) as one, site.connect(second) as other:
        for session in (one, other):
            assert session.execute("select 1").fetchone() == (1,)
        revoked = site.gateway.folder / "policy" / "revoked.yaml"
        revoked.write_text(json.dumps({"revoked": [{"certificate": f"{serial:x}"}]}))
        try:
            site.reload()
            with pytest.raises(psycopg.OperationalError, match=r"revoked|ended"):
                one.execute("select 1")
            assert other.execute("select 1").fetchone() == (1,)
            refused(site, first, "the certificate is revoked")
        finally:
            revoked.unlink()
            site.reload()
    with site.connect(first) as again:
        assert again.execute("select 1").fetchone() == (1,)


def test_a_new_authority_and_one_that_is_gone(site: Site, robot: Pair, tmp_path: Path) -> None:
    """What the bundle holds counts from the reload on, for who comes then."""
    bundle = site.gateway.folder / "trust" / "robots.pem"
    before = bundle.read_text()
    coming = Authority(tmp_path, "Robots' next CA")
    pair = coming.issue("deploy-bot", "one.robots.example")
    try:
        bundle.write_text(coming.ca.read_text())
        site.reload()
        with site.connect(pair) as session:
            assert session.execute("select 1").fetchone() == (1,)
        with pytest.raises(psycopg.OperationalError):
            site.connect(robot)
    finally:
        bundle.write_text(before)
        site.reload()
    with site.connect(robot) as session:
        assert session.execute("select 1").fetchone() == (1,)
