# SPDX-License-Identifier: Apache-2.0
"""What ``doctor`` sees of the SSH listener's own keys and host certificates."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import SSHCertificateBuilder, SSHCertificateType

from gateway.audit.note import load_private_key
from gateway.config.load import Folder, load_folder
from gateway.doctor import folder
from gateway.doctor.finding import examined
from gateway.doctor.folder import DAY, Papers
from gateway.protocols.ssh import hosts
from gateway.testing.console import ConsoleRoom


@pytest.fixture
def given(tmp_path: Path) -> Folder:
    """A folder whose SSH listener has a host certificate for 100 days."""
    made = ConsoleRoom(tmp_path, ssh=True).folder
    key = load_private_key(made.path / "tls" / "host_key").public_key()
    builder = (SSHCertificateBuilder().public_key(key).type(SSHCertificateType.HOST).valid_principals([b"gate.example"])
               .valid_after(time.time()).valid_before(time.time() + 100 * DAY))
    (made.path / "tls" / "host_key-cert.pub").write_bytes(builder.sign(Ed25519PrivateKey.generate()).public_bytes() + b"\n")
    main = made.path / "gateway.yaml"
    main.write_text(main.read_text().replace("user_ca:", "host_certificates: [tls/host_key-cert.pub], user_ca:"))
    return load_folder(made.path, check_modes=False)


def found(given: Folder, later: float = 0.0) -> dict[str, list[str]]:
    signs: dict[str, list[str]] = {}
    for finding in examined(folder.CHECKS, Papers(given, time.time() + later)):
        signs.setdefault(finding.id, []).append(finding.where)
    return signs


def test_a_host_certificate_ends(given: Folder) -> None:
    assert "ssh.host-certificate" not in found(given)
    for later in (94 * DAY, 101 * DAY):
        assert found(given, later)["ssh.host-certificate"] == ["tls/host_key-cert.pub"]


def test_keys_grow_old(given: Folder) -> None:
    for name in ("host_key", "user_ca"):
        os.utime(given.path / "tls" / name, (time.time() - 800 * DAY,) * 2)
    assert found(given)["key.old"] == ["tls/host_key", "tls/user_ca"]


def test_fingerprints(given: Folder, tmp_path: Path) -> None:
    [one] = hosts.of_folder(given)
    assert one.fingerprint.startswith("SHA256:") and one.line.startswith("ssh-ed25519 ")
    (tmp_path / "other").mkdir()
    assert hosts.of_folder(ConsoleRoom(tmp_path / "other").folder) == ()
