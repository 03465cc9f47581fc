# SPDX-License-Identifier: Apache-2.0
"""Attacks T1 to T8 on the door, and what an honest token gives. Every refusal is a ``TokenRefused`` that does not hold the token."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.errors import Refused
from gateway.identity import proven
from gateway.identity.authenticate import Authenticator
from gateway.identity.keys import Key, parse_key_set
from gateway.identity.remote_keys import KeySource, RemoteKeys
from gateway.identity.token import Token, TokenRefused, verify
from gateway.testing import TokenIssuer
from tests.unit.identity.folder import CI, IDENTITIES, ISSUERS, NOW, make_folder, new_issuers

SUB = "project:payments/api:ref:main"
HOME = "127.0.0.1"


class Door:
    """An authenticator on a folder of its own, and the issuers it trusts."""

    def __init__(self, root: Path, **policy: Any) -> None:
        self.root = root
        self.issuers = new_issuers()
        self.policy = policy
        self.authenticator = Authenticator(self.folder())

    def folder(self) -> Any:
        return make_folder(self.root, self.policy, {name: one.jwks() for name, one in self.issuers.items()})

    def ci(self, subject: str = SUB, **claims: Any) -> str:
        given: dict[str, Any] = {"now": NOW, "ref_protected": "true"} | claims
        return self.issuers["ci"].mint(subject, **given)

    def signed(self, payload: bytes) -> str:
        """A token whose signature is right, whatever its payload."""
        ci = self.issuers["ci"]
        return jwt.api_jws.PyJWS().encode(payload, ci._keys[-1][1], algorithm="ES256", headers={"kid": ci.key_id})

    def refused(self, token: str, source: str = HOME, now: float = NOW, people: bool = False) -> str:
        with pytest.raises(TokenRefused) as caught:
            self.authenticator.authenticate(token, source, now, people=people)
        shown = f"{caught.value} {caught.value.reason} {caught.value.detail} {caught.value.hint}"
        for part in token.split("."):
            assert len(part) < 8 or part not in shown
        assert isinstance(caught.value, Refused)
        assert caught.value.code == "28000"
        return caught.value.reason


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path)


def encode(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forge(header: Any, claims: Any, signature: bytes = b"x" * 64) -> str:
    return f"{encode(header)}.{encode(claims)}.{encode(signature)}"


def claims(**more: Any) -> dict[str, Any]:
    return {"iss": CI, "sub": SUB, "aud": "lockgate/plant-a", "iat": int(NOW), "exp": int(NOW) + 600, "ref_protected": "true"} | more


def test_honest_robot(door: Door) -> None:
    who = door.authenticator.authenticate(door.ci(jti="j-1", run_id=7, commit="abc", other="x"), HOME, NOW)
    assert (who.name, who.issuer, who.subject, who.owner, who.person) == ("ci-bot", "ci", SUB, "dana", False)
    assert who.groups == {"robots"}
    assert who.token_id == "j-1"
    assert who.key_id == door.issuers["ci"].key_id
    assert who.expires == NOW + 600
    assert who.session_until == NOW + 8 * 3600
    assert who.claims == {"run_id": "7", "commit": "abc"}


def test_honest_person_and_session_with_its_token(door: Door) -> None:
    token = door.issuers["staff"].person("ines", ["dba", "ops"], now=NOW)
    who = door.authenticator.authenticate(token, "192.0.2.1", NOW, people=True)
    assert (who.name, who.person, who.groups, who.owner) == ("ines", True, frozenset({"dba", "ops"}), None)
    assert who.session_until == who.expires + 30


def test_rs256_and_eddsa_where_the_policy_says_so(tmp_path: Path) -> None:
    for number, algorithm in enumerate(("RS256", "EdDSA")):
        issuer = TokenIssuer(CI, "lockgate/plant-a", algorithm=algorithm)
        entry = ISSUERS[0] | {"algorithms": [algorithm]}
        keys = {"ci": issuer.jwks(), "staff": new_issuers()["staff"].jwks()}
        folder = make_folder(tmp_path / str(number), {"issuers": [entry, ISSUERS[1]]}, keys)
        who = Authenticator(folder).authenticate(issuer.mint("service:reporting", now=NOW), HOME, NOW)
        assert who.name == "reporting"


def test_t01_alg_none(door: Door) -> None:
    for algorithm in ("none", "None", "NONE", "nOnE", ""):
        for token in (forge({"alg": algorithm}, claims(), b""), forge({"alg": algorithm, "kid": door.issuers["ci"].key_id}, claims())):
            assert "algorithm" in door.refused(token)
    assert "header" in door.refused(forge({"typ": "JWT"}, claims()))
    stripped = door.ci().rpartition(".")[0] + "."
    assert "does not fit" in door.refused(stripped)


def test_t02_public_key_as_hmac_secret(tmp_path: Path) -> None:
    door = Door(tmp_path)
    ci = door.issuers["ci"]
    public = parse_key_set(ci.jwks_json().encode()).keys[0].public
    secrets = [public.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo) for encoding in (Encoding.PEM, Encoding.DER)]
    secrets += [json.dumps(ci.jwks()["keys"][0]).encode()]
    for secret in secrets:
        for algorithm, digest in (("HS256", hashlib.sha256), ("HS512", hashlib.sha512)):
            body = f"{encode({'alg': algorithm, 'kid': ci.key_id})}.{encode(claims())}"
            token = f"{body}.{encode(hmac.new(secret, body.encode(), digest).digest())}"
            assert "algorithm" in door.refused(token)
    relabelled = forge({"alg": "RS256", "kid": ci.key_id}, claims())
    assert "fits RS256" in door.refused(relabelled)


def test_t03_kid_is_only_ever_compared(door: Door) -> None:
    for kid in ("../../etc/passwd", "/dev/null", "' or 1=1 --", "https://evil.example/jwks", "", "\x00", "a" * 4000):
        assert "key" in door.refused(door.issuers["ci"].mint(SUB, now=NOW, ref_protected="true", headers={"kid": kid}))
    for odd in (7, None, ["x"], {"x": 1}, True):
        header = {"alg": "ES256", "kid": odd}
        assert door.refused(forge(header, claims()))


def test_t03_headers_that_bring_keys(door: Door) -> None:
    evil = TokenIssuer(CI, "lockgate/plant-a")
    own = evil.jwks()["keys"][0]
    for header in ({"jku": "https://evil.example/jwks"}, {"x5u": "https://evil.example/cert"}, {"jwk": own}, {"x5c": ["AA=="]},
                   {"crit": ["exp"]}, {"zip": "DEF"}):
        assert "never accepted" in door.refused(evil.mint(SUB, now=NOW, ref_protected="true", headers=header))
    assert "never accepted" in door.refused(forge({"alg": "ES256", "crit": ["b64"], "b64": False}, claims()))
    assert door.refused(evil.mint(SUB, now=NOW, ref_protected="true"))
    assert "signature" in door.refused(evil.mint(SUB, now=NOW, ref_protected="true", headers={"kid": door.issuers["ci"].key_id}))


def test_token_without_kid_needs_exactly_one_fitting_key(tmp_path: Path) -> None:
    door = Door(tmp_path)
    ci = door.issuers["ci"]
    private = ci._keys[0][1]
    bare = jwt.encode(claims(), private, algorithm="ES256")
    assert door.authenticator.authenticate(bare, HOME, NOW).name == "ci-bot"
    ci.rotate()
    assert "not exactly one" in Door.refused(_again(door), bare)


def _again(door: Door) -> Door:
    door.authenticator = door.authenticator.reloaded(door.folder())
    return door


def test_t04_audience(door: Door) -> None:
    for wrong in ("lockgate/plant-b", "LOCKGATE/plant-a", "lockgate/plant-a/", "lockgate/plant-a/people", " lockgate/plant-a", "*",
                  ["lockgate/plant-b"], ["lockgate/plant-a", "kubernetes.default.svc"], ["lockgate/plant-a", "lockgate/plant-a/people"],
                  [], [7], 7, {"lockgate/plant-a": 1}, ""):
        assert "aud" in door.refused(door.ci(aud=wrong))
    assert "no `aud`" in door.refused(door.ci(aud=None))
    assert door.authenticator.authenticate(door.ci(aud=["lockgate/plant-a"]), HOME, NOW).name == "ci-bot"
    reason = door.refused(door.ci(aud="lockgate/plant-b"))
    assert reason == "audience 'lockgate/plant-b', expected 'lockgate/plant-a' alone"


def test_t05_issuer(tmp_path: Path) -> None:
    door = Door(tmp_path)
    for wrong in (CI + "/", CI.upper(), CI.replace("https", "http"), CI + " ", "", None):
        assert "iss" in door.refused(door.ci(iss=wrong))
    for odd in (7, ["x"], {"iss": CI}):
        assert "iss" in door.refused(door.signed(json.dumps(claims(iss=odd)).encode()))
    # the same subject from another issuer is someone else
    foreign = door.issuers["staff"].mint(SUB, now=NOW, ref_protected="true", preferred_username="ci-bot")
    assert "has the name of an identity" in door.refused(foreign)
    # the other issuer's key does not sign for this one
    assert door.refused(door.issuers["staff"].mint(SUB, now=NOW, iss=CI, aud="lockgate/plant-a", ref_protected="true"))


def test_t05_two_issuers_may_share_iss_and_differ_in_audience(tmp_path: Path) -> None:
    one, two = TokenIssuer(CI, "lockgate/plant-a"), TokenIssuer(CI, "lockgate/plant-a/people")
    issuers = [ISSUERS[0], ISSUERS[1] | {"issuer": CI}]
    gate = Authenticator(make_folder(tmp_path, {"issuers": issuers}, {"ci": one.jwks(), "staff": two.jwks()}))
    assert gate.authenticate(one.mint("service:reporting", now=NOW), HOME, NOW).name == "reporting"
    assert gate.authenticate(two.person("sam", ["security"], now=NOW), HOME, NOW).person
    with pytest.raises(TokenRefused):
        gate.authenticate(one.mint("service:reporting", now=NOW, aud="lockgate/plant-a/people", preferred_username="sam"), HOME, NOW)


def test_t06_times(door: Door) -> None:
    assert door.refused(door.ci(now=NOW - 780)) == "expired 3 minutes ago"
    assert door.refused(door.ci(exp=None)) == "it has no `exp`"
    assert door.refused(door.ci(iat=None)) == "it has no `iat`"
    assert "lives" in door.refused(door.ci(exp=int(NOW) + 3601))
    odd: list[Any] = [2**62, 10**300, -1, 1e300, "9999999999", True, [1], {}]
    for huge in odd:
        assert door.refused(door.ci(exp=huge))
    assert door.refused(door.ci(iat=int(NOW) + 60, exp=int(NOW) + 900)) == "issued (iat) 1 minute in the future"
    assert "nbf" in door.refused(door.ci(nbf=int(NOW) + 31))
    assert door.refused(door.ci(nbf="soon"))
    assert "ends (exp) before" in door.refused(door.ci(iat=int(NOW) + 20, exp=int(NOW) + 10))


def test_t06_leeway_is_all_there_is(door: Door) -> None:
    token = door.ci()
    assert door.authenticator.authenticate(token, HOME, NOW + 629).name == "ci-bot"
    assert "expired" in door.refused(token, now=NOW + 630)
    assert door.authenticator.authenticate(door.ci(nbf=int(NOW) + 29, iat=int(NOW) + 29), HOME, NOW).name == "ci-bot"


def test_t06_numbers_that_are_none(door: Door) -> None:
    for text in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 5000):
        body = b'{"iss":"%s","sub":"%s","aud":"lockgate/plant-a","iat":1,"exp":%s}' % (CI.encode(), SUB.encode(), text)
        assert "signature" not in door.refused(door.signed(body))


def test_t07_fork_branch_and_unprotected_ref(door: Door) -> None:
    for subject in ("project:evil/api:ref:main", "project:payments/api:ref:main:evil", "xproject:payments/api:ref:main",
                    "project:payments/api:ref:feature", "PROJECT:payments/api:ref:main", "project:payments/"):
        assert "matches no identity" in door.refused(door.ci(subject))
    reason = door.refused(door.ci(ref_protected="false"))
    assert reason.endswith("matches no identity: ci-bot needs ref_protected 'true', it has 'false'")
    for odd in (None, False, ["true"], {"true": 1}, 1):
        assert "matches no identity" in door.refused(door.ci(ref_protected=odd))
    assert door.authenticator.authenticate(door.ci(ref_protected=True), HOME, NOW).name == "ci-bot"


def test_the_nearest_identity_is_named(tmp_path: Path) -> None:
    forges = [{"name": "reports", "issuer": "ci", "match": {"project_path": "shop/reports", "ref_protected": "true"}},
              {"name": "deploy", "issuer": "ci", "match": {"project_path": "shop/reports", "ref": "v*", "ref_protected": "true"}}]
    door = Door(tmp_path / "forges", identities=forges)
    shop = {"project_path": "shop/reports", "ref": "main"}
    assert door.refused(door.ci(ref_protected="false", **shop)).endswith(": reports needs ref_protected 'true', it has 'false'")
    assert door.refused(door.ci(ref_protected=None, project_path="evil/api")).endswith("matches no identity")


def test_t07_reused_jti(tmp_path: Path) -> None:
    door = Door(tmp_path, issuers=[ISSUERS[0] | {"single_use": True}, ISSUERS[1]])
    token = door.ci(jti="once")
    assert door.authenticator.authenticate(token, HOME, NOW).token_id == "once"
    assert "used before" in door.refused(token)
    assert "used before" in door.refused(door.ci(jti="once", exp=int(NOW) + 60))
    door.authenticator.close()
    door.authenticator = Authenticator(door.folder())
    assert "used before" in door.refused(token)
    assert "used before" in Door.refused(_again(door), token)
    assert "no `jti`" in door.refused(door.ci(jti=None))
    assert (tmp_path / "state" / "replay.db").stat().st_mode & 0o777 == 0o600


async def test_t07_of_many_at_once_one_comes_in(tmp_path: Path) -> None:
    door = Door(tmp_path, issuers=[ISSUERS[0] | {"single_use": True}, ISSUERS[1]])
    token = door.ci(jti="j")
    found = await asyncio.gather(*(door.authenticator.admit(token, HOME, NOW) for _ in range(8)), return_exceptions=True)
    assert sorted(type(one).__name__ for one in found) == ["Identity"] + ["TokenRefused"] * 7


def test_t07_a_refused_token_is_not_used_up_and_inspecting_uses_nothing(tmp_path: Path) -> None:
    door = Door(tmp_path, issuers=[ISSUERS[0] | {"single_use": True}, ISSUERS[1]])
    token = door.ci(jti="j")
    assert "may not come from" in door.refused(token, source="192.0.2.1")
    assert door.authenticator.inspect(token, NOW).name == "ci-bot"
    assert door.authenticator.authenticate(token, HOME, NOW).name == "ci-bot"


def test_t07_replay_store_that_cannot_be_written_refuses(tmp_path: Path) -> None:
    door = Door(tmp_path, issuers=[ISSUERS[0] | {"single_use": True}, ISSUERS[1]])
    (tmp_path / "state" / "replay.db").mkdir()
    assert "cannot be written" in door.refused(door.ci(jti="j"))


def test_reusable_tokens_are_reusable(door: Door) -> None:
    token = door.ci(jti="pool")
    for _ in range(3):
        assert door.authenticator.authenticate(token, HOME, NOW).name == "ci-bot"


class _Site:
    """An issuer's address that can be down."""

    def __init__(self, issuer: TokenIssuer) -> None:
        self.issuer, self.down, self.asked, self.time = issuer, False, 0, 0.0
        self.answer: bytes | None = None

    async def fetch(self, source: KeySource) -> bytes:
        self.asked += 1
        if self.down:
            raise OSError("unreachable")
        return self.answer if self.answer is not None else self.issuer.jwks_json().encode()


