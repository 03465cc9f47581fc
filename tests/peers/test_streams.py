# SPDX-License-Identifier: Apache-2.0
"""Streams, servers and the target login over real sockets, on asyncio's loop and on uvloop's."""

from __future__ import annotations

import asyncio
import gc
import ssl
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway.credentials import Credential, Secret
from gateway.errors import ClientFault, Fault, TargetFault
from gateway.net import server as servers
from gateway.net.server import Server, serve
from gateway.net.stream import READ_HIGH, WRITE_HIGH, ByteStream
from gateway.net.tls import client_context, server_context
from gateway.protocols.postgres import scram
from gateway.protocols.postgres.messages import SslRequest
from gateway.protocols.postgres.target import Address, connect
from gateway.testing.certificates import Authority, Pair
from gateway.testing.postgres import PostgresServer, system_binaries

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    found: Run = request.param
    return found


async def dial(server: Server) -> ByteStream:
    host, port = server.addresses[0]
    return (await asyncio.get_running_loop().create_connection(lambda: ByteStream(TargetFault), host, port))[1]


def test_echo_and_close(run: Run) -> None:
    async def main() -> None:
        async def echo(stream: ByteStream) -> None:
            while data := await stream.read():
                stream.write(data)
                await stream.drain()

        server = await serve(echo, "127.0.0.1", 0)
        near = await dial(server)
        total = b"x" * (4 * READ_HIGH)
        near.write(total)
        received = 0
        while received < len(total):
            received += len(await near.read())
        assert near.peer == "127.0.0.1" and server.connections == 1
        near.close()
        await near.closed()
        await server.close(drain=5)
        assert server.connections == 0

    run(main())


def test_close_cancels_what_still_runs(run: Run) -> None:
    async def main() -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def waits(stream: ByteStream) -> None:
            begun.set()
            try:
                await stream.gone.wait()
            finally:
                ended.set()

        server = await serve(waits, "127.0.0.1", 0)
        near = await dial(server)
        await asyncio.wait_for(begun.wait(), 10)
        assert server.connections == 1
        await server.close()
        assert ended.is_set() and await near.read() == b""
        near.close()
        await near.closed()

    run(main())


def test_a_caller_that_leaves_while_reading_is_paused_is_noticed(run: Run) -> None:
    """Its FIN is behind bytes that nobody reads: the kernel is asked."""
    async def main() -> None:
        noticed = asyncio.Event()

        async def holds(stream: ByteStream) -> None:
            for _ in range(1000):
                await asyncio.sleep(0.01)
                if stream.has_gone():
                    noticed.set()
                    return

        server = await serve(holds, "127.0.0.1", 0)
        near = await dial(server)
        near.write(b"x" * (READ_HIGH + 65536))
        await asyncio.sleep(0.2)
        assert not noticed.is_set()
        near.close()
        await asyncio.wait_for(noticed.wait(), 10)
        await server.close()

    run(main())


def test_a_writer_that_is_not_read_is_held_back(run: Run) -> None:
    async def main() -> None:
        queued: list[int] = []

        async def floods(stream: ByteStream) -> None:
            for _ in range(2000):
                stream.write(b"x" * 65536)
                queued.append(65536)
                await stream.drain()

        server = await serve(floods, "127.0.0.1", 0)
        near = await dial(server)
        await asyncio.sleep(0.5)
        held = len(queued) * 65536
        assert held < 64 << 20 and near.buffered <= READ_HIGH + WRITE_HIGH
        near.abort()
        await near.closed()
        await server.close(drain=5)

    run(main())


def tls_server(pair: Pair, seen: list[bytes]) -> Callable[[ByteStream], Coroutine[Any, Any, None]]:
    context = server_context(pair.certificate, pair.key)

    async def handle(stream: ByteStream) -> None:
        assert await stream.read_exactly(8) == SslRequest().encode()
        await stream.start_tls(context, server_side=True, announce=b"S", timeout=60)
        seen.append(await stream.read_exactly(5))
        stream.write(b"y" * (2 * READ_HIGH))
        await stream.drain()
        await stream.read()

    return handle


