# SPDX-License-Identifier: Apache-2.0
"""Bytes through a real gateway process in front of a real server: much of them, slowly, both ways, cancelled, and cut off."""

from __future__ import annotations

import contextlib
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.protocols.postgres import messages
from gateway.protocols.postgres.messages import Bind, CopyData, CopyDone, Execute, Parse, Query
from gateway.testing.postgres import PostgresServer
from tests.peers.gateway import Appliance, running
from tests.peers.resources import peak, reset_peak, resident
from tests.peers.wire import Wire, cancel, codes, errors, rows, status, tags, texts

MIB = 2**20


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Appliance]:
    """A gateway of its own; callers may also use generate_series, repeat, pg_sleep and NOTIFY, and a table of their own."""
    postgres.execute("create table if not exists public.loads (id int, line text); truncate public.loads", "orders")

    def change(appliance: Appliance) -> None:
        appliance.rewrite("policy/grants/ci-bot.yaml", {
            "functions: [pg_catalog.nextval,": "functions: [pg_catalog.pg_sleep, pg_catalog.nextval,",
            "listen, unlisten]": "listen, unlisten, notify]"})
        appliance.rewrite("gateway.yaml", {"handshake: 10s": "handshake: 2s"})

    with running(tmp_path_factory.mktemp("path"), postgres, change=change) as appliance:
        yield appliance
    postgres.execute("drop table public.loads", "orders")


def enter(appliance: Appliance, name: str = "ci-bot", **parameters: str) -> Wire:
    return Wire.connect(appliance.port, name, appliance.token(name), "orders-db", ca=appliance.ca, parameters=parameters)


