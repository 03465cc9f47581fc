# SPDX-License-Identifier: Apache-2.0
"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS as a client (RFC 5802, RFC 7677, RFC 5929; manual "SASL Authentication"). No I/O.

The target may be hostile: its nonce must extend ours, sizes and the iteration count are bounded before any work, and its own
proof is compared in constant time. The salted password is never kept: ``KeyCache`` holds ClientKey and ServerKey.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import stringprep
import unicodedata
from collections import OrderedDict
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from gateway.errors import TargetFault

MECHANISM = "SCRAM-SHA-256"
MECHANISM_PLUS = "SCRAM-SHA-256-PLUS"
MESSAGE_LIMIT = 4096
SALT_LIMIT = 1024
MIN_ITERATIONS = 4096
MAX_ITERATIONS = 600_000
CODE = "28000"

_SERVER_FIRST = re.compile(rb"r=([\x21-\x2b\x2d-\x7e]+),s=([A-Za-z0-9+/=]+),i=([1-9][0-9]{0,9})")


@dataclass(frozen=True, slots=True)
class Keys:
    """What a password becomes for one salt and iteration count."""

    client: bytes = field(repr=False)
    server: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Challenge:
    """The server-first-message."""

    nonce: str
    salt: bytes
    iterations: int
    text: str


class KeyCache:
    """Keys by (password, salt, iterations), at most ``size``, least recently used out first. The password is known only by an HMAC
    under a key of this process."""

    def __init__(self, size: int = 256) -> None:
        self._size = size
        self._pepper = secrets.token_bytes(32)
        self._keys: OrderedDict[tuple[bytes, bytes, int], Keys] = OrderedDict()

    def __repr__(self) -> str:
        return f"KeyCache({len(self._keys)} keys)"

    def get(self, password: str, challenge: Challenge) -> Keys | None:
        found = self._keys.get(self._name(password, challenge))
        if found is not None:
            self._keys.move_to_end(self._name(password, challenge))
        return found

    def put(self, password: str, challenge: Challenge, keys: Keys) -> None:
        self._keys[self._name(password, challenge)] = keys
        while len(self._keys) > self._size:
            self._keys.popitem(last=False)

    def _name(self, password: str, challenge: Challenge) -> tuple[bytes, bytes, int]:
        return hmac.digest(self._pepper, password.encode(), "sha256"), challenge.salt, challenge.iterations


class ScramClient:
    """One exchange, in this order: ``first()``, ``challenge()``, ``final()``, ``verify()``. Raises ``TargetFault`` (28000).

    ``binding`` is the channel's ``tls-server-end-point``, for SCRAM-SHA-256-PLUS. Without it ``could_bind`` says that we would have bound
    and nobody offered it: a server that did offer it then knows that somebody in between took it away.
    """

    def __init__(self, nonce: str | None = None, *, binding: bytes = b"", could_bind: bool = False) -> None:
        self._header = b"p=tls-server-end-point,," if binding else b"y,," if could_bind else b"n,,"
        self._binding = binding
        self._nonce = nonce or base64.b64encode(secrets.token_bytes(18)).decode()
        self._bare = f"n=,r={self._nonce}"
        self._auth_message = b""
        self._server_key = b""

    def first(self) -> bytes:
        """client-first-message. The user name is empty: PostgreSQL takes the one of the startup message."""
        return self._header + self._bare.encode()

    def challenge(self, data: bytes) -> Challenge:
        """Read the server-first-message."""
        found = _SERVER_FIRST.fullmatch(data) if len(data) <= MESSAGE_LIMIT else None
        if found is None:
            raise TargetFault("the target sent a malformed SCRAM challenge", CODE)
        nonce, iterations = found[1].decode(), int(found[3])
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce):
            raise TargetFault("the target's SCRAM nonce does not extend ours", CODE)
        if not MIN_ITERATIONS <= iterations <= MAX_ITERATIONS:
            raise TargetFault(f"the target asks for {iterations} SCRAM iterations, not {MIN_ITERATIONS} to {MAX_ITERATIONS}", CODE)
        salt = _decoded(found[2])
        if not 1 <= len(salt) <= SALT_LIMIT:
            raise TargetFault("the target sent a malformed SCRAM challenge", CODE)
        return Challenge(nonce, salt, iterations, data.decode())

    def final(self, challenge: Challenge, keys: Keys) -> bytes:
        """client-final-message, with the proof."""
        without_proof = f"c={base64.b64encode(self._header + self._binding).decode()},r={challenge.nonce}"
        self._auth_message = f"{self._bare},{challenge.text},{without_proof}".encode()
        self._server_key = keys.server
        signature = hmac.digest(hashlib.sha256(keys.client).digest(), self._auth_message, "sha256")
        proof = bytes(a ^ b for a, b in zip(keys.client, signature, strict=True))
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def verify(self, data: bytes) -> None:
        """Check the server-final-message: the target knows the password's verifier too."""
        if not self._server_key or len(data) > MESSAGE_LIMIT or not data.startswith(b"v="):
            raise TargetFault("the target did not prove that it knows the credential", CODE)
        expected = hmac.digest(self._server_key, self._auth_message, "sha256")
        if not hmac.compare_digest(_decoded(data[2:]), expected):
            raise TargetFault("the target did not prove that it knows the credential", CODE)


def derive(password: str, challenge: Challenge) -> Keys:
    """ClientKey and ServerKey. Costs milliseconds to half a second: call it off the event loop."""
    salted = hashlib.pbkdf2_hmac("sha256", saslprep(password).encode(), challenge.salt, challenge.iterations)
    return Keys(hmac.digest(salted, b"Client Key", "sha256"), hmac.digest(salted, b"Server Key", "sha256"))


def _decoded(data: bytes) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise TargetFault("the target sent malformed base64", CODE) from None


_PROHIBITED = (stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3, stringprep.in_table_c4,
               stringprep.in_table_c5, stringprep.in_table_c6, stringprep.in_table_c7, stringprep.in_table_c8,
               stringprep.in_table_c9, stringprep.in_table_a1)


def saslprep(password: str) -> str:
    """RFC 4013, as PostgreSQL applies it: a password that the profile prohibits is used as it is."""
    if password.isascii():
        return password
    mapped = "".join(" " if stringprep.in_table_c12(c) else c for c in password if not stringprep.in_table_b1(c))
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    if not prepared or any(table(c) for c in prepared for table in _PROHIBITED) or not _bidi(prepared):
        return password
    return prepared


def _bidi(text: str) -> bool:
    """RFC 3454 section 6."""
    if not any(map(stringprep.in_table_d1, text)):
        return True
    return (not any(map(stringprep.in_table_d2, text))
            and stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1]))


def tls_server_end_point(certificate: bytes) -> bytes:
    """The channel binding of RFC 5929 section 4: the hash of the server's certificate (DER), by the hash its signature was made with, or
    SHA-256 in place of MD5 and SHA-1. Raises ``TargetFault`` where the signature names none (Ed25519)."""
    try:
        found = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        raise TargetFault("the target's certificate has a signature that is not known: it cannot be bound to", CODE) from None
    if found is None:
        raise TargetFault("the target's certificate is signed without a hash: it cannot be bound to (channel_binding: disable)", CODE)
    name = "sha256" if found.name in ("md5", "sha1") else found.name
    return hashlib.new(name, certificate).digest()
