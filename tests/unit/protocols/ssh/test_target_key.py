# SPDX-License-Identifier: Apache-2.0
"""What a target's sshd is shown: a key of its own for each connection, for one login and minutes. A real sshd: tests/peers/ssh."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    SSHCertificate,
    SSHCertificateType,
    load_ssh_public_identity,
)

from gateway.errors import GatewayFault
from gateway.model import Identity, Session
from gateway.protocols.ssh.target_key import CA, PERMITS, TargetKey, key_id, load_ca, sign_for_target

NOW = 1_790_000_000.0
SESSION = Session("5e55", Identity("ci-bot", "ci", "x"), "web-1", "ssh", "10.0.0.9", NOW, login="deploy")
SIGNER = Ed25519PrivateKey.generate()


def pem(key: Any, passphrase: bytes = b"") -> str:
    hidden = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, hidden).decode())


def parsed(made: TargetKey) -> SSHCertificate:
    found = load_ssh_public_identity(made.certificate)
    assert isinstance(found, SSHCertificate)
    found.verify_cert_signature()
    return found


def test_for_one_login_and_minutes() -> None:
    made = sign_for_target(SIGNER, SESSION, "plant-a-1", NOW, source=("192.0.2.7",))
    found = parsed(made)
    assert found.type is SSHCertificateType.USER and found.valid_principals == [b"deploy"]
    assert (found.valid_after, found.valid_before, found.serial) == (int(NOW) - 30, int(NOW) + 300, made.serial)
    assert found.key_id == b"lockgate/plant-a-1/5e55/ci-bot" and found.critical_options == {b"source-address": b"192.0.2.7/32"}
    assert found.extensions == {b"permit-port-forwarding": b"", b"permit-pty": b""}
    assert made.fields() == {"certificate": f"{made.serial:x}", "principals": ["deploy"], "key_id": "lockgate/plant-a-1/5e55/ci-bot",
                             "key": made.key}


def test_from_several_places() -> None:
    found = parsed(sign_for_target(SIGNER, SESSION, "plant-a-1", NOW, source=("192.0.2.0/24", "2001:db8::1")))
    assert found.critical_options == {b"source-address": b"192.0.2.0/24,2001:db8::1/128"}
    assert parsed(sign_for_target(SIGNER, SESSION, "plant-a-1", NOW)).critical_options == {}


def test_each_connection_has_a_key_of_its_own() -> None:
    first, second = (sign_for_target(SIGNER, SESSION, "plant-a-1", NOW) for _ in range(2))
    assert first.key != second.key and first.serial != second.serial
    [(key, certificate)] = first.client_keys()
    assert key.get_fingerprint() == first.key and certificate.get_algorithm() == "ssh-ed25519-cert-v01@openssh.com"


def test_no_secret_is_shown() -> None:
    made = sign_for_target(SIGNER, SESSION, "plant-a-1", NOW)
    assert "PRIVATE" not in repr(made) and "PRIVATE" not in repr(copy.copy(made))


def test_names_of_the_credential_and_what_is_permitted() -> None:
    made = sign_for_target(SIGNER, SESSION, "plant-a-1", NOW, principals=("web", "deploys"), permits=PERMITS, lifetime=60)
    found = parsed(made)
    assert found.valid_principals == [b"web", b"deploys"] and found.valid_before == int(NOW) + 60
    assert set(found.extensions) == {f"permit-{name}".encode() for name in PERMITS}
    assert parsed(sign_for_target(SIGNER, SESSION, "plant-a-1", NOW, permits=())).extensions == {}


@pytest.mark.parametrize("login", ["", "a,b", "*", "a b", "a\nb"])
def test_t11_no_login_that_could_mean_another(login: str) -> None:
    odd = Session("5e55", SESSION.identity, "web-1", "ssh", "10.0.0.9", NOW, login=login)
    with pytest.raises(GatewayFault):
        sign_for_target(SIGNER, odd, "plant-a-1", NOW)


def test_a_key_id_is_one_plain_word() -> None:
    person = Session("5e55", Identity("Zoë / x\u202e", "staff", "x", person=True), "web-1", "ssh", "", NOW, login="deploy")
    assert key_id("plant-a-1", person) == "lockgate/plant-a-1/5e55/Zo%C3%AB%20%2F%20x%E2%80%AE"


@pytest.mark.parametrize("key", [SIGNER, ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 3072)])
def test_kinds_of_ca(key: CA) -> None:
    parsed(sign_for_target(load_ca(pem(key)), SESSION, "plant-a-1", NOW))


@pytest.mark.parametrize("text", ["", "no key", pem(SIGNER, b"secret"), pem(rsa.generate_private_key(65537, 2048))])
def test_no_other_key_signs(text: str) -> None:
    with pytest.raises(ValueError, match="expected an") as caught:
        load_ca(text)
    assert not text or text not in str(caught.value)