def _connected(tmp_path: Path) -> tuple[Authenticator, _Site, TokenIssuer]:
    ci = TokenIssuer(CI, "lockgate/plant-a")
    site = _Site(ci)
    entry = {key: value for key, value in ISSUERS[0].items() if key != "jwks"}
    entry |= {"jwks_url": "https://ci.plant-a.example/jwks", "jwks_max_age": "10m"}
    folder = make_folder(tmp_path, {"issuers": [entry, ISSUERS[1]]}, {"staff": new_issuers()["staff"].jwks()})
    return Authenticator(folder, remote=RemoteKeys(site.fetch, lambda: site.time)), site, ci


async def test_t08_outage_is_bridged_for_a_bounded_time(tmp_path: Path) -> None:
    gate, site, ci = _connected(tmp_path)
    token = ci.mint("service:reporting", now=NOW)
    assert (await gate.admit(token, HOME, NOW)).name == "reporting"
    site.down = True
    site.time = 599
    assert (await gate.admit(token, HOME, NOW)).name == "reporting"
    site.time = 601
    with pytest.raises(TokenRefused, match="keys not available"):
        await gate.admit(token, HOME, NOW)
    site.down, site.time = False, 640
    assert (await gate.admit(token, HOME, NOW)).name == "reporting"


async def test_t08_rotation_is_seen_at_once_and_fetches_are_bounded(tmp_path: Path) -> None:
    gate, site, ci = _connected(tmp_path)
    await gate.admit(ci.mint("service:reporting", now=NOW), HOME, NOW)
    ci.rotate()
    site.time = 31
    assert (await gate.admit(ci.mint("service:reporting", now=NOW), HOME, NOW)).name == "reporting"
    asked = site.asked
    for _ in range(20):
        with pytest.raises(TokenRefused, match="key not known"):
            await gate.admit(ci.mint("service:reporting", now=NOW, headers={"kid": "nobody"}), HOME, NOW)
    assert site.asked == asked


