# SPDX-License-Identifier: Apache-2.0
"""What a target sees of the gateway: which login, which credential, which algorithms, how many connections; and X11 from there.

The target is asyncssh, which tells; the clients are OpenSSH's and asyncssh's.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from gateway.testing.openssh import SshServer
from tests.peers.ssh.test_attacks import connected
from tests.peers.ssh.way import Way, running

PASSWORDS = {"deploy": "the password of deploy", "backup": "the password of backup"}
ORDER = "exit after the end"
SHOW = "show the credential"
DISPLAY = "draw"


@dataclass(slots=True)
class Seen:
    """What the target noticed."""

    logins: list[str] = field(default_factory=list)
    """Of each connection that was let in."""
    ciphers: list[str] = field(default_factory=list)
    compressed: list[str] = field(default_factory=list)
    connections: list[asyncssh.SSHServerConnection] = field(default_factory=list)


class Target(asyncssh.SSHServer):
    """Lets in who knows the password of the login."""

    def __init__(self, seen: Seen, prompts: bool) -> None:
        self._seen, self._prompts = seen, prompts
        self._connection: asyncssh.SSHServerConnection

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._seen.connections.append(conn)

    def password_auth_supported(self) -> bool:
        return not self._prompts

    def kbdint_auth_supported(self) -> bool:
        return self._prompts

    def validate_password(self, username: str, password: str) -> bool:
        return self._good(username, password)

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        return "", "", "", [("Password: ", False)]

    def validate_kbdint_response(self, username: str, responses: Any) -> bool:
        return self._good(username, responses[0])

    def _good(self, username: str, password: str) -> bool:
        if PASSWORDS.get(username) != password:
            return False
        self._seen.logins.append(username)
        self._seen.ciphers.append(self._connection.get_extra_info("send_cipher"))
        self._seen.compressed.append(self._connection.get_extra_info("send_compression"))
        return True


async def serve(process: asyncssh.SSHServerProcess[str], xauthority: str = "") -> None:
    """The programs of the target."""
    user = process.get_extra_info("username")
    if process.command == SHOW:
        for letter in PASSWORDS[user]:
            process.stdout.write(letter)
            await asyncio.sleep(0.002)
    elif process.command == ORDER:
        process.stdout.write("last words")
        process.stdout.write_eof()
        await asyncio.sleep(0.3)
        process.exit(7)
        return
    elif process.command == DISPLAY:
        process.stdout.write(await drawn(process, xauthority))
    else:
        process.stdout.write(f"{user}\n")
    process.exit(0)


async def drawn(process: asyncssh.SSHServerProcess[str], xauthority: str) -> str:
    """Connect to the display that came with the session, show its cookie, give the answer."""
    display = process.channel.get_x11_display()
    if display is None:
        return "no display"
    number = int(display.rpartition(":")[2].partition(".")[0])
    from asyncssh.x11 import lookup_xauth

    protocol, cookie = await lookup_xauth(asyncio.get_running_loop(), xauthority, "localhost", str(number))
    reader, writer = await asyncio.open_connection("127.0.0.1", 6000 + number)
    padded = protocol + bytes(-len(protocol) % 4) + cookie + bytes(-len(cookie) % 4)
    writer.write(struct.pack("<BxHHHHxx", ord("l"), 11, 0, len(protocol), len(cookie)) + padded)
    answer = await reader.read(100)
    writer.close()
    return answer.decode()


@pytest.fixture(scope="module")
def host() -> Iterator[SshServer]:
    """The keys and the port of a server; what answers there is asyncssh."""
    with SshServer() as server:
        server.stop()
        yield server


@asynccontextmanager
async def target(server: SshServer, *, prompts: bool = False, **more: Any) -> AsyncIterator[Seen]:
    seen = Seen()
    listening = await asyncssh.create_server(
        lambda: Target(seen, prompts), "127.0.0.1", server.port, server_host_keys=[str(server.folder / "host_key")],
        process_factory=partial(serve, xauthority=more.get("x11_auth_path", "")), gss_host=None, **more)
    try:
        yield seen
    finally:
        listening.close()
        for connection in seen.connections:
            connection.abort()
        await listening.wait_closed()


def two_logins(way: Way) -> None:
    """Targets have three seconds. web-1 has the logins deploy (with the credential web-1) and backup (with one of its own)."""
    way.appliance.rewrite("gateway.yaml", {"  handshake: 10s": "  handshake: 10s\n  target_connect: 3s"})
    for login, name in (("deploy", "web-1"), ("backup", "other")):
        path = way.appliance.folder / "credentials" / f"{name}.yaml"
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text(json.dumps({"kind": "password", "username": login, "password": PASSWORDS[login]}))
    way.document["resources"] = [way.document["resources"][0] | {"logins": ["deploy", "backup"], "credentials": {"backup": "other"}}]
    way.document["grants"] = [grant for grant in way.document["grants"] if grant["targets"] == ["web-1"]]
    way.grant("ssh")["rules"].append({"name": "display", "allow": {"ssh": {"actions": ["x11"]}}})


@pytest.fixture(scope="module")
def logins(tmp_path_factory: pytest.TempPathFactory, host: SshServer) -> Iterator[Way]:
    with running(tmp_path_factory.mktemp("logins"), host, two_logins) as made:
        yield made


async def said(way: Way, command: str, to: str = "web-1", name: str = "ci-bot") -> bytes:
    done = await asyncio.to_thread(way.ssh, command, to=to, name=name)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_each_login_has_its_credential_and_the_first_is_the_default(logins: Way, host: SshServer) -> None:
    async with target(host) as seen:
        assert await said(logins, "whoami") == b"deploy\n"
        assert await said(logins, "whoami", to="backup@web-1") == b"backup\n"
        assert await said(logins, "whoami", to="deploy@web-1") == b"deploy\n"
        assert [start["login"] for start in logins.records("session.start")][-3:] == ["deploy", "backup", "deploy"]
        assert seen.logins == ["deploy", "backup"], "the third had the first's connection: same identity, resource and login"
        assert await said(logins, "uptime", name="reporting") == b"deploy\n"
        assert seen.logins == ["deploy", "backup", "deploy"], "another identity shares with nobody"


async def test_a_password_by_its_prompt(logins: Way, host: SshServer) -> None:
    async with target(host, prompts=True) as seen:
        assert await said(logins, "whoami", to="backup@web-1") == b"backup\n"
    assert seen.logins == ["backup"]


async def test_the_gateways_own_credential_is_masked_wherever_it_comes_from(logins: Way, host: SshServer) -> None:
    """The target prints it, letter by letter, to somebody without any masks; nothing that is kept has it."""
    async with target(host):
        for to in ("web-1", "backup@web-1"):
            assert await said(logins, SHOW, to=to) == b"****"
    for path in logins.appliance.state.rglob("*"):
        if path.is_file():
            assert not [one for one in PASSWORDS.values() if one.encode() in path.read_bytes()], path
    assert not [one for one in PASSWORDS.values() if one in logins.appliance.run("audit", "export") + logins.appliance.log]


async def test_towards_targets_a_hybrid_key_exchange_gcm_and_no_compression_t46(logins: Way, host: SshServer) -> None:
    """The target speaks nothing but the hybrid, would like ChaCha20 best, and to compress."""
    async with target(host, kex_algs=["mlkem768x25519-sha256"], compression_algs=["zlib@openssh.com", "none"],
                      encryption_algs=["chacha20-poly1305@openssh.com", "aes256-gcm@openssh.com", "aes128-gcm@openssh.com"]) as seen:
        assert await said(logins, "whoami") == b"deploy\n"
    assert (seen.ciphers, seen.compressed) == (["aes128-gcm@openssh.com"], ["none"])


async def test_a_target_that_answers_no_more_is_not_waited_for(logins: Way, host: SshServer) -> None:
    """Its host was switched off, say: the connection that is shared is still there, and nobody on it."""
    async with target(host) as seen:
        assert await said(logins, "whoami") == b"deploy\n"
        seen.connections[0]._transport.pause_reading()          # type: ignore[union-attr]
        done = await asyncio.to_thread(logins.ssh, "whoami")
        assert (done.returncode, done.stdout) == (255, b"")
        assert done.stderr == b"lockgate: web-1 did not answer in time (limits.target_connect)\n"
        assert await said(logins, "whoami") == b"deploy\n"
    assert logins.last("command.end", error="target")["status"] == "error"


async def test_an_old_target_is_not_spoken_to_t46(logins: Way, host: SshServer) -> None:
    """Nothing but CBC, and a MAC that is not of our list: no password is sent to it."""
    async with target(host, encryption_algs=["aes128-cbc"], mac_algs=["hmac-sha1"]) as seen:
        done = await asyncio.to_thread(logins.ssh, "whoami")
    assert done.returncode == 255 and b"lockgate: web-1: the connection failed" in done.stderr
    assert seen.logins == []


async def test_the_exit_status_comes_before_the_end_of_the_stream(logins: Way, host: SshServer) -> None:
    """The target says the end of its output first, and how it ended a while later."""
    came: list[object] = []

    class Client(asyncssh.SSHClientSession[str]):
        def data_received(self, data: str, datatype: asyncssh.DataType) -> None:
            came.append(data)

        def exit_status_received(self, status: int) -> None:
            came.append(status)

        def eof_received(self) -> bool:
            came.append("end")
            return False

    async with target(host), connected(logins) as connection:
        channel, _ = await connection.create_session(Client, ORDER)
        await asyncio.wait_for(channel.wait_closed(), 60)
    assert came == ["last words", 7, "end"]


async def test_x11_where_a_rule_lets_it_through(logins: Way, host: SshServer, tmp_path: Path) -> None:
    """The program at the target draws on the caller's display; its cookie there is not the caller's own."""
    shown: list[bytes] = []

    async def display(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown.append(await reader.readexactly(12 + 20 + 16))
        writer.write(b"drawn")
        writer.close()

    port = 6000 + next(number for number in range(100, 1000) if _free(6000 + number))
    cookie = b"0123456789abcdef"
    number = str(port - 6000).encode()
    (tmp_path / "caller").write_bytes(_xauth(number, cookie))
    here, there = await asyncio.start_server(display, "127.0.0.1", port), tmp_path / "target"
    async with target(host, x11_forwarding=True, x11_auth_path=str(there)), connected(logins) as connection:
        process = await connection.create_process(DISPLAY, x11_forwarding=True, x11_display=f"127.0.0.1:{number.decode()}",
                                                  x11_auth_path=str(tmp_path / "caller"))
        done = await asyncio.wait_for(process.wait(), 60)
    here.close()
    assert (done.stdout, len(shown)) == ("drawn", 1)
    assert shown[0].endswith(cookie)
    assert logins.last("command.begin", verb="x11")["decision"]["rules"] == ["ssh/display"]


def _free(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _xauth(number: bytes, cookie: bytes) -> bytes:
    """An entry of an Xauthority file for any host (Xau(3): family, then counted strings)."""
    counted = b"".join(len(one).to_bytes(2, "big") + one for one in (b"", number, b"MIT-MAGIC-COOKIE-1", cookie))
    return (65535).to_bytes(2, "big") + counted


