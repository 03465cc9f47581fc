# SPDX-License-Identifier: Apache-2.0
"""SSH certificates of callers: what is minted comes back as the same identity, and nothing else comes back at all (T11).

Forged ones are made with the same library, or byte by byte where that would not make them.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import struct
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificateBuilder,
    SSHCertificateType,
    load_ssh_public_identity,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import ClientFault
from gateway.identity import ssh_certificate
from gateway.identity.certificate import CertificateRefused
from gateway.model import Identity
from gateway.protocols.ssh import authority

NOW = 1_790_000_000.0
PEER = "10.1.2.3"
CA = Ed25519PrivateKey.generate()
KEY = Ed25519PrivateKey.generate()
ROBOT = Identity(
    name="ci-bot", issuer="ci", subject="project:payments/api:ref:main", groups=frozenset({"robots", "deployers"}), owner="dana",
    token_id="j-1", key_id="k-1", expires=NOW + 3600, session_until=NOW + 3630, claims={"run_id": "17", "commit": "cafe ☕"},
    entry="ab" * 32)
USERS = ("web-1", "deploy@web-1")


def openssh(key: Any) -> str:
    return str(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())


def blob(line: str) -> bytes:
    return base64.b64decode(line.split()[1])


def minted(**other: Any) -> bytes:
    given: dict[str, Any] = {"ca": CA, "identity": ROBOT, "key": KEY.public_key(), "principals": USERS, "now": NOW, "lifetime": 300} | other
    return blob(authority.mint(**given).line)


def forged(*, ca: Any = CA, kind: SSHCertificateType = SSHCertificateType.USER, key_id: bytes | None = None, after: float = NOW - 30,
           before: float = NOW + 300, principals: tuple[bytes, ...] = (b"web-1",), options: dict[bytes, bytes] | None = None,
           extensions: dict[bytes, bytes] | None = None) -> bytes:
    builder = (SSHCertificateBuilder().public_key(KEY.public_key()).type(kind).serial(7).valid_after(after).valid_before(before)
               .key_id(ssh_certificate.write(ROBOT) if key_id is None else key_id))
    builder = builder.valid_principals(list(principals)) if principals else builder.valid_for_all_principals()  # type: ignore[no-untyped-call]
    for name, value in (options or {}).items():
        builder = builder.add_critical_option(name, value)
    for name, value in (extensions or {}).items():
        builder = builder.add_extension(name, value)
    return blob(builder.sign(ca).public_bytes().decode())


def refused(certificate: bytes, *, user: str = "web-1", source: str = PEER, now: float = NOW, ca: Ed25519PublicKey | None = None) -> str:
    with pytest.raises(CertificateRefused) as caught:
        authority.read(certificate, ca or CA.public_key(), user, source, now)
    return caught.value.reason


def test_what_is_minted_comes_back() -> None:
    found = authority.mint(CA, ROBOT, KEY.public_key(), USERS, NOW, 300)
    for user in USERS:
        assert authority.read(blob(found.line), CA.public_key(), user, PEER, NOW) == replace(ROBOT, certificate=f"{found.serial:x}")
    assert (found.principals, found.begins, found.until) == (USERS, int(NOW) - 30, int(NOW) + 300)
    assert found.key.startswith("SHA256:") and found.line.startswith("ssh-ed25519-cert-v01@openssh.com ")


def test_it_ends_with_the_token_and_two_have_two_serials() -> None:
    short = replace(ROBOT, expires=NOW + 60)
    first, second = (authority.mint(CA, short, KEY.public_key(), USERS, NOW, 300) for _ in range(2))
    assert first.until == int(NOW) + 60 and first.serial != second.serial
    assert refused(blob(first.line), now=NOW + 60) == "it is not valid at this time"
    assert refused(blob(first.line), now=NOW - 31) == "it is not valid at this time"
    with pytest.raises(CertificateRefused, match="expired"):
        authority.mint(CA, replace(ROBOT, expires=NOW), KEY.public_key(), USERS, NOW, 300)


def test_no_listener_can_make_it_long() -> None:
    long = replace(ROBOT, expires=NOW + 86_400)
    assert authority.mint(CA, long, KEY.public_key(), USERS, NOW, 86_400).until == int(NOW) + 3600
    assert refused(forged(before=NOW + 7200, key_id=ssh_certificate.write(long))) == "it is good for 7230 s"
    short = ssh_certificate.write(replace(ROBOT, expires=NOW + 200))
    assert refused(forged(key_id=short)) == "it outlives the token it was exchanged for"


@pytest.mark.parametrize("key", [
    ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP521R1()),
    rsa.generate_private_key(65537, 3072)])
def test_every_accepted_kind_of_key(key: Any) -> None:
    public = authority.public_key(openssh(key.public_key()) + " someone@host")
    certificate = blob(authority.mint(CA, ROBOT, public, USERS, NOW, 300).line)
    assert authority.read(certificate, CA.public_key(), "web-1", PEER, NOW).name == "ci-bot"


@pytest.mark.parametrize("line", [
    "", "ssh-ed25519", "ssh-ed25519 AAAA", *(f"{kind} {openssh(KEY.public_key()).split()[1]}" for kind in ("ssh-dss", "ssh-rsa")),
    'command="x" ' + openssh(KEY.public_key()), openssh(KEY.public_key()) + "\n" + openssh(KEY.public_key()),
    "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABHNzaDo=",
    authority.mint(CA, ROBOT, KEY.public_key(), USERS, NOW, 300).line, "ssh-ed25519 " + "A" * 9000,
    openssh(rsa.generate_private_key(65537, 2048).public_key())])
def test_no_other_key(line: str) -> None:
    with pytest.raises(ClientFault):
        authority.public_key(line)


def test_t14_for_one_user_name_and_no_other() -> None:
    for user in ("web-2", "root@web-1", "WEB-1", "web-1 ", "", "deploy@web-1,root@web-1", "*"):
        assert refused(minted(), user=user).startswith("it is not for the user name")


def test_t11_signed_by_another_ca() -> None:
    assert refused(minted(ca=Ed25519PrivateKey.generate())) == "it is not signed by this gateway's user CA"
    for other in (ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)):
        assert refused(forged(ca=other)) == "it is not signed by this gateway's user CA"


def test_t11_signed_by_the_callers_own_key() -> None:
    assert refused(forged(ca=KEY)) == "it is not signed by this gateway's user CA"


def test_t11_every_changed_bit_is_seen() -> None:
    good = minted()
    for place in range(0, len(good), 3):
        changed = good[:place] + bytes([good[place] ^ 1]) + good[place + 1:]
        refused(changed)


def text(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def assembled(signer: bytes, sign: Any, *, names: bytes = text(b"web-1")) -> bytes:
    """A certificate by hand, for signers and lists that no library would write."""
    raw = KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    body = (text(b"ssh-ed25519-cert-v01@openssh.com") + text(os.urandom(32)) + text(raw) + struct.pack(">QI", 7, 1)
            + text(ssh_certificate.write(ROBOT)) + text(names) + struct.pack(">QQ", int(NOW) - 30, int(NOW) + 300)
            + text(b"") + text(b"") + text(b"") + text(signer))
    return body + text(text(signer[4:4 + int.from_bytes(signer[:4], "big")]) + text(sign(body)))


def ca_blob(key: Ed25519PrivateKey) -> bytes:
    return text(b"ssh-ed25519") + text(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def test_the_hand_made_one_is_right() -> None:
    assert authority.read(assembled(ca_blob(CA), CA.sign), CA.public_key(), "web-1", PEER, NOW).certificate == "7"


def test_t11_nested_certificate_as_ca_cve_2025_49825() -> None:
    """The signer is a certificate that the CA did sign, over a key that the attacker holds."""
    attacker = Ed25519PrivateKey.generate()
    nested = minted(key=attacker.public_key())
    assert "not made with this gateway's user CA" in refused(assembled(nested, attacker.sign))
    assert "not signed by this gateway's user CA" in refused(assembled(ca_blob(attacker), attacker.sign))
    assert "not made with this gateway's user CA" in refused(assembled(ca_blob(CA), attacker.sign))


@pytest.mark.parametrize("names", [(), (b"",), (b"*",), (b"web-?",), (b"web-1,root@web-1",), (b"web-1", b"!x"), (b"\xff",), (b"web-1\n",)])
def test_t11_principals_empty_wildcard_comma_cve_2026_35414(names: tuple[bytes, ...]) -> None:
    for user in ("web-1", "root@web-1", "", "*", "web-1\n"):
        assert refused(forged(principals=names), user=user) == "its user names are none, or not names"


def test_t11_many_principals() -> None:
    assert refused(assembled(ca_blob(CA), CA.sign, names=text(b"web-1") * 257)) == "its user names are none, or not names"
    for names in ((), ("a", "b,c"), tuple(f"r{number}" for number in range(257))):
        with pytest.raises(CertificateRefused, match="too many names"):
            minted(principals=names)


def test_t11_host_certificate_as_user_certificate() -> None:
    assert refused(forged(kind=SSHCertificateType.HOST)) == "a host's certificate, expected a user's"


@pytest.mark.parametrize("options", [{b"force-command": b"id"}, {b"verify-required": b""}, {b"x@example.com": b""},
                                     {b"source-address": b"10.0.0.0/8", b"x": b""}])
def test_t11_unknown_critical_options(options: dict[bytes, bytes]) -> None:
    assert refused(forged(options=options)) == "it has critical options that are not understood here"


def test_extensions_are_none_of_ours() -> None:
    assert refused(forged(extensions={b"permit-pty": b""})) == "it has extensions, and the gateway mints none"


def test_source_address() -> None:
    bound = minted(source="10.1.2.3")
    assert authority.read(bound, CA.public_key(), "web-1", PEER, NOW).name == "ci-bot"
    assert authority.read(bound, CA.public_key(), "web-1", "::ffff:10.1.2.3", NOW).name == "ci-bot"
    for source in ("10.1.2.4", "unix", ""):
        assert refused(bound, source=source) == f"it is not good from {source!r}"
    for wrong in (b"", b"10.1.2.3,", b"everywhere", b"!10.1.2.3", b"10.1.2.3/8", b"\xff"):
        assert refused(forged(options={b"source-address": wrong})) == "its source-address cannot be read"


@pytest.mark.parametrize("change", [
    lambda said: said[:-1], lambda said: said + b" ", lambda said: said.replace(b'"v":1', b'"v":1.0'),
    lambda said: said.replace(b'"v":1', b'"v":2'), lambda said: said.replace(b'"v":1', b'"v":true'),
    lambda said: said.replace(b'"person":false', b'"person":0'), lambda said: said.replace(b'"groups":[', b'"groups":["x",'),
    lambda said: said.replace(b'"owner":"dana"', b'"owner":""'), lambda said: said.replace(b'"name":"ci-bot"', b'"name":["ci-bot"]'),
    lambda said: said.replace(b'"name":', b'"name":"root","name":'), lambda said: said.replace(b'"name":', b'"more":1,"name":'),
    lambda said: said.replace(b"1790003600.0", b"1e400"), lambda said: said.replace(b"1790003600.0", b"NaN"),
    lambda said: said.replace(b"1790003600.0", b"1790003600"), lambda said: said.replace(b'"17"', b"17"),
    lambda said: b"", lambda said: b"[]",
    lambda said: b"\xff", lambda said: b"[" * 9000, lambda said: said.replace(b"\\u2615", "☕".encode())])
def test_t11_a_key_id_is_read_in_one_way_only(change: Any) -> None:
    said = ssh_certificate.write(ROBOT)
    assert change(said) != said
    assert refused(forged(key_id=change(said))).startswith("its key id is not one that the gateway wrote")


def test_a_key_id_is_bounded() -> None:
    crowd = replace(ROBOT, groups=frozenset(f"group-{number:04d}" for number in range(1000)))
    with pytest.raises(CertificateRefused, match="too much to say"):
        ssh_certificate.write(crowd)


@pytest.mark.parametrize("certificate", [
    b"", b"\0\0\0\0", b"\xff\xff\xff\xff" + b"x" * 100, text(b"ssh-ed25519") + text(b"k" * 32), text(b"ssh-ed25519-cert-v01@openssh.com"),
    text(b"sk-ssh-ed25519-cert-v01@openssh.com") + b"x" * 64, text(b"x509v3-ssh-rsa") + b"x" * 64, b"x" * 40_000])
def test_what_is_no_certificate(certificate: bytes) -> None:
    assert "certificate" in refused(certificate)


@given(st.binary(max_size=600))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_refused(noise: bytes) -> None:
    head = text(b"ssh-ed25519-cert-v01@openssh.com") + text(b"n" * 32)
    for certificate in (noise, head + noise):
        with pytest.raises(CertificateRefused):
            authority.read(certificate, CA.public_key(), "web-1", PEER, NOW)


NAMES = st.text(min_size=1, max_size=20)


@given(st.builds(Identity, name=NAMES, issuer=NAMES, subject=NAMES, groups=st.frozensets(NAMES, max_size=5), owner=st.none() | NAMES,
                 person=st.booleans(), token_id=st.none() | NAMES, key_id=st.none() | NAMES, expires=st.floats(1, 2**40),
                 session_until=st.floats(1, 2**40), claims=st.dictionaries(NAMES, st.text(max_size=20), max_size=4), entry=NAMES))
@settings(max_examples=200, deadline=None)
def test_every_identity_survives_the_way(identity: Identity) -> None:
    assert ssh_certificate.read(ssh_certificate.write(identity), 255) == replace(identity, certificate="ff")


def test_the_library_agrees_on_the_form() -> None:
    found = load_ssh_public_identity(authority.mint(CA, ROBOT, KEY.public_key(), USERS, NOW, 300, source="10.1.2.3").line.encode())
    assert not isinstance(found, Ed25519PublicKey)
    assert ipaddress.ip_network(dict(found.critical_options)[b"source-address"].decode()).prefixlen == 32  # type: ignore[union-attr]
