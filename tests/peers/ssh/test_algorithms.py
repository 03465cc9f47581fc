# SPDX-License-Identifier: Apache-2.0
"""What OpenSSH's client says of the connection that it gets (``ssh -vvv``)."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.peers.ssh.way import Way


@pytest.fixture(scope="module")
def said(way: Way) -> str:
    """Of a client that would like to compress."""
    done = way.ssh("uptime", before=["-vvv", "-C"])
    assert done.returncode == 0
    return done.stderr.decode()


def chosen(said: str, what: str) -> str:
    found = re.search(rf"^debug1: kex: {what}: (.*?)\r?$", said, re.MULTILINE)
    assert found is not None, said
    return found[1]


def offered(said: str, what: str) -> list[str]:
    """By the gateway, in its order."""
    of_the_server = said.partition("peer server KEXINIT proposal")[2]
    found = re.search(rf"^debug2: {what}: (.*?)\r?$", of_the_server, re.MULTILINE)
    assert found is not None, said
    return found[1].split(",")


def test_gcm_is_offered_first_and_used_where_the_client_does_not_prefer_another_t46(way: Way, said: str) -> None:
    """The client's order decides (RFC 4253, section 7.1)."""
    ciphers = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr", "aes128-ctr"]
    assert offered(said, "ciphers ctos") == offered(said, "ciphers stoc") == ciphers
    preferred = way.ssh("uptime", before=["-vvv", "-o", "Ciphers=^aes128-gcm@openssh.com,aes256-gcm@openssh.com"])
    for direction in ("server->client", "client->server"):
        assert chosen(preferred.stderr.decode(), f"{direction} cipher") == "aes128-gcm@openssh.com MAC: <implicit> compression: none"


def test_the_key_exchange_is_strict_and_hybrid_where_the_client_can_t46(said: str) -> None:
    spoken = subprocess.run(["ssh", "-Q", "kex"], capture_output=True, text=True, check=True).stdout.split()
    hybrid = "mlkem768x25519-sha256"
    assert offered(said, "KEX algorithms")[0] == hybrid
    assert chosen(said, "algorithm") in ([hybrid] if hybrid in spoken else ["curve25519-sha256", "curve25519-sha256@libssh.org"])
    assert "kex-strict-s-v00@openssh.com" in offered(said, "KEX algorithms")
    assert "will use strict KEX ordering" in said
    assert chosen(said, "host key algorithm") == "ssh-ed25519"


def test_nothing_is_compressed_although_the_client_would_like_to_t46(said: str) -> None:
    assert offered(said, "compression ctos") == offered(said, "compression stoc") == ["none"]
    assert chosen(said, "server->client cipher").endswith("compression: none")
