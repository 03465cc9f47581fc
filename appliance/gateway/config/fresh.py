# SPDX-License-Identifier: Apache-2.0
"""Fresh keys for a folder: a certificate authority and the gateway's certificate, the audit key, signing keys for demo issuers.

All of it is returned as text; ``write_new`` puts it into files that did not exist, with their final mode from the first byte on.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from jwt.algorithms import ECAlgorithm

from gateway.identity.keys import thumbprint

CA_DAYS = 3650
CERTIFICATE_DAYS = 397
_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?:\.(?!-)[A-Za-z0-9-]{1,63})*")


def write_new(path: Path, content: bytes | str, mode: int) -> None:
    """Make a file that is not there yet, with this mode whatever the umask. Raises ``FileExistsError``."""
    data = content.encode() if isinstance(content, str) else content
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        os.fchmod(handle, mode)
        file.write(data)


def new_key() -> ec.EllipticCurvePrivateKey:
    """ECDSA on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def mask_key() -> str:
    """256 bits for HMAC-SHA-256, as text."""
    return os.urandom(32).hex()


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS 8 PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Raises ``ValueError`` for what is no EC key in PEM."""
    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"expected an EC key in {path}")
    return key


def names() -> tuple[str, ...]:
    """What the gateway is reached by on this machine."""
    host = socket.gethostname()
    mine = (host,) if _HOST.fullmatch(host) and host != "localhost" else ()
    return ("localhost", "127.0.0.1", "::1", *mine)


def is_host(name: str) -> bool:
    """Whether a certificate can name it: a host name or an address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return _HOST.fullmatch(name) is not None
    return True


def authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """A self-signed CA certificate (RFC 5280)."""
    subject = _subject("Lockgate CA " + os.urandom(4).hex())
    usage = x509.KeyUsage(digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
                          key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False)
    return (_builder(subject, subject, key.public_key(), CA_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256()))


def certificate(key: ec.EllipticCurvePrivateKey, issuer: x509.Certificate, signer: ec.EllipticCurvePrivateKey,
                hosts: Sequence[str]) -> x509.Certificate:
    """A server certificate for ``hosts`` (DNS names and addresses)."""
    usage = x509.KeyUsage(digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
                          key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False)
    return (_builder(_subject(hosts[0]), issuer.subject, key.public_key(), CERTIFICATE_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([_host(name) for name in hosts]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .sign(signer, hashes.SHA256()))


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
            .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False))


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def audit_key() -> bytes:
    """An OpenSSH Ed25519 private key without passphrase."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def public_line(private: bytes, comment: str) -> str:
    """The public half of an OpenSSH private key, as authorized_keys and known_hosts take it."""
    public = load_ssh_private_key(private, None).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return f"{public.decode()} {comment}\n"


def signing_key() -> dict[str, Any]:
    """A private JWK (RFC 7517) for ES256; its ``kid`` is the RFC 7638 thumbprint."""
    jwk: dict[str, Any] = ECAlgorithm.to_jwk(new_key(), as_dict=True)
    jwk.pop("key_ops", None)
    return {"kid": thumbprint(jwk)[:16], "alg": "ES256", "use": "sig", **jwk}


def public_set(private: dict[str, Any]) -> str:
    """The JWK Set that holds the public half, as JSON text."""
    public = {name: value for name, value in private.items() if name != "d"}
    return json.dumps({"keys": [public]}, indent=2) + "\n"