async def test_t08_removed_key_dies_within_the_maximal_age(tmp_path: Path) -> None:
    gate, site, ci = _connected(tmp_path)
    token = ci.mint("service:reporting", now=NOW)
    await gate.admit(token, HOME, NOW)
    fresh = TokenIssuer(CI, "lockgate/plant-a")
    site.issuer = fresh
    site.time = 301
    with pytest.raises(TokenRefused, match="key not known"):
        await gate.admit(token, HOME, NOW)


async def test_t08_nonsense_from_the_address_changes_nothing(tmp_path: Path) -> None:
    gate, site, ci = _connected(tmp_path)
    token = ci.mint("service:reporting", now=NOW)
    await gate.admit(token, HOME, NOW)
    for number, nonsense in enumerate((b"", b"[]", b'{"keys":[]}', b'{"keys":[{"kty":"oct","k":"AA"}]}', b"{" * 300_000)):
        site.answer, site.time = nonsense, 301.0 + 40 * number
        assert (await gate.admit(token, HOME, NOW)).name == "reporting"


def test_removed_pinned_key_dies_with_the_reload(door: Door) -> None:
    token = door.ci()
    door.issuers["ci"] = TokenIssuer(CI, "lockgate/plant-a")
    assert "key" in Door.refused(_again(door), token)


