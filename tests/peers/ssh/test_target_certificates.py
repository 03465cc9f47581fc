# SPDX-License-Identifier: Apache-2.0
"""Credential kind ``ssh-ca`` at a real OpenSSH server that trusts a CA and knows no key: what sshd itself lets in, and what not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.model import Identity, Session
from gateway.protocols.ssh.target_key import CA, TargetKey, sign_for_target
from gateway.testing.openssh import SshServer

SIGNER = Ed25519PrivateKey.generate()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """Trusts ``SIGNER`` and has no authorized_keys."""
    trusted = tmp_path_factory.mktemp("trusted") / "user_ca.pub"
    trusted.write_bytes(SIGNER.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n")
    with SshServer({"TrustedUserCAKeys": str(trusted), "AuthorizedKeysFile": "none"}) as running:
        yield running


def made(server: SshServer, *, ca: CA = SIGNER, login: str = "", now: float | None = None, **more: Any) -> TargetKey:
    session = Session("5e55", Identity("ci-bot", "ci", "x"), "web-1", "ssh", "10.0.0.9", 0.0, login=login or server.login)
    return sign_for_target(ca, session, "plant-a-1", time.time() if now is None else now, **more)


async def output(server: SshServer, key: TargetKey, command: str = "echo in", **more: Any) -> str:
    known = Path(server.folder) / "known_hosts"
    async with asyncssh.connect("127.0.0.1", server.port, username=server.login, client_keys=key.client_keys(), agent_path=None,
                                config=None, known_hosts=str(known), preferred_auth="publickey") as connection:
        return str((await connection.run(command, **more)).stdout)


async def test_the_certificate_lets_in_and_sshd_says_for_whom(server: SshServer) -> None:
    key = made(server, source=("127.0.0.1",))
    assert await output(server, key) == "in\n"
    assert f"ID lockgate/plant-a-1/5e55/ci-bot (serial {key.serial})" in server.log
    assert key.key in server.log


async def test_a_terminal_is_permitted_and_no_agent(server: SshServer) -> None:
    assert await output(server, made(server), "tty", term_type="xterm") != ""
    with pytest.raises(asyncssh.ChannelOpenError):
        await output(server, made(server, permits=()), "tty", term_type="xterm")


async def test_a_time_that_is_over_or_not_begun(server: SshServer) -> None:
    for now in (time.time() - 400, time.time() + 300):
        with pytest.raises(asyncssh.PermissionDenied):
            await output(server, made(server, now=now))


async def test_t11_another_login_another_ca_another_address(server: SshServer) -> None:
    for key in (made(server, login="somebody"), made(server, ca=Ed25519PrivateKey.generate()), made(server, source=("192.0.2.1",))):
        with pytest.raises(asyncssh.PermissionDenied):
            await output(server, key)


async def test_the_key_without_its_certificate_is_nothing(server: SshServer) -> None:
    [(key, _)] = made(server).client_keys()
    with pytest.raises(asyncssh.PermissionDenied):
        async with asyncssh.connect("127.0.0.1", server.port, username=server.login, client_keys=[key], agent_path=None, config=None,
                                    known_hosts=str(Path(server.folder) / "known_hosts"), preferred_auth="publickey"):
            raise AssertionError
