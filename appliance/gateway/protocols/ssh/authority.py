# SPDX-License-Identifier: Apache-2.0
"""SSH user certificates that the gateway mints for its callers, and what comes back of them at the door. Pure: the time is an argument.

Format: OpenSSH's PROTOCOL.certkeys; the encoder and the parser are cryptography's. A certificate is good for minutes, for the user names
that it lists (``RESOURCE``, ``LOGIN@RESOURCE``) and nothing else. It carries no extension: what a session may do is the policy's to say.
Its key id holds the identity (``identity.ssh_certificate``). ``read`` accepts what ``mint`` makes and refuses all else: another signer, a
certificate as signer, a host certificate, an empty or odd list of names, any option but ``source-address``, a longer life.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import secrets
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificate,
    SSHCertificateBuilder,
    SSHCertificateType,
    load_ssh_public_identity,
    ssh_key_fingerprint,
)

from gateway.errors import ClientFault
from gateway.identity import ssh_certificate
from gateway.identity.certificate import CertificateRefused
from gateway.identity.match import Network, inside
from gateway.identity.token import shown
from gateway.model import Identity

PublicKey = Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey

CERTIFICATE = 32_768
"""Bytes of a certificate on the wire."""
KEY_LINE = 8_192
"""Characters of a public key's line."""
PRINCIPALS = 256
"""User names of one certificate (OpenSSH's own limit)."""
PRINCIPAL = 256
LONGEST = 3_600.0
"""Seconds a certificate may live, whatever the listener says."""
BACKDATED = 30
"""Seconds by which it begins early, for clocks that are behind."""
RSA_BITS = range(3_072, 16_385)
KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")
"""The public keys a certificate is minted for. Keys of security tokens (sk-…) are not among them: nobody touches them in a pipeline."""
_SUFFIX = "-cert-v01@openssh.com"
_SOURCE = b"source-address"
_PARSING = (ValueError, TypeError, UnsupportedAlgorithm, binascii.Error, struct.error)


@dataclass(frozen=True, slots=True)
class Minted:
    """A certificate as OpenSSH keeps it in ``…-cert.pub`` (without a comment), and what the record says of it. ``begins`` and ``until`` are
    seconds since the epoch; ``key`` is the fingerprint of the caller's key."""

    line: str = field(repr=False)
    serial: int
    principals: tuple[str, ...]
    key: str
    begins: int
    until: int


