# SPDX-License-Identifier: Apache-2.0
"""A gateway that logs in with ``ssh-ca``: the target knows the CA alone, and its own log leads back to the session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.testing.openssh import SshServer, write_key
from tests.peers.ssh.way import Way, running


def _signing(ca: Path, more: str = "") -> None:
    path = ca.with_name("web-1.yaml")
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(f"kind: ssh-ca\nprivate_key: credentials/{ca.name}\n{more}")


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    """A target that trusts one CA and has no authorized_keys."""
    trusted = tmp_path_factory.mktemp("trusted") / "ca.pub"

    def change(way: Way) -> None:
        ca = way.appliance.folder / "credentials" / "ca.key"
        trusted.write_text(write_key(ca) + "\n")
        ca.with_name("ca.key.pub").chmod(0o600)
        _signing(ca)

    settings = {"TrustedUserCAKeys": str(trusted), "AuthorizedKeysFile": "none"}
    with SshServer(settings) as server, running(tmp_path_factory.mktemp("signed"), server, change) as way:
        yield way


def test_sshd_says_which_session_it_was(signed: Way) -> None:
    assert signed.ssh("printf in").stdout == b"in"
    made = signed.last("target.certificate")
    assert made["principals"] == [signed.server.login] and made["key_id"] == f"lockgate/plant-a-1/{made['session']}/ci-bot"
    assert f"ID {made['key_id']} (serial {int(made['certificate'], 16)})" in signed.server.log
    assert made["key"] in signed.server.log


def test_each_session_has_a_key_of_its_own(signed: Way) -> None:
    for _ in range(2):
        assert signed.ssh("true").returncode == 0
    first, second = (record["key"] for record in signed.records("target.certificate")[-2:])
    assert first != second


def test_t11_good_from_the_gateways_own_address_alone(signed: Way) -> None:
    """With another ``source`` sshd refuses the very same login: the address is in the certificate."""
    ca = signed.appliance.folder / "credentials" / "ca.key"
    for more, let_in in (("source: [192.0.2.0/24]\n", False), ("source: [127.0.0.0/8]\n", True), ("", True)):
        _signing(ca, more)
        signed.document["grants"][0]["session"] = {"concurrent": 5 + len(more)}      # another policy, so that a reload is seen
        signed.reload()
        done = signed.ssh("true")
        assert (done.returncode == 0) is let_in, done.stderr
    assert "not from a permitted source address" in signed.server.log
