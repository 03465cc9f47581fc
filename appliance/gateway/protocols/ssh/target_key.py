# SPDX-License-Identifier: Apache-2.0
"""What the gateway logs in with at a target that trusts its CA (credential kind ``ssh-ca``): for every connection a fresh Ed25519 key and a
user certificate over it that is good for minutes, for one login, from the gateway's own address. Pure but for the random numbers.

The target needs ``TrustedUserCAKeys`` and nothing of any person or robot. Its sshd writes the key id into its own log, so that a line
there leads to the session here.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import quote

import asyncssh
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    SSHCertificateBuilder,
    SSHCertificateType,
    load_ssh_private_key,
)

from gateway.errors import GatewayFault
from gateway.model import Session
from gateway.protocols.ssh.authority import BACKDATED, RSA_BITS, fingerprint

CA = Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

LIFETIME = 300.0
"""Seconds, where the credential says nothing."""
PERMITS = ("pty", "port-forwarding", "agent-forwarding", "X11-forwarding")
"""What sshd refuses to a certificate that does not carry it; ``user-rc`` is never given: ``~/.ssh/rc`` does not run."""
USUAL = ("pty", "port-forwarding")
KEY_ID = 1_024
LONGEST = 86_400.0


@dataclass(frozen=True, slots=True)
class TargetKey:
    """A key for one connection. ``private`` is OpenSSH's PEM, ``certificate`` the line of ``…-cert.pub``; the rest is for the record.
    ``until`` is seconds since the epoch: the connection has to have logged in by then, and may last longer."""

    private: bytes = field(repr=False)
    certificate: bytes = field(repr=False)
    serial: int
    principals: tuple[str, ...]
    key_id: str
    key: str
    until: int

    def client_keys(self) -> list[tuple[asyncssh.SSHKey, asyncssh.SSHCertificate]]:
        """As asyncssh's ``client_keys``: this key with its certificate, and nothing else is tried."""
        return [(asyncssh.import_private_key(self.private), asyncssh.import_certificate(self.certificate))]

    def fields(self) -> dict[str, object]:
        """What the record of the connection says of it."""
        return {"certificate": f"{self.serial:x}", "principals": list(self.principals), "key_id": self.key_id, "key": self.key}


def load_ca(pem: str) -> CA:
    """The private key of a credential: OpenSSH's format, Ed25519, ECDSA or RSA of 3072 bits and more. Raises ``ValueError`` that says what
    was expected and nothing of the key."""
    try:
        found = load_ssh_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("expected an OpenSSH private key without passphrase") from None
    if isinstance(found, rsa.RSAPrivateKey) and found.key_size not in RSA_BITS:
        raise ValueError(f"expected an RSA key of at least {RSA_BITS.start} bits")
    if not isinstance(found, CA):
        raise ValueError("expected an Ed25519, ECDSA or RSA key")
    return found


def key_id(gateway: str, session: Session) -> str:
    """``lockgate/GATEWAY/SESSION/IDENTITY``: one word of plain ASCII, whatever a person is called."""
    return "/".join(["lockgate", *(quote(part, safe="@:+") for part in (gateway, session.id, session.identity.name))])[:KEY_ID]


def sign_for_target(ca: CA, session: Session, gateway: str, now: float, *, principals: Iterable[str] = (), lifetime: float = LIFETIME,
                    source: Iterable[str] = (), permits: Iterable[str] = USUAL) -> TargetKey:
    """A key and its certificate for one connection of this session.

    ``principals`` are the credential's, the session's login otherwise; ``source`` are the addresses and networks that the target may see
    the gateway come from (none: any); ``permits`` are out of ``PERMITS``. Raises ``GatewayFault`` where no certificate can be made.
    """
    names = tuple(principals) or (session.login,)
    if not all(name and name.isprintable() and not set(name) & set(" ,*?!") for name in names) or not set(permits) <= set(PERMITS):
        raise GatewayFault("no certificate is made for a login that is no plain name")
    private = Ed25519PrivateKey.generate()
    serial, until, said = secrets.randbits(64) or 1, int(now + min(lifetime, LONGEST)), key_id(gateway, session)
    builder = (SSHCertificateBuilder().public_key(private.public_key()).type(SSHCertificateType.USER).serial(serial)
               .key_id(said.encode("ascii")).valid_principals([name.encode() for name in names])
               .valid_after(int(now) - BACKDATED).valid_before(until))
    for permit in permits:
        builder = builder.add_extension(f"permit-{permit}".encode(), b"")
    if networks := ",".join(str(ipaddress.ip_network(one)) for one in source):
        builder = builder.add_critical_option(b"source-address", networks.encode())
    return TargetKey(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()), builder.sign(ca).public_bytes(),
                     serial, names, said, fingerprint(private.public_key()), until)