def public_key(line: str) -> PublicKey:
    """The key of a line as in ``id_ed25519.pub``. Raises ``ClientFault`` on a certificate, another kind of key, or a weak one."""
    words = line.split(None, 2)
    if len(line) > KEY_LINE or len(words) < 2 or words[0] not in KEY_TYPES or not line.isprintable():
        raise ClientFault(f"expected one public key as in id_ed25519.pub, of a type out of {', '.join(KEY_TYPES)}")
    try:
        found = load_ssh_public_identity(" ".join(words[:2]).encode())
    except _PARSING:
        raise ClientFault("the public key cannot be read") from None
    if not isinstance(found, Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise ClientFault("expected a public key")
    if isinstance(found, rsa.RSAPublicKey) and found.key_size not in RSA_BITS:
        raise ClientFault(f"expected an RSA key of at least {RSA_BITS.start} bits, this one has {found.key_size}")
    return found


def fingerprint(key: PublicKey) -> str:
    """As OpenSSH prints it: ``SHA256:…``."""
    return "SHA256:" + base64.b64encode(ssh_key_fingerprint(key, hashes.SHA256())).decode().rstrip("=")


def names(resource: str, logins: Iterable[str]) -> tuple[str, ...]:
    """The user names by which a resource is reached."""
    return (resource, *(f"{login}@{resource}" for login in logins))


def mint(ca: Ed25519PrivateKey, identity: Identity, key: PublicKey, principals: Sequence[str], now: float, lifetime: float,
         source: str | None = None) -> Minted:
    """A user certificate over ``key`` for exactly these user names: from half a minute ago until ``lifetime`` seconds from now, or until
    the token ends if that is sooner. ``source``: good from this address alone. Raises ``CertificateRefused``."""
    if not 0 < len(principals) <= PRINCIPALS or not all(map(_is_principal, principals)):
        raise CertificateRefused("too many names", f"{len(principals)} user names, expected 1 to {PRINCIPALS}: name the resources")
    begins, until = int(now) - BACKDATED, int(min(now + min(lifetime, LONGEST), identity.expires))
    if until <= now:
        raise CertificateRefused("expired", "the token ends now")
    serial = secrets.randbits(64) or 1
    builder = (SSHCertificateBuilder().public_key(key).type(SSHCertificateType.USER).serial(serial)
               .key_id(ssh_certificate.write(identity)).valid_principals([name.encode() for name in principals])
               .valid_after(begins).valid_before(until))
    if source is not None:
        builder = builder.add_critical_option(_SOURCE, str(ipaddress.ip_network(source)).encode())
    return Minted(builder.sign(ca).public_bytes().decode(), serial, tuple(principals), fingerprint(key), begins, until)


def read(blob: bytes, ca: Ed25519PublicKey, user: str, source: str, now: float) -> Identity:
    """Who shows this certificate (as in SSH_MSG_USERAUTH_REQUEST, RFC 4252 section 7) for the user name ``user`` from the peer ``source``.

    ``certificate`` of the identity is its serial number. The caller's signature is still to be verified, and the policy to be asked:
    ``Authenticator.admit_ssh_certificate``. Raises ``CertificateRefused``.
    """
    certificate = _parsed(blob)
    _check_signer(certificate, ca)
    if certificate.type is not SSHCertificateType.USER:
        raise CertificateRefused("not a user's", "a host's certificate, expected a user's")
    _check_times(certificate, now)
    sources = _sources(certificate)
    if certificate.extensions:
        raise CertificateRefused("extensions", "it has extensions, and the gateway mints none")
    identity = ssh_certificate.read(certificate.key_id, certificate.serial)
    if certificate.valid_before > identity.expires:
        raise CertificateRefused("good for too long", "it outlives the token it was exchanged for")
    if user not in _principals(certificate):
        raise CertificateRefused("for another user name", f"it is not for the user name {shown(user)}")
    if sources is not None and not inside(source, sources):
        raise CertificateRefused("not from here", f"it is not good from {shown(source)}")
    return identity


def is_certificate(blob: bytes) -> bool:
    """Whether what is shown says that it is one."""
    return blob[4:4 + min(int.from_bytes(blob[:4], "big"), 64)].endswith(_SUFFIX.encode())


# taking it apart


def _parsed(blob: bytes) -> SSHCertificate:
    """Nothing of it is proven yet."""
    if not 4 < len(blob) <= CERTIFICATE:
        raise CertificateRefused("not readable", f"a certificate of {len(blob)} bytes")
    kind = blob[4:4 + min(int.from_bytes(blob[:4], "big"), 64)].decode("ascii", "replace")
    if kind.removesuffix(_SUFFIX) not in KEY_TYPES or not kind.endswith(_SUFFIX):
        raise CertificateRefused("not readable", f"a key of type {shown(kind)}, expected a certificate")
    try:
        found = load_ssh_public_identity(f"{kind} {base64.b64encode(blob).decode()}".encode())
    except _PARSING:
        raise CertificateRefused("not readable", "a certificate that cannot be read") from None
    if not isinstance(found, SSHCertificate):
        raise CertificateRefused("not readable", "a key, expected a certificate")
    return found


def _check_signer(certificate: SSHCertificate, ca: Ed25519PublicKey) -> None:
    """Signed by exactly the gateway's own key; a certificate in the place of that key is none (CVE-2025-49825)."""
    try:
        signer = certificate.signature_key()
        if not isinstance(signer, Ed25519PublicKey) or _raw(signer) != _raw(ca):
            raise CertificateRefused("signed by another", "it is not signed by this gateway's user CA")
        certificate.verify_cert_signature()
    except (*_PARSING, InvalidSignature, AssertionError):
        raise CertificateRefused("signed by another", "its signature was not made with this gateway's user CA") from None


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _check_times(certificate: SSHCertificate, now: float) -> None:
    begins, until = certificate.valid_after, certificate.valid_before
    if not begins <= now < until:
        raise CertificateRefused("not valid now", "it is not valid at this time")
    if until - begins > LONGEST + BACKDATED + 1:
        raise CertificateRefused("good for too long", f"it is good for {until - begins} s")


def _principals(certificate: SSHCertificate) -> frozenset[str]:
    """Its user names; an empty list would mean everybody, and a comma is not a separator (CVE-2026-35414)."""
    found = [name.decode("utf-8", "replace") for name in certificate.valid_principals]
    if not 0 < len(found) <= PRINCIPALS or not all(map(_is_principal, found)):
        raise CertificateRefused("names not accepted", "its user names are none, or not names")
    return frozenset(found)


def _is_principal(name: str) -> bool:
    return 0 < len(name) <= PRINCIPAL and name.isprintable() and not any(sign in name for sign in " ,*?!\ufffd")


def _sources(certificate: SSHCertificate) -> tuple[Network, ...] | None:
    """The networks of ``source-address``, the one critical option that is understood; ``None`` without it."""
    options = dict(certificate.critical_options)
    text = options.pop(_SOURCE, None)
    if options:
        raise CertificateRefused("options not understood", "it has critical options that are not understood here")
    if text is None:
        return None
    try:
        return tuple(ipaddress.ip_network(one) for one in text.decode("ascii").split(","))
    except ValueError:
        raise CertificateRefused("options not understood", "its source-address cannot be read") from None
