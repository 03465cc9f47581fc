# SPDX-License-Identifier: Apache-2.0
"""SCRAM-SHA-256: the exchange of RFC 7677, and targets that cheat (T20)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import TargetFault
from gateway.protocols.postgres import scram

NONCE = "rOprNGfwEbeRWgbNEkqO"
FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"


SHA1 = base64.b64decode(
    "MIIBbjCCARSgAwIBAgIUGDZXf4bAP+IpOS95Btd2hrva/qcwCQYHKoZIzj0EATANMQswCQYDVQQDDAJkYjAeFw0yNjExMjIwODQ1MTdaFw0yNjExMjMwODQ1"
    "MTdaMA0xCzAJBgNVBAMMAmRiMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEJp3gL8Lyjgi01WwLgHechyi0qYQyrlGLW28b2ccXFh24BdvKw9cu1HWCTVm8"
    "hYjmPGizkTH/+oS/BY+NHUQRO6NTMFEwHQYDVR0OBBYEFO78F6F+A+x0mdths9Y9Da2KJgl9MB8GA1UdIwQYMBaAFO78F6F+A+x0mdths9Y9Da2KJgl9MA8G"
    "A1UdEwEB/wQFMAMBAf8wCQYHKoZIzj0EAQNJADBGAiEAiI+cIwsHfWFd0LYxEUTZVbFG/7wKDgLexFB7OWueNnECIQCeH23rbjiyytMQcEPVXXXI244g/88q"
    "Er7M0BYvPeCG/w==")
"""A certificate whose signature is made with SHA-1 (`openssl req -x509 -sha1`)."""


class Server:
    """The other side, from the RFC; PostgreSQL ignores the user name."""

    def __init__(self, password: str, iterations: int = 4096, salt: bytes = b"salt-of-a-server") -> None:
        self.salt, self.iterations = salt, iterations
        self.salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)

    def first(self, client_first: bytes) -> bytes:
        self.bare = client_first.removeprefix(b"n,,")
        self.nonce = self.bare.split(b"r=")[1] + b"server"
        self.said = b"r=" + self.nonce + b",s=" + base64.b64encode(self.salt) + b",i=" + str(self.iterations).encode()
        return self.said

    def final(self, client_final: bytes) -> bytes:
        without, _, proof = client_final.rpartition(b",p=")
        message = self.bare + b"," + self.said + b"," + without
        stored = hashlib.sha256(hmac.digest(self.salted, b"Client Key", "sha256")).digest()
        signature = hmac.digest(stored, message, "sha256")
        key = bytes(a ^ b for a, b in zip(base64.b64decode(proof), signature, strict=True))
        assert hashlib.sha256(key).digest() == stored, "the proof is wrong"
        assert without == b"c=biws,r=" + self.nonce
        return b"v=" + base64.b64encode(hmac.digest(hmac.digest(self.salted, b"Server Key", "sha256"), message, "sha256"))


def test_keys_of_rfc_7677() -> None:
    """The proof of section 3 was made with user name ``user``; ours is empty, so the keys are compared through it."""
    client = scram.ScramClient(NONCE)
    challenge = client.challenge(FIRST)
    keys = scram.derive("pencil", challenge)
    message = b"n=user,r=" + NONCE.encode() + b"," + FIRST + b",c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    signature = hmac.digest(hashlib.sha256(keys.client).digest(), message, "sha256")
    proof = bytes(a ^ b for a, b in zip(keys.client, signature, strict=True))
    assert base64.b64encode(proof) == b"dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    assert base64.b64encode(hmac.digest(keys.server, message, "sha256")) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_a_whole_exchange() -> None:
    client, server = scram.ScramClient(), Server("correct horse")
    challenge = client.challenge(server.first(client.first()))
    client.verify(server.final(client.final(challenge, scram.derive("correct horse", challenge))))


def test_a_server_that_does_not_know_the_password() -> None:
    client, server = scram.ScramClient(), Server("another")
    challenge = client.challenge(server.first(client.first()))
    keys = scram.derive("correct horse", challenge)
    client.final(challenge, keys)
    with pytest.raises(TargetFault, match="did not prove"):
        client.verify(b"v=" + base64.b64encode(b"x" * 32))
    with pytest.raises(TargetFault):
        client.verify(b"e=other-error")
    with pytest.raises(TargetFault):
        client.verify(b"")


def test_no_verification_before_the_proof() -> None:
    with pytest.raises(TargetFault):
        scram.ScramClient().verify(b"v=" + base64.b64encode(hmac.digest(b"", b"", "sha256")))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"r=other,s=c2FsdA==,i=4096",
        f"r={NONCE},s=c2FsdA==,i=4096".encode(),
        f"r={NONCE}x,s=c2FsdA==,i=4095".encode(),
        f"r={NONCE}x,s=c2FsdA==,i=600001".encode(),
        f"r={NONCE}x,s=c2FsdA==,i=2147483648".encode(),
        f"r={NONCE}x,s=c2FsdA==,i=-1".encode(),
        f"r={NONCE}x,s=c2FsdA==,i=04096".encode(),
        f"r={NONCE}x,s=c2FsdA=,i=4096".encode(),
        f"r={NONCE}x,s=,i=4096".encode(),
        f"r={NONCE}x,i=4096,s=c2FsdA==".encode(),
        f"m=x,r={NONCE}x,s=c2FsdA==,i=4096".encode(),
        f"r={NONCE}x,s=c2FsdA==,i=4096,x=1".encode(),
        f"r={NONCE}{'x' * 4096},s=c2FsdA==,i=4096".encode(),
        f"r={NONCE}x,s={'QUJD' * 500},i=4096".encode(),
        f"r={NONCE}\u00fc,s=c2FsdA==,i=4096".encode(),
        b"\xff" * 20,
    ],
)
def test_challenges_that_are_refused(data: bytes) -> None:
    with pytest.raises(TargetFault) as caught:
        scram.ScramClient(NONCE).challenge(data)
    assert caught.value.code == "28000"


@given(st.binary(max_size=120))
def test_random_messages_are_the_targets_fault(data: bytes) -> None:
    client = scram.ScramClient(NONCE)
    for step in (client.challenge, client.verify):
        with pytest.raises(TargetFault):
            step(data)


def test_nonces_differ() -> None:
    assert scram.ScramClient().first() != scram.ScramClient().first()


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("simple ascii", "simple ascii"),
        ("I\u00adX", "IX"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("\u00aa", "a"),
        ("\u0007bell\u00fc", "\u0007bell\u00fc"),
        ("\u0627\u0031", "\u0627\u0031"),
        ("\u00ad", "\u00ad"),
    ],
)
def test_saslprep(password: str, prepared: str) -> None:
    """RFC 4013 section 3; what it prohibits stays as it is, as PostgreSQL does."""
    assert scram.saslprep(password) == prepared


def test_the_key_cache_knows_no_password() -> None:
    cache = scram.KeyCache(size=2)
    challenges = [scram.Challenge("n", bytes([i]), 4096, "") for i in range(3)]
    for challenge in challenges:
        cache.put("hunter2", challenge, scram.Keys(challenge.salt, b"s"))
    assert [cache.get("hunter2", challenge) is not None for challenge in challenges] == [False, True, True]
    assert cache.get("hunter3", challenges[2]) is None
    assert cache.get("hunter2", scram.Challenge("n", bytes([2]), 4097, "")) is None
    assert "hunter2" not in repr(vars(cache)) and "hunter2" not in repr(cache)


def test_keys_are_not_in_a_repr() -> None:
    assert repr(scram.Keys(b"client", b"server")) == "Keys()"


@pytest.mark.parametrize(("options", "header"), [
    ({}, b"n,,"), ({"could_bind": True}, b"y,,"), ({"binding": b"x" * 32}, b"p=tls-server-end-point,,"),
    ({"binding": b"x" * 48, "could_bind": True}, b"p=tls-server-end-point,,"),
])
def test_what_is_said_of_channel_binding(options: dict[str, Any], header: bytes) -> None:
    """RFC 5802 section 6: the header is said first, and signed with the binding's data in the end."""
    client = scram.ScramClient(NONCE, **options)
    assert client.first() == header + b"n=,r=" + NONCE.encode()
    final = client.final(client.challenge(FIRST), scram.Keys(bytes(32), bytes(32)))
    assert base64.b64decode(final.split(b",")[0].removeprefix(b"c=")) == header + options.get("binding", b"")


def certificate(key: Any, algorithm: Any) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "db")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)


@pytest.mark.parametrize(("algorithm", "name"), [(hashes.SHA256(), "sha256"), (hashes.SHA384(), "sha384"), (hashes.SHA512(), "sha512")])
def test_the_end_point_of_a_certificate(algorithm: Any, name: str) -> None:
    """RFC 5929 section 4.1: by the hash of its own signature."""
    made = certificate(ec.generate_private_key(ec.SECP256R1()), algorithm)
    assert scram.tls_server_end_point(made) == hashlib.new(name, made).digest()


def test_an_end_point_of_a_weak_hash_is_by_sha_256() -> None:
    assert scram.tls_server_end_point(SHA1) == hashlib.sha256(SHA1).digest()


def test_a_certificate_that_cannot_be_bound_to() -> None:
    with pytest.raises(TargetFault, match="signed without a hash"):
        scram.tls_server_end_point(certificate(ed25519.Ed25519PrivateKey.generate(), None))
    with pytest.raises(TargetFault, match="not known"):
        scram.tls_server_end_point(b"no certificate")