def test_previous_current_and_next_key(door: Door) -> None:
    ci = door.issuers["ci"]
    kids = [ci.key_id, ci.rotate(), ci.rotate()]
    _again(door)
    for kid in kids:
        assert door.authenticator.authenticate(door.ci(key_id=kid), HOME, NOW).key_id == kid


def test_no_identity_and_two(tmp_path: Path) -> None:
    other = {"name": "wide", "issuer": "ci", "match": {"sub": "project:*"}}
    door = Door(tmp_path, identities=[*IDENTITIES, other])
    assert "matches several identities: ci-bot, wide" in door.refused(door.ci())
    assert door.authenticator.authenticate(door.ci(ref_protected="false"), HOME, NOW).name == "wide"


def test_sources(door: Door) -> None:
    token = door.ci()
    for good in ("127.0.0.1", "127.9.9.9:5000", "::1", "[::1]:4444", "::ffff:127.0.0.1", "[::ffff:127.0.0.1]:1"):
        assert door.authenticator.authenticate(token, good, NOW).name == "ci-bot"
    for bad in ("128.0.0.1", "::2", "::ffff:10.0.0.1", "", "localhost", "127.0.0.1, 10.0.0.1", "unix"):
        assert "may not come from" in door.refused(token, source=bad)
    assert door.authenticator.authenticate(door.ci("service:reporting"), "203.0.113.9", NOW).name == "reporting"