@pytest.mark.parametrize("mode", ["verify-full", "verify-ca", "require"])
def test_tls(run: Run, server_certificate: Pair, mode: str) -> None:
    async def main() -> None:
        seen: list[bytes] = []
        server = await serve(tls_server(server_certificate, seen), "127.0.0.1", 0)
        near = await dial(server)
        near.write(SslRequest().encode())
        assert await near.read_exactly(1) == b"S"
        context = client_context(mode, server_certificate.ca)
        assert context is not None
        await near.start_tls(context, server_side=False, server_hostname="localhost", timeout=60)
        assert near.tls and near.tls_object() is not None
        near.write(b"hello")
        received = 0
        while received < 2 * READ_HIGH:
            received += len(await near.read())
        assert seen == [b"hello"]
        near.close()
        await near.closed()
        await server.close(drain=5)

    run(main())


def test_a_stream_that_is_left_in_its_tls_handshake(run: Run, server_certificate: Pair) -> None:
    """Who waits for the handshake is told at once, not when its time is over."""
    async def main() -> None:
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def handle(stream: ByteStream) -> None:
            await stream.read_exactly(8)
            asyncio.get_running_loop().call_later(0.1, stream.abort)
            try:
                await stream.start_tls(server_context(server_certificate.certificate, server_certificate.key), server_side=True,
                                       announce=b"S", timeout=600)
            except Fault as fault:
                ended.set_result(str(fault))

        server = await serve(handle, "127.0.0.1", 0)
        near = await dial(server)
        near.write(SslRequest().encode())
        async with asyncio.timeout(60):
            assert await ended == "the connection ended in the TLS handshake"
            assert await near.read_exactly(1) == b"S"
            assert await near.read() == b""
        near.close()
        await near.closed()
        await server.close(drain=5)

    run(main())


@pytest.mark.parametrize("wrong", ["name", "authority"])
def test_a_certificate_that_is_not_trusted(run: Run, server_certificate: Pair, tmp_path: Path, wrong: str) -> None:
    ca = server_certificate.ca if wrong == "name" else Authority(tmp_path).ca

    async def main() -> None:
        server = await serve(tls_server(server_certificate, []), "127.0.0.1", 0)
        near = await dial(server)
        near.write(SslRequest().encode())
        await near.read_exactly(1)
        context = client_context("verify-full", ca)
        assert context is not None
        name = "other.example" if wrong == "name" else "localhost"
        with pytest.raises(TargetFault, match="not trusted"):
            await near.start_tls(context, server_side=False, server_hostname=name, timeout=60)
        near.abort()
        await near.closed()
        await server.close(drain=5)

    run(main())


@pytest.mark.parametrize("first", [b"not a handshake at all\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\0" * 100, b""])
def test_what_is_no_handshake(run: Run, server_certificate: Pair, first: bytes) -> None:
    faults: list[BaseException] = []

    async def main() -> None:
        handle, failed = tls_server(server_certificate, []), asyncio.Event()

        async def keeps(stream: ByteStream) -> None:
            try:
                await handle(stream)
            except BaseException as fault:
                faults.append(fault)
                failed.set()
                raise

        server = await serve(keeps, "127.0.0.1", 0)
        near = await dial(server)
        near.write(SslRequest().encode())
        assert await near.read_exactly(1) == b"S"
        near.write(first)
        if not first:
            near.close()
        await asyncio.wait_for(failed.wait(), 10)
        near.abort()
        await near.closed()
        await server.close(drain=5)

    run(main())
    assert [type(fault) for fault in faults] == [ClientFault]


def test_bytes_behind_the_ssl_request_are_refused(run: Run, server_certificate: Pair) -> None:
    """T17: they would be taken for bytes that came in TLS."""
    async def main() -> None:
        server = await serve(tls_server(server_certificate, []), "127.0.0.1", 0)
        near = await dial(server)
        near.write(SslRequest().encode() + b"X\0\0\0\4")
        assert await asyncio.wait_for(near.read(), 10) == b""
        near.abort()
        await near.closed()
        await server.close(drain=5)

    run(main())


def test_tasks_of_a_server_are_all_gone(run: Run) -> None:
    async def main() -> None:
        async def fails(stream: ByteStream) -> None:
            await stream.read()
            raise ValueError("a bug")

        server = await serve(fails, "127.0.0.1", 0)
        nears = [await dial(server) for _ in range(20)]
        for near in nears:
            near.write(b"x")
        for near in nears:
            assert await asyncio.wait_for(near.read(), 10) == b""
            near.close()
            await near.closed()
        await server.close(drain=5)
        gc.collect()
        assert len(asyncio.all_tasks()) == 1 and servers.LINGER > 0

    run(main())


