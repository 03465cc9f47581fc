# SPDX-License-Identifier: Apache-2.0
"""Protocol 3.2, long cancel keys and direct TLS, with libpq 15 and 18, towards callers and towards PostgreSQL 15 and 18."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
import uvloop

from gateway.credentials import Credential, Secret
from gateway.net.server import serve
from gateway.net.stream import READ_HIGH, ByteStream
from gateway.net.tls import server_context
from gateway.protocols.postgres import messages
from gateway.protocols.postgres.target import Address, connect
from gateway.testing.certificates import Pair
from gateway.testing.postgres import PostgresServer
from tests.peers.cancelling import cancel_ends_a_query
from tests.peers.gateway import Appliance
from tests.peers.wire import Wire, codes, errors

Run = Callable[[Coroutine[Any, Any, None]], None]
V3 = messages.PROTOCOL_3_0


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    found: Run = request.param
    return found


# direct TLS


@pytest.mark.parametrize("at_once", [0, 3 * READ_HIGH], ids=["small", "large"])
def test_direct_tls_streams(run: Run, server_certificate: Pair, at_once: int) -> None:
    """The handshake that was read as if it were a message reaches TLS, and so does all that comes right behind it."""
    context = server_context(server_certificate.certificate, server_certificate.key, alpn=(messages.ALPN,))
    received: list[int] = []

    async def handle(stream: ByteStream) -> None:
        head = await stream.read_exactly(4)
        assert head[0] == 0x16
        stream.unread(head)
        await stream.start_tls(context, server_side=True, direct=True, timeout=60)
        session = stream.tls_object()
        assert session is not None and session.selected_alpn_protocol() == messages.ALPN
        total = 0
        while total < at_once + 5:
            total += len(await stream.read())
        received.append(total)
        stream.write(b"taken")
        await stream.drain()
        await stream.read()

    async def main() -> None:
        server = await serve(handle, "127.0.0.1", 0)
        host, port = server.addresses[0]
        await asyncio.to_thread(speak, host, port)
        await server.close(drain=5)

    def speak(host: str, port: int) -> None:
        with direct(server_certificate.ca, port, host=host) as sock:
            sock.sendall(b"hello" + bytes(at_once))
            assert sock.recv(5) == b"taken"

    run(main())
    assert received == [at_once + 5]


def direct(ca: Path, port: int, alpn: str | None = messages.ALPN, host: str = "127.0.0.1") -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(ca))
    if alpn is not None:
        context.set_alpn_protocols([alpn])
    return context.wrap_socket(socket.create_connection((host, port), 30), server_hostname=host)


@pytest.mark.parametrize("alpn", [None, "http/1.1", "postgresql2"])
def test_t18_direct_tls_without_our_alpn(gateway: Appliance, alpn: str | None) -> None:
    with Wire(direct(gateway.ca, gateway.port, alpn)) as wire:
        wire.send(messages.Startup({"user": "ci-bot", "database": "orders-db"}))
        assert codes(wire.until("ER")) == ["28000"]


def test_direct_tls_and_then_an_ssl_request(gateway: Appliance) -> None:
    with Wire(direct(gateway.ca, gateway.port)) as wire:
        wire.send(messages.SslRequest())
        assert codes(wire.until("ER")) == ["08P01"]


def test_a_client_hello_that_is_none(gateway: Appliance) -> None:
    raw = socket.create_connection(("127.0.0.1", gateway.port), 30)
    raw.sendall(b"\x16\x03\x01\xff\xff" + b"\0" * 200)
    with Wire(raw) as wire:
        wire.until("ER")


# libpq 18 through the gateway


@pytest.mark.parametrize("options", [
    {"sslnegotiation": "direct"},
    {"sslnegotiation": "direct", "min_protocol_version": "3.2", "max_protocol_version": "3.2"},
    {"max_protocol_version": "latest"},
    {"min_protocol_version": "3.0", "max_protocol_version": "3.0"},
    {"min_protocol_version": "latest"},
], ids=lambda options: ",".join(options.values()))
def test_libpq_18(gateway: Appliance, options: dict[str, str]) -> None:
    """Each way in, a query, and a cancel that the server heard."""
    assert psycopg.pq.version() >= 180000
    with psycopg.connect(gateway.dsn("ci-bot", **options), autocommit=True) as connection:
        assert connection.execute("select count(*) from public.orders").fetchone() is not None
        wanted = 30000 if options.get("max_protocol_version") == "3.0" else 30002
        if "min_protocol_version" in options or "max_protocol_version" in options:
            assert connection.pgconn.full_protocol_version == wanted
        cancels(connection)
        assert connection.execute("select 1").fetchone() == (1,)


def cancels(connection: psycopg.Connection[Any]) -> None:
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.5):                   # one that comes before its statement does nothing
            connection.cancel_safe(timeout=60)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("select count(*) from generate_series(1, 1000000000)")
    finally:
        over.set()
        asking.join()


def test_libpq_15(gateway: Appliance) -> None:
    """The system's psql, which knows 3.0 alone."""
    done = subprocess.run(["psql", "-XAtc", "select 'in'"], env=gateway.variables() | gateway.client_variables(), capture_output=True,
                          text=True, timeout=60, check=True)
    assert done.stdout.strip() == "in"


