# SPDX-License-Identifier: Apache-2.0
"""Client certificates become identities: the right names, one identity, in time, not revoked (T12). TLS itself is in tests/peers."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from pydantic import ValidationError

from gateway.config.schema import CertificateIssuer, IdentityEntry, RevokedEntry
from gateway.identity.certificate import NAMES, CertificateRefused, CertificateTrust, identify, trusts
from gateway.identity.revocation import Revocations, compile_revocations, serials
from gateway.model import Identity

BEGIN = datetime(2026, 6, 1, tzinfo=UTC)
NOW = BEGIN.timestamp() + 3600
ROBOT: tuple[x509.GeneralName, ...] = (
    x509.DNSName("ci.robots.example"), x509.UniformResourceIdentifier("spiffe://plant-a/ci/build"), x509.RFC822Name("ci@plant.example"),
    x509.IPAddress(ipaddress.ip_address("10.1.2.3")))


def name(*common: str, organisation: str | None = None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, one) for one in common]
    return x509.Name(parts + ([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)] if organisation else []))


class Authority:
    def __init__(self, common: str, above: Authority | None = None) -> None:
        self.key, self.name, self.above = ec.generate_private_key(ec.SECP256R1()), name(common), above
        self.certificate = self._sign(self.name, self.key.public_key(), above or self, timedelta(days=3650), (), True)

    def chain(self, subject: x509.Name, names: Sequence[x509.GeneralName] = ROBOT, *, serial: int = 0x0A1B,
              lifetime: timedelta = timedelta(days=1), ca: bool = False) -> list[bytes]:
        """The caller's, then every authority up to the root."""
        leaf = self._sign(subject, ec.generate_private_key(ec.SECP256R1()).public_key(), self, lifetime, names, ca, serial)
        found, at = [leaf], self
        while True:
            found.append(at.certificate)
            if at.above is None:
                return [one.public_bytes(Encoding.DER) for one in found]
            at = at.above

    @staticmethod
    def _sign(subject: x509.Name, public: Any, by: Authority, lifetime: timedelta, names: Sequence[x509.GeneralName], ca: bool,
              serial: int = 1) -> x509.Certificate:
        builder = x509.CertificateBuilder(by.name, subject, public, serial, BEGIN, BEGIN + lifetime)
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(by.key, hashes.SHA256())


ROOT, OTHER = Authority("Plant CA"), Authority("Another CA")
BELOW = Authority("CI CA", ROOT)
SUBJECT = name("ci-bot", organisation="Plant A")


def entry(**keys: Any) -> IdentityEntry:
    return IdentityEntry.model_validate({"name": "ci-bot", "issuer": "plant-pki", "match": {"cn": "ci-bot"}} | keys)


def known(*entries: IdentityEntry, bundles: dict[str, list[x509.Certificate]] | None = None, **keys: Any) -> tuple[CertificateTrust, ...]:
    found = bundles or {"plant-pki": [ROOT.certificate]}
    issuers = [CertificateIssuer.model_validate({"name": one, "kind": "certificate", "ca": "trust/x.pem"} | keys) for one in found]
    return trusts(issuers, found, entries or (entry(),))


def admit(trust: tuple[CertificateTrust, ...], chain: Sequence[bytes], source: str = "10.0.0.1", now: float = NOW,
          revoked: Sequence[dict[str, Any]] = ()) -> Identity:
    return identify(trust, compile_revocations([RevokedEntry.model_validate(one) for one in revoked], {}), chain, source, now)


def refused(wanted: str, *arguments: Any, **keys: Any) -> str:
    with pytest.raises(CertificateRefused) as caught:
        admit(*arguments, **keys)
    assert wanted in caught.value.reason and caught.value.code == "28000"
    return str(caught.value)


def test_who_it_is() -> None:
    found = admit(known(entry(groups=["robots"], owner="dana")), ROOT.chain(SUBJECT))
    assert (found.name, found.issuer, found.subject, found.groups, found.owner) == (
        "ci-bot", "plant-pki", "O=Plant A,CN=ci-bot", frozenset({"robots"}), "dana")
    assert (found.certificate, found.token_id, found.person) == ("a1b", None, False)
    assert found.expires == found.session_until == (BEGIN + timedelta(days=1)).timestamp()
    assert found.claims == {"issuer": "CN=Plant CA"}
    assert found.key_id == ROOT.certificate.fingerprint(hashes.SHA256()).hex()


@pytest.mark.parametrize("match", [
    {"cn": "ci-*"}, {"subject": "O=Plant A,CN=ci-bot"}, {"dns": "*.robots.example"}, {"uri": "spiffe://plant-a/ci/*"},
    {"email": "ci@plant.example"}, {"address": "10.1.2.3"}, {"issuer": "CN=Plant CA"}, {"serial": "a1b"},
    {"uri": "spiffe://plant-a/*", "dns": "ci.*", "cn": "ci-bot"},
])
def test_names_that_fit(match: dict[str, str]) -> None:
    assert set(match) <= set(NAMES)
    assert admit(known(entry(match=match)), ROOT.chain(SUBJECT)).name == "ci-bot"


