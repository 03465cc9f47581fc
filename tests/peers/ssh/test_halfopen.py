# SPDX-License-Identifier: Apache-2.0
"""One address that holds all places for callers who are not known yet, and callers that want new keys often (T66)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from gateway.protocols.postgres import messages
from gateway.testing.openssh import SshServer
from tests.peers.ssh.way import QUIET, Way, running

PLACES = 8
GREEDY = "127.0.0.2"
VERSION, KEXINIT = b"SSH-2.0-lockgate\r\n", 20


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory, sshd: SshServer) -> Iterator[Way]:
    """A gateway with few places for callers who are not known yet, who have all the time they want."""
    def change(way: Way) -> None:
        way.appliance.rewrite("gateway.yaml", {"handshake: 10s": f"handshake: 600s\n  half_open: {PLACES}"})

    with running(tmp_path_factory.mktemp("narrow"), sshd, change) as way:
        way.appliance.token("ci-bot")
        yield way


def connection(port: int) -> socket.socket:
    """From the greedy address."""
    made = socket.create_connection(("127.0.0.1", port), 60, source_address=(GREEDY, 0))
    made.settimeout(60)
    return made


def exactly(peer: socket.socket, count: int) -> bytes:
    said = b""
    while len(said) < count and (more := peer.recv(count - len(said))):
        said += more
    return said


def begins_ssh(peer: socket.socket) -> bool:
    """Whether the gateway begins to exchange keys with it; it sends SSH_MSG_DISCONNECT otherwise."""
    peer.sendall(b"SSH-2.0-silent\r\n")
    return exactly(peer, len(VERSION) + 6)[-1] == KEXINIT


def begins_tls(peer: socket.socket) -> bool:
    peer.sendall(messages.SslRequest().encode())
    return peer.recv(1) == b"S"


def to_its_end(peer: socket.socket) -> bytes:
    said = b""
    try:
        while more := peer.recv(65536):
            said += more
    except ConnectionResetError:
        pass
    return said


@contextmanager
def all_places(port: int, begins: Callable[[socket.socket], bool]) -> Iterator[list[socket.socket]]:
    """The greedy address has them. What closed a moment ago may still have one, so it tries again."""
    with ExitStack() as stack:
        silent: list[socket.socket] = []

        def one_more() -> bool:
            peer = connection(port)
            if not begins(peer):
                peer.close()
                return False
            silent.append(stack.enter_context(peer))
            return True

        for _ in range(PLACES):
            Way.until(one_more, "there is no place")
        yield silent


def test_an_address_that_has_all_places_keeps_nobody_else_out_t66(narrow: Way) -> None:
    with all_places(narrow.port, begins_ssh) as silent:
        with connection(narrow.port) as one_more:
            assert b"too many connections are not authenticated yet (limits.half_open)" in to_its_end(one_more)
        for turn in range(3):
            assert narrow.ssh("uptime").returncode == 0, turn
        to_its_end(silent[0])
    narrow.until(lambda: "not authenticated: 8 of 127.0.0.2" in narrow.appliance.log, "nobody was told")


def test_places_are_those_of_all_listeners_t66(narrow: Way) -> None:
    """A caller of PostgreSQL is not kept out by callers of SSH, and the other way round."""
    port = narrow.appliance.port
    with all_places(narrow.port, begins_ssh):
        with connection(port) as one_more:
            assert b"53300" in to_its_end(one_more)
        with socket.create_connection(("127.0.0.1", port), 60) as sql:
            sql.settimeout(60)
            sql.sendall(messages.Startup({"user": "ci-bot", "database": "orders-db"}).encode())
            assert sql.recv(1) == b"R"                            # it is asked for its token
    with all_places(port, begins_tls) as silent:
        assert narrow.ssh("uptime").returncode == 0
        assert to_its_end(silent[0]) == b""


def test_where_the_gateway_is_full_an_address_gives_way_t66(tmp_path: Path, sshd: SshServer) -> None:
    def change(way: Way) -> None:
        way.appliance.rewrite("gateway.yaml", {"handshake: 10s": "handshake: 600s", "connections: 10000": f"connections: {PLACES}"})

    with running(tmp_path / "gateway", sshd, change) as way, all_places(way.port, begins_ssh):
        for turn in range(3):
            assert way.ssh("uptime").returncode == 0, turn


def test_a_client_that_wants_new_keys_with_each_mebibyte(way: Way, tmp_path: Path) -> None:
    """That is not too often; fifty times as much passes as may be asked for at once."""
    data = bytes(range(256)) * 4096 * 48
    done = way.ssh("cat", given=data, before=[*QUIET, "-o", "RekeyLimit=1M"])
    assert done.returncode == 0 and done.stdout == data