def test_asyncpg_with_direct_tls(gateway: Appliance, run: Run) -> None:
    async def main() -> None:
        context = ssl.create_default_context(cafile=str(gateway.ca))
        context.set_alpn_protocols([messages.ALPN])
        connection = await asyncpg.connect(host="127.0.0.1", port=gateway.port, user="ci-bot", password=gateway.token(),
                                           database="orders-db", ssl=context, direct_tls=True)
        assert await connection.fetchval("select 1") == 1
        await connection.close()

    run(main())


# versions and options at the door


@pytest.mark.parametrize(("minor", "options", "said", "length"), [
    (0, {}, None, 4),
    (2, {}, None, 32),
    (1, {}, (V3, ()), 4),
    (9999, {"_pq_.test_protocol_negotiation": ""}, (V3 + 2, ("_pq_.test_protocol_negotiation",)), 32),
    (0, {"_pq_.x": "1"}, (V3, ("_pq_.x",)), 4),
])
def test_versions_at_the_door(gateway: Appliance, minor: int, options: dict[str, str], said: tuple[int, tuple[str, ...]] | None,
                              length: int) -> None:
    with Wire(direct(gateway.ca, gateway.port)) as wire:
        wire.send(messages.Startup({"user": "ci-bot", "database": "orders-db", **options}, minor))
        kind, payload = wire.next()
        if said is not None:
            assert kind == "v"
            assert messages.parse_backend(ord(kind), payload) == messages.NegotiateProtocolVersion(*said)
            kind, payload = wire.next()
        assert (kind, payload) == ("R", (3).to_bytes(4, "big"))
        wire.send(messages.Password(gateway.token().encode() + b"\0"))
        keys = [payload[4:] for kind, payload in wire.until("Z") if kind == "K"]
        assert [len(key) for key in keys] == [length]


def test_a_protocol_that_is_gone(gateway: Appliance) -> None:
    with Wire(direct(gateway.ca, gateway.port)) as wire:
        wire.send((8).to_bytes(4, "big") + (4 << 16).to_bytes(4, "big"))
        assert [(one["C"], "3.0 and 3.2" in one["M"]) for one in errors(wire.until("ER"))] == [("0A000", True)]


# towards the target


@pytest.mark.parametrize(("which", "length"), [("postgres", 4), ("newest_postgres", 32)])
def test_cancel_keys_of_targets(run: Run, request: pytest.FixtureRequest, which: str, length: int) -> None:
    """PostgreSQL 15 says that it knows 3.0 alone and gives four bytes, 18 speaks 3.2 and gives 32: both are cancelled with."""
    server: PostgresServer = request.getfixturevalue(which)

    async def main() -> None:
        credential = Credential("db", "password", "postgres", Secret(server.password))
        connection = await connect(Address("127.0.0.1", server.port), "postgres", credential, None)
        assert connection.key is not None and len(connection.key.secret) == length
        await cancel_ends_a_query(connection)
        await connection.close()

    run(main())
