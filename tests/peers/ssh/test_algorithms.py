# SPDX-License-Identifier: Apache-2.0
"""What OpenSSH's client says of the connection that it gets (``ssh -vvv``)."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import asyncssh
import pytest

from gateway.testing.openssh import SshServer, write_key
from tests.peers.ssh.way import QUIET, Way, running


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


def test_a_client_that_trusts_an_authority_needs_no_key_of_the_gateways_t52(tmp_path: Path, sshd: SshServer) -> None:
    """``host_certificates`` of the listener; another authority's word is nothing."""
    for name in ("ca", "other"):
        write_key(tmp_path / name)
        (tmp_path / f"known_{name}").write_text(f"@cert-authority [127.0.0.1]:* {(tmp_path / f'{name}.pub').read_text()}")

    def signed(way: Way) -> None:
        key = way.appliance.folder / "tls" / "ssh_host_ed25519_key"
        authority = asyncssh.read_private_key(str(tmp_path / "ca"))
        made = authority.generate_host_certificate(asyncssh.read_public_key(f"{key}.pub"), "gateway", principals=["127.0.0.1"])
        made.write_certificate(f"{key}-cert.pub")
        keys = "host_keys: [tls/ssh_host_ed25519_key]"
        way.appliance.rewrite("gateway.yaml", {keys: f"{keys}, host_certificates: [tls/ssh_host_ed25519_key-cert.pub]"})

    with running(tmp_path / "gateway", sshd, signed) as way:
        for name, status in (("ca", 0), ("other", 255)):
            options = ["-F", "/dev/null", "-o", f"UserKnownHostsFile={tmp_path}/known_{name}", "-o", "StrictHostKeyChecking=yes", *QUIET,
                       "-p", str(way.port)]
            done = way.client("ssh", *options, "web-1@127.0.0.1", "uptime")
            assert done.returncode == status, done.stderr
        assert way.ssh("uptime").returncode == 0, "who pinned the key goes on as before"