@pytest.mark.parametrize("match", [
    {"cn": "CI-BOT"}, {"cn": "bot"}, {"dns": "robots.example"}, {"uri": "spiffe://plant-b/*"}, {"serial": "0a1b"},
    {"cn": "ci-bot", "dns": "no"}, {"sub": "ci-bot"},
])
def test_t12_names_that_do_not_fit(match: dict[str, str]) -> None:
    assert "matches no identity" in refused("matches no identity", known(entry(match=match)), ROOT.chain(SUBJECT))


def test_t12_the_right_name_from_another_authority() -> None:
    refused("matches no identity", known(), OTHER.chain(SUBJECT))
    both = known(entry(), entry(name="other", issuer="others"), bundles={"plant-pki": [ROOT.certificate], "others": [OTHER.certificate]})
    assert admit(both, ROOT.chain(SUBJECT)).name == "ci-bot"
    assert admit(both, OTHER.chain(SUBJECT)).name == "other"


def test_an_authority_below_may_be_pinned_alone() -> None:
    pinned = known(bundles={"plant-pki": [BELOW.certificate]})
    assert admit(pinned, BELOW.chain(SUBJECT)).name == "ci-bot"
    refused("matches no identity", pinned, ROOT.chain(SUBJECT))
    assert admit(known(), BELOW.chain(SUBJECT)).name == "ci-bot"


def test_two_identities_are_none() -> None:
    several = known(entry(), entry(name="other", match={"dns": "ci.*"}))
    assert "matches two" in refused("several identities: ci-bot, other", several, ROOT.chain(SUBJECT))
    nested = known(entry(), entry(name="below", issuer="below"), bundles={"plant-pki": [ROOT.certificate], "below": [BELOW.certificate]})
    refused("several identities: below, ci-bot", nested, BELOW.chain(SUBJECT))


@pytest.mark.parametrize("chain", [
    [], ROOT.chain(SUBJECT)[:1], [b"no certificate", b"at all"], ROOT.chain(SUBJECT)[:1] * 11,
    ROOT.chain(name("ci-bot", "admin")), ROOT.chain(name("ci-bot\n")), ROOT.chain(SUBJECT, [x509.DNSName("a" * 2000)]),
    ROOT.chain(SUBJECT, [x509.DNSName(f"a{number}.example") for number in range(100)]), ROOT.chain(SUBJECT, ca=True),
], ids=["none", "alone", "broken", "long", "two names", "line break", "long name", "many names", "an authority"])
def test_chains_that_are_not_taken(chain: list[bytes]) -> None:
    with pytest.raises(CertificateRefused):
        admit(known(), chain)


def test_times() -> None:
    trust = known()
    refused("not valid at this time", trust, ROOT.chain(SUBJECT), now=BEGIN.timestamp() - 1)
    refused("not valid at this time", trust, ROOT.chain(SUBJECT), now=(BEGIN + timedelta(days=1)).timestamp())
    refused("max_lifetime", trust, ROOT.chain(SUBJECT, lifetime=timedelta(days=8)))
    assert admit(known(max_lifetime="9d"), ROOT.chain(SUBJECT, lifetime=timedelta(days=8))).name == "ci-bot"
    assert admit(known(session="8h"), ROOT.chain(SUBJECT)).session_until == NOW + 8 * 3600


def test_sources() -> None:
    trust = known(entry(sources=["10.2.0.0/16"]))
    assert admit(trust, ROOT.chain(SUBJECT), "10.2.3.4").name == "ci-bot"
    refused("may not come from", trust, ROOT.chain(SUBJECT), "10.3.3.4")


@pytest.mark.parametrize("revoked", [
    {"certificate": "0A:1B"}, {"certificate": "0xA1B"}, {"certificate": "0a1b"}, {"certificate": "2587"}, {"identity": "ci-bot"},
    {"issuer": "plant-pki", "subject": "O=Plant A,CN=ci-bot"}, {"key_id": ROOT.certificate.fingerprint(hashes.SHA256()).hex()},
])
def test_t12_revoked(revoked: dict[str, str]) -> None:
    assert "revoked" in refused("revoked", known(), ROOT.chain(SUBJECT), revoked=[revoked])


@pytest.mark.parametrize("revoked", [{"certificate": "0A:1C"}, {"certificate": "1b"}, {"identity": "other"}])
def test_others_that_are_revoked(revoked: dict[str, str]) -> None:
    assert admit(known(), ROOT.chain(SUBJECT), revoked=[revoked]).name == "ci-bot"


@pytest.mark.parametrize(("text", "found"), [
    ("10", {10, 16}), ("0x10", {16}), ("1f", {31}), ("00:10", {16}), ("0123", {123, 0x123}), ("", set()),
])
def test_serial_numbers(text: str, found: set[int]) -> None:
    """Digits alone may be either: both are revoked."""
    assert serials(text) == found


@pytest.mark.parametrize("text", ["", "x", "0x", "1:2", "0A:1", "-1", "1e5.", "a" * 65, "٣"])
def test_what_is_no_serial_number(text: str) -> None:
    with pytest.raises(ValidationError):
        RevokedEntry.model_validate({"certificate": text})


def test_a_token_has_no_certificate() -> None:
    assert Revocations(certificates={0: float("inf")}).reason(Identity("ci-bot", "ci", "s"), NOW) is None
