# SPDX-License-Identifier: Apache-2.0
"""The files that configuration points at: certificates and keys of listeners, the audit key, key sets of issuers, CA bundles.

Each function raises ``ValueError`` with what was expected; no message holds anything of the file.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.identity.keys import KeySet, parse_key_set

LARGEST = 2**20
"""Bytes of a key, certificate or key set file."""
RSA_BITS = 3072
_PARSING = (ValueError, TypeError, UnsupportedAlgorithm)


def content(path: Path) -> bytes:
    """At most ``LARGEST`` bytes of a regular file."""
    try:
        if not path.is_file():
            raise ValueError(f"expected a file, but there is none at {path}")
        with path.open("rb") as file:
            read = file.read(LARGEST + 1)
    except OSError as wrong:
        raise ValueError(f"expected a file that can be read: {path}: {wrong.strerror}") from None
    if len(read) > LARGEST:
        raise ValueError(f"expected a file of at most {LARGEST} bytes: {path}")
    return read


def check_certificates(path: Path) -> x509.Certificate:
    """The first certificate of a PEM file."""
    return first_certificate(content(path), str(path))


def first_certificate(pem: bytes, where: str) -> x509.Certificate:
    """The first of one or more PEM certificates."""
    try:
        return x509.load_pem_x509_certificates(pem)[0]
    except _PARSING as wrong:
        raise ValueError(_say(wrong, f"expected one or more PEM certificates in {where}")) from None


def check_authorities(path: Path) -> tuple[x509.Certificate, ...]:
    """A bundle of authorities' certificates: each of them is one (RFC 5280 section 4.2.1.9)."""
    try:
        found = x509.load_pem_x509_certificates(content(path))
        authorities = [one for one in found if one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca]
    except x509.ExtensionNotFound:
        authorities = []
    except _PARSING as wrong:
        raise ValueError(_say(wrong, f"expected one or more PEM certificates in {path}")) from None
    if not authorities or len(authorities) != len(found):
        raise ValueError(f"expected certificates of authorities alone (basic constraints: CA) in {path}")
    return tuple(authorities)


def check_tls_key(path: Path, certificate: Path) -> None:
    """A PKCS 8 PEM key (RFC 7468 section 10) without passphrase that belongs to the first certificate."""
    check_pair(content(path), str(path), check_certificates(certificate), str(certificate))


def check_pair(pem: bytes, where: str, certificate: x509.Certificate, of: str) -> None:
    """As ``check_tls_key``, for what was read already; ``where`` and ``of`` say where the key and the certificate stand."""
    if b"-----BEGIN PRIVATE KEY-----" not in pem:
        raise ValueError(f"expected an unencrypted PKCS 8 PEM key (-----BEGIN PRIVATE KEY-----) in {where}")
    try:
        key = serialization.load_pem_private_key(pem, None)
    except _PARSING:
        raise ValueError(f"expected a PKCS 8 PEM key in {where}") from None
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if public != certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
        raise ValueError(f"expected the key of the certificate {of}, but {where} is another one")


def check_audit_key(path: Path) -> None:
    """An OpenSSH Ed25519 private key (PROTOCOL.key) without passphrase."""
    try:
        key = serialization.load_ssh_private_key(content(path), None)
    except _PARSING as wrong:
        raise ValueError(_say(wrong, f"expected an OpenSSH Ed25519 private key without passphrase in {path}")) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"expected an OpenSSH Ed25519 private key in {path}")


def check_ssh_key(key: bytes, where: str) -> None:
    """An OpenSSH private key (PROTOCOL.key) without passphrase: Ed25519, ECDSA, or RSA of at least ``RSA_BITS``."""
    try:
        found = serialization.load_ssh_private_key(key, None)
    except _PARSING:
        raise ValueError(f"expected an OpenSSH private key (-----BEGIN OPENSSH PRIVATE KEY-----) without passphrase in {where}") from None
    if isinstance(found, RSAPrivateKey) and found.key_size >= RSA_BITS:
        return
    if not isinstance(found, Ed25519PrivateKey | EllipticCurvePrivateKey):
        raise ValueError(f"expected an Ed25519 or ECDSA key, or one of RSA with at least {RSA_BITS} bits, in {where}")


def check_key_set(path: Path, algorithms: Collection[str]) -> KeySet:
    """A JWK Set (RFC 7517 section 5) of public keys, of which at least one fits the algorithms."""
    data = content(path)
    try:
        keys = parse_key_set(data)
    except ValueError as wrong:
        raise ValueError(f"expected a JWK Set of public keys in {path}: {wrong}") from None
    if not any(key.algorithms & set(algorithms) for key in keys.keys):
        raise ValueError(f"expected a key for {', '.join(algorithms)} in {path}")
    return keys


def _say(wrong: Exception, otherwise: str) -> str:
    """Our own message if it is one, else ``otherwise``: libraries' messages stay out."""
    return str(wrong) if str(wrong).startswith("expected ") else otherwise
