# SPDX-License-Identifier: Apache-2.0
"""Abuses of the protocol itself, by clients and by a target: research names T9, T13, T14, T46, T47, T48, T51, T52, T66."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from asyncssh.packet import String, UInt32

from gateway.testing.openssh import SshServer, write_key
from tests.peers.ssh.way import Way, running


@asynccontextmanager
async def connected(way: Way, name: str = "ci-bot", user: str = "web-1", **more: Any) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """asyncssh as a client through the gateway."""
    given: dict[str, Any] = {"username": user, "password": await asyncio.to_thread(way.appliance.token, name), "client_keys": None,
                             "agent_path": None, "config": None, "known_hosts": str(way.known_hosts), "gss_host": None} | more
    async with asyncssh.connect("127.0.0.1", way.port, **given) as connection:
        yield connection


def refusals(way: Way) -> int:
    return len(way.records("session.refused"))


# --- who comes in


async def test_an_offered_key_lets_nobody_in_t13(way: Way, tmp_path: Path) -> None:
    """Neither a key that nobody knows, nor one that the target itself would let in."""
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    for key in (stranger, asyncssh.read_private_key(str(way.server.key))):
        with pytest.raises(asyncssh.PermissionDenied):
            async with connected(way, client_keys=[key], preferred_auth="publickey"):
                pass


async def test_an_offer_of_a_good_certificate_without_a_signature_t13(way: Way, tmp_path: Path) -> None:
    """An offer is answered, and nobody is in: no channel can be opened, no session is recorded."""
    _, line = certificate(way, tmp_path)
    blob = asyncssh.import_certificate(line).public_data
    starts = len(way.records("session.start"))
    async with asyncio.timeout(60):
        peer = await Raw.connect(way)
        peer.send(50, String("web-1"), String("ssh-connection"), String("publickey"), b"\0",
                  String("ssh-ed25519-cert-v01@openssh.com"), String(blob))
        assert (await peer.receive())[0] == 60                       # SSH_MSG_USERAUTH_PK_OK
        peer.send(90, String("session"), UInt32(0), UInt32(2**20), UInt32(2**15))
        assert (await peer.receive())[0] == 1                        # SSH_MSG_DISCONNECT
        peer.close()
    assert len(way.records("session.start")) == starts


async def test_a_certificate_with_a_wrong_signature_t13(way: Way, tmp_path: Path) -> None:
    _, line = certificate(way, tmp_path)
    blob = asyncssh.import_certificate(line).public_data
    before = refusals(way)
    async with asyncio.timeout(60):
        peer = await Raw.connect(way)
        signature = String("ssh-ed25519") + String(b"\1" * 64)
        peer.send(50, String("web-1"), String("ssh-connection"), String("publickey"), b"\1",
                  String("ssh-ed25519-cert-v01@openssh.com"), String(blob), String(signature))
        assert (await peer.receive())[0] == 51                       # SSH_MSG_USERAUTH_FAILURE
        peer.close()
    assert refusals(way) == before + 1


async def test_a_certificate_of_the_gateway_lets_in(way: Way, tmp_path: Path) -> None:
    key, line = certificate(way, tmp_path)
    keys = [(key, asyncssh.import_certificate(line))]
    async with connected(way, client_keys=keys, password=None, preferred_auth="publickey") as connection:
        assert (await connection.run("echo by certificate")).stdout == "by certificate\n"
    assert way.last("session.start")["certificate"]


async def test_the_user_name_may_not_change_t14(way: Way) -> None:
    token = way.appliance.token("ci-bot")
    async with asyncio.timeout(60):
        peer = await Raw.connect(way)
        peer.send(50, String("web-2"), String("ssh-connection"), String("password"), b"\0", String("wrong"))
        assert (await peer.receive())[0] in (51, 53)
        peer.send(50, String("web-1"), String("ssh-connection"), String("password"), b"\0", String(token))
        assert (await peer.receive())[0] == 1
        peer.close()


async def test_success_cannot_be_had_by_asking_again_t14(way: Way) -> None:
    """A second attempt while the first is looked at: the first is forgotten, and only what is proven counts."""
    token = way.appliance.token("ci-bot")
    async with asyncio.timeout(60):
        peer = await Raw.connect(way)
        peer.send(50, String("web-1"), String("ssh-connection"), String("password"), b"\0", String(token))
        peer.send(50, String("web-1"), String("ssh-connection"), String("password"), b"\0", String("wrong"))
        answers = [(await peer.receive())[0]]
        peer.close()
    assert answers[0] in (1, 51, 52)
    starts = {one["session"] for one in way.records("session.start")}
    way.until(lambda: starts <= {one["session"] for one in way.records("session.end")}, "a session has no end")


async def test_attempts_are_few(way: Way) -> None:
    async with asyncio.timeout(60):
        peer = await Raw.connect(way)
        kinds = []
        for _ in range(4):
            peer.send(50, String("web-1"), String("ssh-connection"), String("password"), b"\0", String("wrong"))
            kinds.append((await peer.receive())[0])
            if kinds[-1] == 1:
                break
        peer.close()
    assert kinds == [51, 51, 1]


async def test_a_login_that_is_not_offered_t48(way: Way) -> None:
    """No forward, no channel: nobody is in (the port forward of a login that does not exist)."""
    with pytest.raises(asyncssh.Error, match="has no login"):
        async with connected(way, user="nobody@web-1"):
            pass
    assert "has no login" in way.last("session.refused", user="nobody@web-1")["reason"]


@pytest.mark.parametrize("header", [
    b"PROXY TCP4 192.0.2.7 192.0.2.8 1 22\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12)], ids=["v1", "v2"])
async def test_a_forged_proxy_header_is_no_ssh_t16(way: Way, header: bytes) -> None:
    """The source is who connects; nothing before a client's version is looked over (CVE-2024-35175)."""
    before = len(way.records("session.start"))
    with socket.create_connection(("127.0.0.1", way.port), 60) as peer:
        peer.sendall(header + b"SSH-2.0-forged\r\n")
        said = b""
        while more := await asyncio.to_thread(_received, peer):
            said += more
    assert said.startswith(b"SSH-2.0-lockgate\r\n")
    assert len(way.records("session.start")) == before
    async with connected(way) as connection:
        assert (await connection.run("uptime")).exit_status == 0
    assert way.last("session.start")["source"] == "127.0.0.1"