# logging in at real servers


@pytest.fixture(scope="module", params=["scram-sha-256", "trust"])
def login_server(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    with PostgresServer(auth=request.param) as server:
        yield server


def test_logins(run: Run, login_server: PostgresServer) -> None:
    async def main() -> None:
        keys = scram.KeyCache()
        credential = Credential("db", "password", "postgres", Secret(login_server.password))
        for _ in range(2):
            connection = await connect(Address("127.0.0.1", login_server.port), "postgres", credential, None,
                                       parameters={"application_name": "lockgate", "Client_Encoding": "LATIN1"}, keys=keys)
            assert connection.key is not None and len(connection.key.secret) == 4
            assert await connection.query("select current_setting('application_name'), null, 'ü'; show client_encoding") == [
                ("lockgate", None, "ü"), ("UTF8",)]
            waiting = asyncio.create_task(connection.query("select pg_sleep(60)"))
            await asyncio.sleep(0.2)
            await connection.cancel()
            with pytest.raises(TargetFault) as caught:
                await waiting
            assert caught.value.code == "57014"
            assert await connection.query("select 1") == [("1",)]
            await connection.close()

    run(main())


def test_t20_md5_is_refused(run: Run) -> None:
    async def main(server: PostgresServer) -> None:
        with pytest.raises(TargetFault, match="md5 password, which is refused"):
            credential = Credential("db", "password", "postgres", Secret(server.password))
            await connect(Address("127.0.0.1", server.port), "postgres", credential, None)

    with PostgresServer(auth="md5") as server:
        run(main(server))


def test_a_wrong_password_and_a_missing_database(run: Run, login_server: PostgresServer) -> None:
    async def main() -> None:
        address = Address("127.0.0.1", login_server.port)
        right, wrong = (Credential("db", "password", "postgres", Secret(word)) for word in (login_server.password, "wrong-password"))
        if login_server.auth != "trust":
            with pytest.raises(TargetFault) as caught:
                await connect(address, "postgres", wrong, None)
            assert caught.value.code == "28P01" and "wrong-password" not in str(caught.value)
        with pytest.raises(TargetFault) as caught:
            await connect(address, "nowhere", right, None)
        assert caught.value.code == "3D000"

    run(main())


def test_login_over_tls(run: Run, server_certificate: Pair) -> None:
    assert system_binaries() is not None, "the embedded PostgreSQL speaks no TLS: install the system's"
    with PostgresServer(tls=server_certificate) as server:
        credential = Credential("db", "password", "postgres", Secret(server.password))

        async def main() -> None:
            context = client_context("verify-full", server_certificate.ca)
            connection = await connect(Address("localhost", server.port), "postgres", credential, context)
            assert await connection.query("select ssl from pg_stat_ssl where pid = pg_backend_pid()") == [("t",)]
            waiting = asyncio.create_task(connection.query("select pg_sleep(60)"))
            await asyncio.sleep(0.2)
            await connection.cancel()
            with pytest.raises(TargetFault):
                await waiting
            await connection.close()
            with pytest.raises(TargetFault, match="not trusted"):
                await connect(Address("localhost", server.port), "postgres", credential, client_context("verify-full"))

        run(main())


def test_a_target_without_tls(run: Run, postgres: PostgresServer, server_certificate: Pair) -> None:
    """T18: a target that answers N is not spoken to in clear."""
    async def main() -> None:
        credential = Credential("db", "password", "postgres", Secret(postgres.password))
        with pytest.raises(TargetFault, match="does not offer TLS"):
            await connect(Address("127.0.0.1", postgres.port), "postgres", credential, client_context("verify-full", server_certificate.ca))

    run(main())


def test_nobody_listens(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(TargetFault, match="cannot be reached"):
            await connect(Address("127.0.0.1", 1), "postgres", Credential("db", "password", "postgres", Secret("x")), None)

    run(main())


def test_contexts() -> None:
    context = client_context()
    assert context is not None and context.minimum_version == ssl.TLSVersion.TLSv1_2