def test_groups_of_robots_come_from_the_entry_alone(door: Door) -> None:
    assert door.authenticator.authenticate(door.ci(groups=["dba", "security"]), HOME, NOW).groups == {"robots"}


def test_person_claims_with_odd_types(door: Door) -> None:
    staff = door.issuers["staff"]
    for groups in (7, {"dba": 1}, [7], [["dba"]], [""], True, ["g"] * 1001):
        assert "groups" in door.refused(staff.mint("user:x", now=NOW, preferred_username="x", groups=groups))
    for name in (None, "", 7, ["ines"], "ines\n", " ines", "i\x00", "x" * 300, "\u202eseni"):
        assert "preferred_username" in door.refused(staff.mint("user:x", now=NOW, preferred_username=name, groups=[]))
    for subject in (7, ["x"], ""):
        assert "sub" in door.refused(staff.mint("user:x", now=NOW, preferred_username="x", sub=subject))


def test_the_console_wants_people(door: Door) -> None:
    assert "person" in door.refused(door.ci(), people=True)


def test_person_may_not_pass_for_an_identity(door: Door) -> None:
    assert "name of an identity" in door.refused(door.issuers["staff"].person("ci-bot", ["dba"], now=NOW))


@pytest.mark.parametrize("text", [
    "", "password", "a.b", "a.b.c.d", "..", "a..b", "\u00e4.b.c", "eyJhbGciOiJFUzI1NiJ9.e30=.AA", " a.b.c", "a.b.c\n", "x" * 17_000])