def _received(peer: socket.socket) -> bytes:
    try:
        return peer.recv(65536)
    except ConnectionResetError:
        return b""


# --- algorithms


@pytest.mark.parametrize("algorithms", [
    {"encryption_algs": ["aes128-cbc"]}, {"mac_algs": ["hmac-sha1"], "encryption_algs": ["aes256-ctr"]},
    {"kex_algs": ["diffie-hellman-group14-sha1"]}, {"encryption_algs": ["3des-cbc"]}, {"compression_algs": ["zlib@openssh.com"]}],
    ids=["cbc", "sha1-mac", "sha1-kex", "3des", "compression"])
async def test_old_algorithms_are_not_spoken_t46(way: Way, algorithms: dict[str, Any]) -> None:
    with pytest.raises((asyncssh.KeyExchangeFailed, asyncssh.ConnectionLost)):
        async with connected(way, **algorithms):
            pass


@pytest.mark.parametrize("cipher", ["chacha20-poly1305@openssh.com", "aes256-ctr"])
async def test_without_strict_key_exchange_only_gcm_is_spoken_t46(way: Way, cipher: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Terrapin: a client that does not know strict key exchange."""
    from asyncssh.connection import SSHClientConnection

    monkeypatch.setattr(SSHClientConnection, "_get_extra_kex_algs", lambda self: [b"ext-info-c"])
    with pytest.raises((asyncssh.Error, OSError)):
        async with connected(way, encryption_algs=[cipher]):
            pass
    async with connected(way, encryption_algs=["aes256-gcm@openssh.com"]) as connection:
        assert (await connection.run("echo gcm")).stdout == "gcm\n"


async def test_strict_key_exchange_and_a_hybrid_one_where_both_can_t46(way: Way) -> None:
    async with connected(way, kex_algs=["mlkem768x25519-sha256"], encryption_algs=["chacha20-poly1305@openssh.com"]) as connection:
        assert connection.get_extra_info("send_cipher") == "chacha20-poly1305@openssh.com"
        assert (await connection.run("echo strict")).stdout == "strict\n"


# --- floods and lies of clients


async def test_a_packet_of_four_gigabytes_t51(way: Way) -> None:
    with socket.create_connection(("127.0.0.1", way.port), 60) as peer:
        peer.sendall(b"SSH-2.0-big\r\n" + b"\xff\xff\xff\xff" + b"x" * 64)
        peer.settimeout(60)
        while peer.recv(65536):
            pass
    assert way.ssh("uptime").returncode == 0


async def test_too_many_channels_t51(way: Way) -> None:
    async with connected(way) as connection:
        processes = []
        with pytest.raises(asyncssh.ChannelOpenError) as refused:
            for _ in range(100):
                processes.append(await connection.create_process("cat"))
        assert refused.value.code == asyncssh.OPEN_RESOURCE_SHORTAGE
        assert len(processes) == 64


async def test_a_window_larger_than_there_are_t51(way: Way) -> None:
    async with connected(way) as connection:
        process = await connection.create_process("cat", encoding=None)
        process.channel.send_packet(93, UInt32(2**32 - 1))
        process.channel.send_packet(93, UInt32(2**32 - 1))
        await connection.wait_closed()
    assert way.ssh("uptime").returncode == 0


async def test_two_hundred_terminal_modes_t51(way: Way) -> None:
    async with connected(way) as connection:
        channel, _ = await connection.create_session(asyncssh.SSHClientSession, "echo many", term_type="xterm",
                                                     term_modes=dict.fromkeys(range(1, 160), 1), encoding=None)
        await channel.wait_closed()
        assert channel.get_exit_status() == 0


async def test_requests_and_variables_are_bounded_t51(way: Way) -> None:
    async with connected(way) as connection:
        env = {f"LC_{number:04}": "x" * 2000 for number in range(200)}
        assert (await connection.run("echo bounded", env=env)).stdout == "bounded\n"


async def test_an_empty_command_is_no_shell_t47(way: Way) -> None:
    """asyncssh as a client would ask for a shell; the gateway asks for what was decided."""
    async with connected(way, name="reporting") as connection:
        result = await raw_exec(connection, b"")
        assert result == 126
    async with connected(way, name="reporting") as connection:
        assert await raw_exec(connection, b"up\xfftime") == 126
    assert "\\xff" in way.last("command.begin", identity="reporting")["text"]


async def raw_exec(connection: asyncssh.SSHClientConnection, command: bytes) -> int | None:
    """An exec request with exactly these bytes."""
    from asyncssh.channel import SSHClientChannel

    channel: Any = SSHClientChannel(connection, asyncio.get_running_loop(), "strict", None, "strict", 2**20, 2**15)
    await channel._open(b"session")
    session = asyncssh.SSHClientSession()
    channel._session = session
    session.connection_made(channel)
    assert await channel._make_request(b"exec", String(command))
    channel.resume_reading()
    await asyncio.wait_for(channel.wait_closed(), 60)
    status = channel.get_exit_status()
    return int(status) if status is not None else None


@pytest.mark.parametrize("kind", ["tcp", "unix", "remote", "remote-unix"])
async def test_forwards_without_a_rule_t47(way: Way, kind: str) -> None:
    async with connected(way, name="reporting") as connection:
        if kind == "tcp":
            with pytest.raises(asyncssh.ChannelOpenError) as refused:
                await connection.open_connection("127.0.0.1", 80)
            assert refused.value.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED
        elif kind == "unix":
            with pytest.raises(asyncssh.ChannelOpenError) as refused:
                await connection.open_unix_connection("/tmp/any.sock")
            assert refused.value.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED
        elif kind == "remote":
            with pytest.raises(asyncssh.ChannelListenError):
                await connection.start_server(lambda *_: None, "127.0.0.1", 0)
        else:
            with pytest.raises(asyncssh.ChannelListenError):
                await connection.start_unix_server(lambda: None, "/tmp/any.sock")
        assert (await connection.run("uptime")).exit_status == 0


# --- half-open connections


def test_connections_that_say_nothing_are_ended_t66(tmp_path: Path, sshd: SshServer) -> None:
    """They count against the limit, and make room once their time is over."""
    def change(way: Way) -> None:
        way.appliance.rewrite("gateway.yaml", {"handshake: 10s": "handshake: 2s", "connections: 10000": "connections: 20"})

    with running(tmp_path / "gateway", sshd, change) as way:
        way.appliance.token("ci-bot")
        silent = [socket.create_connection(("127.0.0.1", way.port), 60) for _ in range(20)]
        refused = way.ssh("uptime", before=[])
        assert refused.returncode == 255
        assert b"too many connections (limits.connections)" in refused.stderr
        for one in silent:
            one.settimeout(60)
            data = b""
            while more := one.recv(4096):
                data += more
            assert data.startswith(b"SSH-2.0-lockgate")
            one.close()
        way.until(lambda: way.ssh("uptime").returncode == 0, "no room was made")


# --- the target


def test_another_host_key_is_refused_and_alarmed_t52(tmp_path: Path, sshd: SshServer) -> None:
    """Nothing is sent to it, not even the credential; the log, the records and the caller say so."""
    def change(way: Way) -> None:
        other = write_key(tmp_path / "other")
        (way.appliance.folder / "trust" / "known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {other}\n")

    with running(tmp_path / "gateway", sshd, change) as way:
        before = sshd.log.count("Accepted publickey")
        done = way.ssh("uptime")
        assert done.returncode == 255
        assert b"did not show the host key that is pinned for it" in done.stderr
        alarm = way.last("target.untrusted")
        assert (alarm["resource"], alarm["identity"]) == ("web-1", "ci-bot")
        assert "not who it should be" in way.appliance.log
        assert way.last("command.end")["error"] == "target"
        assert way.last("session.end")["reason"].startswith("target: ")
        assert sshd.log.count("Accepted publickey") == before


@pytest.fixture(scope="module")
def with_host_ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SshServer, Path]]:
    """A server whose host key an authority signed."""
    folder = tmp_path_factory.mktemp("hostca")
    write_key(folder / "ca")
    with SshServer() as server:
        authority = asyncssh.read_private_key(str(folder / "ca"))
        host = asyncssh.read_public_key(str(server.folder / "host_key.pub"))
        made = authority.generate_host_certificate(host, "host", principals=["127.0.0.1"])
        made.write_certificate(str(server.folder / "host_key-cert.pub"))
        server.stop()
        server.configure({"HostCertificate": str(server.folder / "host_key-cert.pub")})
        server.start()
        yield server, folder


def by_host_ca(way: Way, authority: Path) -> None:
    (way.appliance.folder / "trust" / "host_ca.pub").write_text(authority.read_text())
    resource = way.document["resources"][0]
    del resource["host_keys"]
    resource["host_ca"] = "trust/host_ca.pub"


def test_a_host_authority_and_its_rotation_t52(tmp_path: Path, with_host_ca: tuple[SshServer, Path]) -> None:
    server, folder = with_host_ca
    with running(tmp_path / "gateway", server, lambda way: by_host_ca(way, folder / "ca.pub")) as way:
        assert way.ssh("uptime").returncode == 0
        write_key(folder / "next")
        (way.appliance.folder / "trust" / "host_ca.pub").write_text((folder / "next.pub").read_text())
        way.document["resources"][0]["share"] = "6s"
        way.reload()
        assert way.ssh("uptime").returncode == 255
        assert way.last("target.untrusted")["resource"] == "web-1"


def test_a_key_offered_in_another_algorithm_t52(tmp_path: Path) -> None:
    """The pinned key is Ed25519, and the server has an ECDSA one as well: only the pinned kind is asked for."""
    with SshServer() as server:
        other = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
        other.write_private_key(str(server.folder / "ecdsa"))
        server.stop()
        server.configure({"HostKey": f"{server.folder}/ecdsa\nHostKey {server.folder}/host_key"})
        server.start()
        with running(tmp_path / "gateway", server) as way:
            assert way.ssh("uptime").returncode == 0


async def test_a_hostile_target_floods_and_is_left_t51(tmp_path: Path) -> None:
    """Lines without end before its version, and a version that never comes."""
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(b"welcome\r\n" * 1000)
                await writer.drain()
        except OSError:
            return

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    def change(way: Way) -> None:
        way.appliance.rewrite("gateway.yaml", {"  handshake: 10s": "  handshake: 10s\n  target_connect: 3s"})

    with SshServer() as server, running(tmp_path / "gateway", server, change) as way:
        server.stop()
        for answer in (flood, silence):
            hostile = await asyncio.start_server(answer, "127.0.0.1", server.port)
            done = await asyncio.to_thread(way.ssh, "uptime")
            assert done.returncode == 255
            assert b"lockgate: web-1" in done.stderr
            hostile.close()
        server.start()
        assert (await asyncio.to_thread(way.ssh, "uptime")).returncode == 0


async def test_a_hostile_target_asks_for_the_password_again_and_again_t51(tmp_path: Path) -> None:
    """Two billion prompts, an echoed one, the same one for ever: the password is given once, to one prompt that is not echoed."""
    given: list[str] = []

    class Asks(asyncssh.SSHServer):
        rounds = 0

        def password_auth_supported(self) -> bool:
            return False

        def kbdint_auth_supported(self) -> bool:
            return True

        def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
            return "", "", "", [("Password: ", False)]

        def validate_kbdint_response(self, username: str, responses: Any) -> Any:
            given.extend(responses)
            return "", "", "", [("Password: ", False), ("Echoed: ", True)]

    def change(way: Way) -> None:
        way.appliance.rewrite("gateway.yaml", {"  handshake: 10s": "  handshake: 10s\n  target_connect: 5s"})
        path = way.appliance.folder / "credentials" / "web-1.yaml"
        path.write_text(json.dumps({"kind": "password", "username": way.server.login, "password": "the password of the target"}))

    with SshServer() as server, running(tmp_path / "gateway", server, change) as way:
        server.stop()
        hostile = await asyncssh.create_server(Asks, "127.0.0.1", server.port, server_host_keys=[str(server.folder / "host_key")],
                                               gss_host=None)
        done = await asyncio.to_thread(way.ssh, "uptime")
        assert done.returncode == 255 and b"lockgate: web-1" in done.stderr
        assert given == ["the password of the target"]
        hostile.close()
        server.start()


# --- a client that says what it likes


class Raw:
    """asyncssh's key exchange, and then whatever packets a test sends; what comes is kept."""

    def __init__(self) -> None:
        self.packets: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        self.connection: Any = None

    @classmethod
    async def connect(cls, way: Way) -> Raw:
        from asyncssh.connection import SSHClientConnection

        raw = cls()
        kept = raw.packets
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        class Client(SSHClientConnection):
            """Says nothing by itself once keys are exchanged."""

            def _process_service_accept(self, kind: int, number: int, packet: Any) -> None:
                self._auth_in_progress = True
                ready.set_result(None)

            def process_packet(self, pkttype: int, pktid: int, packet: Any) -> Any:
                if pkttype in (1, 51, 52, 53, 60) or pkttype >= 80:
                    kept.put_nowait((pkttype, packet.get_remaining_payload()))
                    return True
                return super().process_packet(pkttype, pktid, packet)

            def connection_lost(self, exc: Exception | None = None) -> None:
                kept.put_nowait((1, b""))
                super().connection_lost(exc)

            _packet_handlers = SSHClientConnection._packet_handlers | {6: _process_service_accept}

        class Any60:
            """Stands where asyncssh looks for who reads packets of authentication."""

            logger = None

            def log_received_packet(self, *_: Any) -> None: ...
            def cancel(self) -> None: ...

            def process_packet(self, pkttype: int, pktid: int, packet: Any) -> bool:
                kept.put_nowait((pkttype, packet.get_remaining_payload()))
                return True

        options = asyncssh.SSHClientConnectionOptions(config=None, known_hosts=str(way.known_hosts), host="127.0.0.1", port=way.port,
                                                      username="x", client_keys=None, agent_path=None, gss_host=None, login_timeout=0)
        loop = asyncio.get_running_loop()
        _, raw.connection = await loop.create_connection(lambda: Client(loop, options), "127.0.0.1", way.port)
        await asyncio.wait_for(ready, 60)
        raw.connection._auth = Any60()
        return raw

    def send(self, kind: int, *parts: bytes) -> None:
        self.connection._auth_complete = True           # asyncssh keeps some packets back otherwise
        self.connection.send_packet(kind, *parts)
        self.connection._auth_complete = False

    async def receive(self) -> tuple[int, bytes]:
        while True:
            kind, payload = await self.packets.get()
            if kind != 53:
                return kind, payload

    def close(self) -> None:
        self.connection.abort()


def certificate(way: Way, folder: Path) -> tuple[asyncssh.SSHKey, str]:
    """A key, and what the gateway mints for it."""
    key = folder / "id"
    if not key.exists():
        write_key(key)
    token = way.appliance.token_file("ci-bot")
    way.appliance.run("ssh-certificate", "--key", f"{key}.pub", "--token-file", str(token), "--resource", "web-1")
    return asyncssh.read_private_key(str(key)), Path(f"{key}-cert.pub").read_text()


