# SPDX-License-Identifier: Apache-2.0
"""A client certificate becomes an identity: which issuer of kind ``certificate``, which entry, from where, revoked.

TLS has verified the chain and that the caller holds the key (RFC 8446 section 4.4). What is left is whose it is: the issuers whose pinned
bundle has a certificate of the verified chain, and among their identities the one that the names fit; none or two is a refusal. A
certificate is short-lived, as a token is: one that is good for longer than ``max_lifetime`` is refused. Pure: the time is an argument.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from gateway.config.schema import CertificateIssuer, IdentityEntry
from gateway.errors import Refused
from gateway.identity.match import inside, matches
from gateway.identity.revocation import Revocations
from gateway.identity.token import shown
from gateway.model import Identity

NAMES = ("address", "cn", "dns", "email", "issuer", "serial", "subject", "uri")
"""What an identity entry may match. Of the alternative names each is compared by itself; one that fits is enough."""

CHAIN = 10
TEXTS = 64
TEXT = 1024
Names = Mapping[str, tuple[str, ...]]


class CertificateRefused(Refused):
    """A certificate that opens nothing. ``reason`` is for the audit log; ``str()`` is for the caller."""

    def __init__(self, public: str, reason: str) -> None:
        super().__init__(f"the certificate is refused: {public}", code="28000", hint="the audit log says why (session.refused)")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class CertificateTrust:
    """An issuer of kind ``certificate``: the fingerprints of its bundle, and the entries that refer to it."""

    config: CertificateIssuer
    anchors: frozenset[bytes]
    entries: tuple[IdentityEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class _Leaf:
    """The caller's certificate, taken apart. ``issuer`` is the fingerprint of the certificate that signed it."""

    names: Names
    begins: float
    ends: float
    issuer: str
    fingerprints: frozenset[bytes] = field(repr=False)

    @property
    def serial(self) -> str:
        return self.names["serial"][0]

    def __str__(self) -> str:
        return f"certificate {self.serial[:40]} of {shown(', '.join(self.names.get('subject', ())))}"


def trusts(issuers: Iterable[CertificateIssuer], bundles: Mapping[str, Sequence[x509.Certificate]],
           identities: Iterable[IdentityEntry]) -> tuple[CertificateTrust, ...]:
    """Compile what the policy says. ``bundles`` are the pinned certificates by the issuer's name."""
    entries = tuple(identities)
    return tuple(CertificateTrust(one, frozenset(_fingerprint(found) for found in bundles[one.name]),
                                  tuple(entry for entry in entries if entry.issuer == one.name)) for one in issuers)


def entry_digest(issuer: CertificateIssuer, entry: IdentityEntry) -> str:
    """What a session was admitted by: a reload that changes it ends the session."""
    parts = ["certificate", issuer.name, entry.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def identify(known: Sequence[CertificateTrust], revoked: Revocations, chain: Sequence[bytes], source: str, now: float) -> Identity:
    """Who shows this chain (DER, the caller's own first, verified). Raises ``CertificateRefused``."""
    leaf = _leaf(chain)
    fitting = [(trust, entry) for trust in known if trust.anchors & leaf.fingerprints for entry in trust.entries
               if _fits(entry.match, leaf.names)]
    if len(fitting) != 1:
        names = ", ".join(sorted(entry.name for _, entry in fitting))
        raise CertificateRefused("matches two identities" if fitting else "matches no identity",
                                 f"{leaf} matches {f'several identities: {names}' if fitting else 'no identity'}")
    [(trust, entry)] = fitting
    _check_times(leaf, trust.config, now)
    identity = _identity(leaf, trust.config, entry, now)
    if entry.sources and not inside(source, entry.sources):
        raise CertificateRefused("not from here", f"identity {identity.name} may not come from {shown(source)}")
    if reason := revoked.reason(identity, now):
        raise CertificateRefused("revoked", f"{leaf}: {reason}")
    return identity


def _identity(leaf: _Leaf, issuer: CertificateIssuer, entry: IdentityEntry, now: float) -> Identity:
    return Identity(
        name=entry.name, issuer=issuer.name, subject=", ".join(leaf.names.get("subject", ())), groups=frozenset(entry.groups),
        owner=entry.owner, certificate=leaf.serial, key_id=leaf.issuer, expires=leaf.ends,
        session_until=leaf.ends if issuer.session == "certificate" else now + issuer.session,
        claims={"issuer": ", ".join(leaf.names["issuer"])}, entry=entry_digest(issuer, entry))


def _check_times(leaf: _Leaf, issuer: CertificateIssuer, now: float) -> None:
    if not leaf.begins <= now < leaf.ends:
        raise CertificateRefused("not valid now", f"{leaf} is not valid at this time")
    if leaf.ends - leaf.begins > issuer.max_lifetime:
        raise CertificateRefused("good for too long", f"{leaf} is good for {leaf.ends - leaf.begins:.0f} s, "
                                 f"issuer {issuer.name} has max_lifetime {issuer.max_lifetime:.0f} s")


def _fits(match: Mapping[str, str], names: Names) -> bool:
    return all(any(matches(pattern, text) for text in names.get(name, ())) for name, pattern in match.items())


# taking it apart


def _leaf(chain: Sequence[bytes]) -> _Leaf:
    if not 2 <= len(chain) <= CHAIN:
        raise CertificateRefused("no chain", f"a chain of {len(chain)} certificates, expected 2 to {CHAIN}")
    try:
        found = [x509.load_der_x509_certificate(one) for one in chain]
        own = found[0]
        names = _checked(dict(_names(own)))
        is_authority = _is_authority(own)
    except (ValueError, UnsupportedAlgorithm, x509.ExtensionNotFound, x509.DuplicateExtension):
        raise CertificateRefused("not readable", "a certificate that cannot be read") from None
    if is_authority:
        raise CertificateRefused("an authority", f"certificate {names['serial'][0][:40]} is an authority's own")
    return _Leaf(names, own.not_valid_before_utc.timestamp(), own.not_valid_after_utc.timestamp(),
                 found[1].fingerprint(hashes.SHA256()).hex(), frozenset(map(_fingerprint, found[1:])))


def _fingerprint(certificate: x509.Certificate) -> bytes:
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _names(own: x509.Certificate) -> Iterator[tuple[str, tuple[str, ...]]]:
    """RFC 4514 for whole names; each alternative name by itself (RFC 5280 section 4.2.1.6)."""
    yield "serial", (f"{own.serial_number:x}",)
    yield "issuer", (own.issuer.rfc4514_string(),)
    yield "subject", tuple(filter(None, [own.subject.rfc4514_string()]))
    yield "cn", tuple(str(one.value) for one in own.subject.get_attributes_for_oid(NameOID.COMMON_NAME))
    try:
        other = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    yield "dns", tuple(other.get_values_for_type(x509.DNSName))
    yield "uri", tuple(other.get_values_for_type(x509.UniformResourceIdentifier))
    yield "email", tuple(other.get_values_for_type(x509.RFC822Name))
    yield "address", tuple(str(one) for one in other.get_values_for_type(x509.IPAddress))


def _checked(names: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Few, short, printable, one common name at most. Raises ``ValueError``."""
    texts = [text for found in names.values() for text in found]
    if len(texts) > TEXTS or len(names["cn"]) > 1 or not all(0 < len(text) <= TEXT and text.isprintable() for text in texts):
        raise ValueError("names")
    return names