def until(holds: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextlib.contextmanager
def flat_memory(appliance: Appliance, most: int) -> Iterator[None]:
    """The gateway's memory may grow by at most ``most`` bytes inside of the block."""
    reset_peak(appliance.pid)
    before = resident(appliance.pid)
    yield
    assert peak(appliance.pid) - before < most, f"{(peak(appliance.pid) - before) / MIB:.0f} MiB"


# much


def test_a_large_value_passes_in_pieces(path: Appliance) -> None:
    """50 MB of one value that no mask and no detector looks at: the row is never held as a whole."""
    with enter(path) as wire, flat_memory(path, 24 * MIB):
        [(value,)] = rows(wire.query("select convert_to(repeat('x', 50000000), 'UTF8')"))
        assert value is not None and len(value) == 2 * 50_000_000 + 2


def test_a_large_masked_value(path: Appliance, postgres: PostgresServer) -> None:
    postgres.execute("insert into customers (id, name, ssn) values (9001, 'large', repeat('7', 5000000))", "orders")
    try:
        with enter(path) as wire:
            assert texts(wire.query("select id, ssn from customers where id = 9001")) == [("9001", "****")]
            assert texts(wire.run(Parse("", "select ssn from customers where id = 9001"), Bind("", ""), Execute(""))) == [("****",)]
    finally:
        postgres.execute("delete from customers where id = 9001", "orders")


def test_a_million_rows(path: Appliance) -> None:
    with enter(path) as wire, flat_memory(path, 24 * MIB):
        wire.send(Query("select g, g + 1 from generate_series(1, 1000000) g"))
        count, last = 0, b""
        while (frame := wire.next())[0] != "Z":
            wire.seen.clear()
            if frame[0] == "D":
                count, last = count + 1, frame[1]
        assert count == 1_000_000
        assert last.endswith(b"\0\0\0\0071000001")


def test_a_caller_that_does_not_read_holds_the_target_back(path: Appliance) -> None:
    """Nothing is lost, nothing piles up, others are served."""
    with enter(path) as wire, flat_memory(path, 24 * MIB):
        wire.send(Query("select g, repeat('y', 1000) from generate_series(1, 100000) g"))
        time.sleep(2)
        with enter(path) as other:
            assert texts(other.query("select 1")) == [("1",)]
        found = wire.until("Z")
        assert tags(found) == ["SELECT 100000"]
        assert sum(kind == "D" for kind, _ in found) == 100_000


def test_copy_both_ways(path: Appliance) -> None:
    lines = [f"{number}\tline {number}\n".encode() for number in range(100_000)]
    with enter(path) as wire, flat_memory(path, 24 * MIB):
        wire.send(Query("copy public.loads from stdin"))
        assert wire.until("G")[-1][0] == "G"
        for at in range(0, len(lines), 1000):
            wire.send(*[CopyData(line) for line in lines[at:at + 1000]])
        wire.send(CopyDone())
        assert tags(wire.until("Z")) == ["COPY 100000"]
        wire.send(Query("copy public.loads to stdout"))
        found = wire.until("Z")
        assert b"".join(payload for kind, payload in found if kind == "d") == b"".join(lines)
        wire.query("delete from public.loads where id >= 0")


def test_t23_a_length_that_cannot_be_ends_the_session_before_anything_is_taken(path: Appliance) -> None:
    for length in (b"\0\0\0\0", b"\0\0\0\3", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x80\0\0\0"):
        with enter(path) as wire, flat_memory(path, 8 * MIB):
            wire.send(b"Q" + length)
            assert codes(wire.until("")) == ["08P01"]


# cancelling


def sleeping(path: Appliance, name: str = "ci-bot") -> Wire:
    wire = enter(path, name)
    wire.query("select 1")
    wire.send(Query("select pg_sleep(60)"))
    return wire


def asleep(postgres: PostgresServer) -> int:
    found = postgres.execute("select count(*) from pg_stat_activity where query = 'select pg_sleep(60)' and state = 'active'")
    return int(found[0].rows[0][0] or 0)


def test_t22_a_cancel_reaches_its_own_session_alone(path: Appliance, postgres: PostgresServer) -> None:
    with sleeping(path) as one, sleeping(path) as other:
        until(lambda: asleep(postgres) == 2)
        one.cancel(path.port, path.ca)
        assert codes(one.until("Z")) == ["57014"]
        assert asleep(postgres) == 1
        assert texts(one.query("select 1")) == [("1",)]
        cancel(path.port, *other.key)                      # as libpq does without TLS
        assert codes(other.until("Z")) == ["57014"]


def test_t22_keys_that_are_guessed_ended_or_another_sessions_do_nothing(path: Appliance, postgres: PostgresServer) -> None:
    with enter(path) as ended:
        old = ended.key
    with sleeping(path) as one, enter(path) as other:
        until(lambda: asleep(postgres) == 1)
        backend = int(postgres.execute("select pid from pg_stat_activity where query = 'select pg_sleep(60)'")[0].rows[0][0] or 0)
        for process, secret in (old, (one.key[0], other.key[1]), (other.key[0], one.key[1]), other.key, (backend, one.key[1]),
                                *((one.key[0], secrets.token_bytes(4)) for _ in range(20))):
            cancel(path.port, process, secret, ca=path.ca)
        assert asleep(postgres) == 1
        one.cancel(path.port, path.ca)
        assert codes(one.until("Z")) == ["57014"]
        assert texts(other.query("select 1")) == [("1",)]


def test_t22_a_flood_of_cancels(path: Appliance, postgres: PostgresServer) -> None:
    """Two hundred for one session, and as many that mean nothing: one of them counts, nobody else notices."""
    with sleeping(path) as one, enter(path) as other:
        until(lambda: asleep(postgres) == 1)
        before = int(postgres.execute("select count(*) from pg_stat_activity")[0].rows[0][0] or 0)
        with ThreadPoolExecutor(8) as pool:
            for number in range(200):
                pool.submit(cancel, path.port, *(one.key if number % 2 else (number, b"abcd")))
        assert codes(one.until("Z")) == ["57014"]
        assert texts(other.query("select 1")) == [("1",)]
        until(lambda: int(postgres.execute("select count(*) from pg_stat_activity")[0].rows[0][0] or 0) <= before)
        assert texts(one.query("select 2")) in ([("2",)], [])


def test_a_caller_that_vanishes_leaves_nothing_running(path: Appliance, postgres: PostgresServer) -> None:
    one = sleeping(path)
    until(lambda: asleep(postgres) == 1)
    one.close()
    until(lambda: asleep(postgres) == 0)


def test_statement_time(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> None:
    def change(appliance: Appliance) -> None:
        appliance.rewrite("policy/grants/ci-bot.yaml", {
            "functions: [pg_catalog.nextval,": "functions: [pg_catalog.pg_sleep, pg_catalog.nextval,",
            "    session: {max:": "    statement: {time: 500ms}\n    session: {max:"})

    with running(tmp_path_factory.mktemp("time"), postgres, change=change) as appliance, enter(appliance) as wire:
        assert codes(wire.query("select pg_sleep(60)")) == ["57014"]
        assert codes(wire.run(Parse("", "select pg_sleep(60)"), Bind("", ""), Execute(""))) == ["57014"]
        assert texts(wire.query("select 1")) == [("1",)]


# at any time


def test_listen_and_notify_between_two_sessions(path: Appliance) -> None:
    """The message arrives, with masks in force without its payload."""
    with enter(path) as hears, enter(path) as tells:
        hears.query("listen news")
        assert codes(tells.query("notify news, 'what nobody may read'")) == []
        assert hears.next()[0] == "A"
        assert b"news" in hears.seen[-1][1]
        assert b"what nobody may read" not in hears.seen[-1][1]


def test_a_cursor_that_holds(path: Appliance) -> None:
    with enter(path) as wire:
        wire.query("begin")
        wire.query("declare held cursor with hold for select id, ssn from customers where id < 3 order by id")
        assert texts(wire.query("fetch 1 from held")) == [("1", "****")]
        wire.query("commit")
        assert texts(wire.query("fetch all from held")) == [("2", "****")]
        assert texts(wire.run(Execute("held"))) == []
        wire.query("move backward all in held")
        assert texts(wire.run(Execute("held"))) == [("1", "****"), ("2", "****")]
        assert codes(wire.query("close held")) == []
        assert codes(wire.query("fetch 1 from held")) == ["34000"]


def test_names_that_a_failed_text_left_behind(path: Appliance) -> None:
    """T25: on the server PREPARE survives the rollback of its text, so the gateway must not believe in the old meaning."""
    with enter(path) as wire:
        wire.query("prepare s as select id from customers order by id limit 1")
        found = wire.query("deallocate s; prepare s as select upper(ssn) from customers order by id limit 1; select 1/0")
        assert codes(found) == ["22012"]
        found = [*wire.query("execute s"), *wire.run(Bind("", "s"), Execute(""))]
        assert "078-05-1120" not in repr(found)
        assert codes(found) == ["26000", "26000"]


def test_a_pipeline_that_is_refused_rolls_back_what_ran_before(path: Appliance, postgres: PostgresServer) -> None:
    """T33, on a real server."""
    texts_sent = ["insert into public.loads values (1, 'a')", "alter table public.loads add more int",
                  "insert into public.loads values (2, 'b')"]
    with enter(path) as wire:
        found = wire.run(*[part for text in texts_sent for part in (Parse("", text), Bind("", ""), Execute(""))])
        assert (codes(found), status(found)) == (["42501"], "I")
        assert postgres.execute("select count(*) from loads", "orders")[0].rows == [("0",)]
        wire.query("begin")
        wire.query(texts_sent[0])
        assert status(wire.query(texts_sent[1])) == "E"
        assert codes(wire.query(texts_sent[2])) == ["25P02"]
        assert tags(wire.query("commit")) == ["ROLLBACK"]
        assert postgres.execute("select count(*) from loads", "orders")[0].rows == [("0",)]


# the door


def test_a_listener_with_tls_on_loopback_takes_both(path: Appliance) -> None:
    """On loopback the token may come in clear; elsewhere TLS comes first (``test_t17_no_password_without_tls``)."""
    with Wire.connect(path.port, "ci-bot", path.token(), "orders-db") as wire:
        assert texts(wire.query("select 1")) == [("1",)]
        assert not isinstance(wire.sock, ssl.SSLSocket)
    with enter(path) as wire:
        assert isinstance(wire.sock, ssl.SSLSocket)


def test_t66_callers_that_never_finish_their_startup(path: Appliance) -> None:
    """Half-open connections and slow startup packets are turned away in time; others come in meanwhile."""
    halves = [socket.create_connection(("127.0.0.1", path.port), 10) for _ in range(300)]
    slow = halves[:100]
    tls = halves[100:150]
    for one in slow:
        one.sendall(b"\0\0")
    for one in tls:
        one.sendall(messages.SslRequest().encode())
    with enter(path) as wire:
        assert texts(wire.query("select 1")) == [("1",)]
    for one in halves:
        one.settimeout(20)
        with contextlib.suppress(ConnectionError):
            while one.recv(1000):
                pass
        one.close()


def test_t17_bytes_behind_the_ssl_request(path: Appliance) -> None:
    with socket.create_connection(("127.0.0.1", path.port), 10) as sock:
        sock.sendall(messages.SslRequest().encode() + messages.Startup({"user": "ci-bot", "database": "orders-db"}).encode())
        sock.settimeout(20)
        found = b""
        with contextlib.suppress(ConnectionError):
            while part := sock.recv(1000):
                found += part
        assert found[:1] == b"E"
        assert b"08P01" in found


def test_t17_no_password_without_tls(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> None:
    """A listener that others can reach asks for no token in clear: it refuses before, and says how to come back."""
    def change(appliance: Appliance) -> None:
        appliance.rewrite("gateway.yaml", {f"127.0.0.1:{appliance.port}": f"0.0.0.0:{appliance.port}"})

    with running(tmp_path_factory.mktemp("wide"), postgres, change=change) as appliance:
        with Wire.connect(appliance.port, "ci-bot", appliance.token(), "orders-db") as wire:
            assert [kind for kind, _ in wire.seen] == ["E"]
            assert codes(wire.seen) == ["28000"]
        with enter(appliance) as wire:
            assert texts(wire.query("select 1")) == [("1",)]


# endings


def test_a_target_that_restarts(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Sessions end with the server's own error; new ones work as soon as it is back, without a restart of the gateway."""
    with PostgresServer() as server:
        server.create_database("orders")
        server.execute("create table public.orders (id int)", "orders")
        with running(tmp_path_factory.mktemp("restart"), server) as appliance:
            with enter(appliance) as idle, enter(appliance) as busy:
                busy.send(Query("select count(*) from generate_series(1, 10000000000)"))
                running_now = "select count(*) from pg_stat_activity where query like '%series(1, 1000%' and state = 'active'"
                until(lambda: server.execute(running_now)[0].rows[0][0] == "2")        # it, and the question itself
                server.restart()
                for wire in (idle, busy):
                    assert codes(wire.until("")) == ["57P01"]
                    wire.close()
            with enter(appliance) as wire:
                assert texts(wire.query("select count(*) from orders")) == [("0",)]
            server.stop()
            server.keep = False
            with enter(appliance) as nobody:
                assert errors(nobody.seen)[0]["C"] == "08006"


def test_a_gateway_that_stops_tells_its_callers(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> None:
    with running(tmp_path_factory.mktemp("stop"), postgres) as appliance, enter(appliance) as idle, enter(appliance) as block:
        block.query("begin")
        stopping = threading.Thread(target=appliance.stop)
        stopping.start()
        for wire in (idle, block):
            assert codes(wire.until("")) == ["57P01"]
            wire.close()
        stopping.join(60)
        ends = [one for one in appliance.lines("audit", "export") if one["kind"] == "session.end"]
        assert [one["reason"] for one in ends] == ["the gateway is stopping"] * 2