def test_what_is_no_token(door: Door, text: str) -> None:
    assert door.refused(text)


def test_encodings_two_parsers_could_read_differently(door: Door) -> None:
    for body in (b'{"sub":"a","sub":"b"}', b"[" * 8000, b"\xff\xfe{}", b'"text"', b"null", b"{} {}"):
        assert "its payload" in door.refused(door.signed(body))
        assert "its header" in door.refused(forge(body, claims()))


def test_tampered_payload_and_foreign_signature(door: Door) -> None:
    header, _, signature = door.ci().split(".")
    assert "signature" in door.refused(f"{header}.{encode(claims(sub=SUB))}.{signature}")


def test_revoked(tmp_path: Path) -> None:
    entries = [{"token_id": "j"}, {"issuer": "ci", "subject": SUB}, {"issuer": CI, "subject": SUB}, {"identity": "ci-bot"}]
    for number, entry in enumerate(entries):
        door = Door(tmp_path / str(number), revoked=[entry])
        assert "revoked" in door.refused(door.ci(jti="j"))
        assert door.authenticator.authenticate(door.ci("service:reporting", jti="k"), HOME, NOW).name == "reporting"
    door = Door(tmp_path / "person", revoked=[{"person": "ines", "until": "2026-09-21T15:00:00Z"}])
    token = door.issuers["staff"].person("ines", ["dba"], now=NOW, lifetime=36_000)
    assert "person is revoked" in door.refused(token)
    assert door.authenticator.authenticate(token, HOME, NOW + 7_200).name == "ines"


def test_revoked_key(tmp_path: Path) -> None:
    door = Door(tmp_path)
    door.policy = {"revoked": [{"key_id": door.issuers["ci"].key_id}]}
    assert "key that signed" in Door.refused(_again(door), door.ci())


def test_inspect_says_the_same(door: Door) -> None:
    assert door.authenticator.inspect(door.ci(), NOW).name == "ci-bot"
    with pytest.raises(TokenRefused, match="expired"):
        door.authenticator.inspect(door.ci(), NOW + 5000)


def test_a_signature_is_verified_once_and_everything_else_each_time(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def counted(token: Token, key: Key) -> None:
        seen.append(key.id)
        verify(token, key)

    monkeypatch.setattr(proven, "verify", counted)
    token = door.ci()
    first = door.authenticator.authenticate(token, HOME, NOW)
    assert door.authenticator.authenticate(token, HOME, NOW) == first and len(seen) == 1
    assert "expired" in door.refused(token, now=NOW + 10**6)
    head, body, _ = token.split(".")
    for _ in range(2):                         # what is refused is refused again; nothing of it is remembered
        assert "signature" in door.refused(f"{head}.{body}.{encode(b'x' * 64)}")
    assert len(seen) == 3
    door.issuers["ci"] = new_issuers()["ci"]   # the same kid may stand for another key after a reload
    door.authenticator = door.authenticator.reloaded(door.folder())
    assert door.refused(token)


def test_no_more_signatures_are_remembered_than_may_be(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proven, "KEPT", 2)
    tokens = [door.ci(jti=str(number)) for number in range(4)]
    for token in tokens:
        door.authenticator.authenticate(token, HOME, NOW)
    assert len(door.authenticator._proven._by) == 2


@pytest.mark.parametrize(("matches", "subject", "expected"), [
    ([{"sub": "a"}, {"sub": "b"}], "a", "entry-0"), ([{"sub": "a"}, {"sub": "a*"}], "a", None),
    ([{"sub": "a"}, {"sub": "a*"}], "ab", "entry-1"),
    ([{"sub": "a"}, {"ref_protected": "true"}], "a", None), ([{"sub": "a"}, {"ref_protected": "true"}], "b", "entry-1"),
    ([{"sub": "a", "ref_protected": "false"}, {"sub": "*"}], "a", "entry-1"), ([{"sub": "b"}], "a", None)])
def test_entries_are_found_by_subject_as_by_looking_at_all(tmp_path: Path, matches: list[dict[str, str]], subject: str,
                                                          expected: str | None) -> None:
    entries = [{"name": f"entry-{number}", "issuer": "ci", "match": match, "owner": "dana"} for number, match in enumerate(matches)]
    door = Door(tmp_path, identities=entries)
    if expected is None:
        assert door.refused(door.ci(subject)).startswith(f"subject '{subject}' of issuer ci matches")
    else:
        assert door.authenticator.authenticate(door.ci(subject), HOME, NOW).name == expected
