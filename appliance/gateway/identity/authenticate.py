# SPDX-License-Identifier: Apache-2.0
"""A token becomes an identity: which issuer, which key, which entry, from where, revoked or used before.

The issuer is the one whose ``iss`` and audience are exactly the token's. A token whose ``aud`` lists audiences besides that one is
refused: whoever else it is meant for could present it here. The key comes from that issuer's own set, the algorithms from the policy
and from the key's type. The identity is the one entry of the issuer that the claims match; no entry or two is a refusal.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.config.load import Folder
from gateway.config.schema import IdentityEntry, Issuer
from gateway.errors import ConfigError
from gateway.identity import certificate
from gateway.identity.certificate import CertificateRefused
from gateway.identity.keys import ALGORITHMS, Key, KeySet
from gateway.identity.match import Network, claim_text, fits, inside
from gateway.identity.proven import Proven
from gateway.identity.remote_keys import KeySource, RemoteKeys
from gateway.identity.replay import ID_BYTES, ReplayStore
from gateway.identity.revocation import Revocations, compile_revocations
from gateway.identity.token import Times, Token, TokenRefused, audiences, check_times, open_token, shown
from gateway.model import Identity

NAME_CHARACTERS = 256
GROUPS = 1_000
CLAIM_CHARACTERS = 1_024


@dataclass(frozen=True, slots=True)
class Entry:
    """An identity entry with its networks parsed and its digest."""

    config: IdentityEntry
    groups: frozenset[str]
    sources: tuple[Network, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class Trust:
    """One issuer: its pinned keys, or where they are fetched from; what it may sign with, and the entries that refer to it."""

    config: Issuer
    pinned: KeySet | None
    source: KeySource | None
    algorithms: frozenset[str]
    entries: tuple[Entry, ...]
    digest: str
    by_subject: Mapping[str, tuple[Entry, ...]]
    others: tuple[Entry, ...]
    """The entries whose ``sub`` is a plain string, by it; and all others."""

    def candidates(self, claims: Mapping[str, Any]) -> Sequence[Entry]:
        """Every entry that may fit: those for another subject cannot."""
        subject = claims.get("sub")
        return (*self.by_subject.get(subject, ()), *self.others) if isinstance(subject, str) else self.entries

    def admitted(self, identity: Identity) -> Entry | None:
        """The entry, unchanged, that this identity was admitted by before."""
        return next((one for one in self.entries if one.digest == identity.entry and self.config.people == identity.person
                     and (identity.person or one.config.name == identity.name)), None)


class Authenticator:
    """What the policy says of tokens. Raises ``ConfigError`` when it cannot be followed. ``reloaded`` makes the next one."""

    def __init__(self, folder: Folder, *, replay: ReplayStore | None = None, remote: RemoteKeys | None = None) -> None:
        policy = folder.policy
        self._replay = replay or ReplayStore(folder.state / "replay.db")
        self._remote = remote or RemoteKeys()
        self._proven = Proven()
        self._trusts = tuple(_trust(folder, issuer) for issuer in policy.issuers)
        self._names = frozenset(entry.name for entry in policy.identities)
        self._revocations = revocations(folder)
        self._certificates = certificate.trusts(folder.authorities, folder.bundles, policy.identities)

    def reloaded(self, folder: Folder) -> Authenticator:
        """The authenticator of a new policy; used tokens and fetched keys stay known."""
        return Authenticator(folder, replay=self._replay, remote=self._remote)

    def close(self) -> None:
        self._replay.close()

    async def admit(self, text: str, source: str, now: float, *, people: bool = False) -> Identity:
        """As ``authenticate``, after fetching keys where they are due, and off the event loop where the disk is asked."""
        token = open_token(text)
        trust = self._choose(token, people)
        if trust.source is not None:
            await self._remote.refresh(trust.source, token.kid)
        if trust.config.single_use:
            return await asyncio.to_thread(self.authenticate, text, source, now, people=people)
        return self._identify(token, source, now, people, use=True)

    def admit_certificate(self, chain: Sequence[bytes], source: str, now: float) -> Identity:
        """Who showed this chain in TLS (DER, the caller's own first, verified there). Raises ``CertificateRefused``."""
        return certificate.identify(self._certificates, self._revocations, chain, source, now)

    def admit_ssh_certificate(self, identity: Identity, source: str, now: float) -> Identity:
        """Whom an SSH certificate of this gateway names (``protocols.ssh.authority.read``), looked at as if its token came from ``source``
        now: issuer, entry, key, networks, revocations (the certificate's serial too). Uses nothing up, so it may be asked for a key that is
        only offered; ``use_ssh_certificate`` follows once its signature is verified. Raises ``CertificateRefused``."""
        trust = next((one for one in self._trusts if one.config.name == identity.issuer), None)
        entry = trust.admitted(identity) if trust is not None else None
        if trust is None or (entry is None and not (identity.person and identity.entry == trust.digest)):
            raise CertificateRefused("no longer known", f"the policy no longer has what admitted {identity.name}")
        if identity.person and identity.name in self._names and (entry is None or entry.config.name != identity.name):
            raise CertificateRefused("name not clear", f"person {shown(identity.name)} has the name of an identity")
        if trust.pinned is not None and all(key.id != identity.key_id for key in trust.pinned.keys):
            raise CertificateRefused("no longer known", f"the key that signed for {identity.name} is no longer there")
        if entry is not None and entry.sources and not inside(source, entry.sources):
            raise CertificateRefused("not from here", f"identity {identity.name} may not come from {shown(source)}")
        if reason := self._revocations.reason(identity, now):
            raise CertificateRefused("revoked", reason)
        session = trust.config.session
        return identity if session == "token" else replace(identity, session_until=now + session)

    async def use_ssh_certificate(self, identity: Identity, now: float) -> None:
        """To be awaited once its holder has signed: where each token of the issuer counts once (``single_use``), so does a certificate that
        one was exchanged for. Raises ``CertificateRefused`` where it was used before, or where that cannot be told."""
        issuer = next((one.config for one in self._trusts if one.config.name == identity.issuer), None)
        if issuer is None or identity.certificate is None:
            raise CertificateRefused("no longer known", f"the policy no longer has what admitted {identity.name}")
        if issuer.single_use:
            try:
                await asyncio.to_thread(self._replay.use, f"{issuer.name} ssh", identity.certificate, identity.expires, now)
            except TokenRefused as refused:
                raise CertificateRefused(str(refused).rpartition(": ")[2], refused.reason) from None

    def authenticate(self, text: str, source: str, now: float, *, people: bool = False) -> Identity:
        """Who presents this token. ``source`` is the peer's address; ``people`` asks for a person (the console).

        Raises ``TokenRefused``; its ``reason`` is for the audit log. A token of a ``single_use`` issuer is used up by this.
        """
        return self._identify(open_token(text), source, now, people, use=True)

    def inspect(self, text: str, now: float, source: str | None = None) -> Identity:
        """As ``authenticate``, for ``token inspect``: nothing is used up, and no source means from anywhere."""
        return self._identify(open_token(text), source, now, people=False, use=False)

    def look_at(self, text: str, now: float, source: str | None = None) -> Identity:
        """``inspect``, after fetching keys where the token's issuer has no pinned ones. Not for use inside an event loop."""
        token = open_token(text)
        trust = self._choose(token, people=False)
        if trust.source is not None:
            asyncio.run(self._remote.refresh(trust.source, token.kid))
        return self.inspect(text, now, source)

    def _identify(self, token: Token, source: str | None, now: float, people: bool, use: bool) -> Identity:
        trust = self._choose(token, people)
        key = self._key(trust, token)
        self._proven.verify(token, key)
        issuer = trust.config
        times = check_times(token.claims, now, issuer.leeway, issuer.max_lifetime)
        token_id = _text(token.claims, "jti") if issuer.single_use or token.claims.get("jti") is not None else None
        entry = _entry(trust, token.claims)
        identity = self._identity(trust, entry, token, key, times, token_id, now)
        if entry is not None and source is not None and entry.sources and not inside(source, entry.sources):
            raise TokenRefused("not from here", f"identity {identity.name} may not come from {shown(source)}")
        if reason := self._revocations.reason(identity, now):
            raise TokenRefused("revoked", reason)
        if use and issuer.single_use and token_id is not None:
            self._replay.use(issuer.name, token_id, times.expires + issuer.leeway, now)
        return identity

    def _choose(self, token: Token, people: bool) -> Trust:
        """The only issuer of this ``iss`` and audience."""
        said = token.claims.get("iss")
        if not isinstance(said, str):
            raise TokenRefused("no issuer", "it has no `iss`" if said is None else "its `iss` is not a string")
        known = [trust for trust in self._trusts if trust.config.issuer == said]
        if not known:
            raise TokenRefused("issuer not known", f"issuer {shown(said)} is not known here; known: {self._listed(self._trusts, 'issuer')}")
        meant = audiences(token.claims)
        found = [trust for trust in known if set(meant) == {trust.config.audience}]
        if len(found) != 1:
            reason = f"audience {shown(meant[0] if len(meant) == 1 else list(meant))}, expected {self._listed(known, 'audience')} alone"
            raise TokenRefused("issuer not clear" if found else "wrong audience", reason)
        if people and not found[0].config.people:
            raise TokenRefused("not a person", f"issuer {found[0].config.name} vouches for robots; this needs a person")
        return found[0]

    @staticmethod
    def _listed(trusts: Any, key: str) -> str:
        return ", ".join(sorted({repr(getattr(trust.config, key)) for trust in trusts})) or "none"

    def _key(self, trust: Trust, token: Token) -> Key:
        if token.algorithm not in trust.algorithms:
            accepted = ", ".join(sorted(trust.algorithms))
            said = shown(token.algorithm)
            raise TokenRefused("algorithm not accepted", f"algorithm {said}; issuer {trust.config.name} may use {accepted}")
        keys = self._keys(trust)
        key = keys.find(token.kid, token.algorithm)
        if key is None:
            named = f"key {shown(token.kid)}" if token.kid is not None else "no key named, and not exactly one"
            raise TokenRefused("key not known", f"{named} of issuer {trust.config.name} fits {token.algorithm}")
        return key

    def _keys(self, trust: Trust) -> KeySet:
        keys = trust.pinned
        if keys is None and trust.source is not None:
            keys = self._remote.keys(trust.source)
            if keys is None:
                raise TokenRefused("keys not available", f"issuer {trust.config.name}: {self._remote.problem(trust.source)}")
        return keys or KeySet(())

    def _identity(self, trust: Trust, entry: Entry | None, token: Token, key: Key, times: Times, token_id: str | None,
                  now: float) -> Identity:
        issuer, claims = trust.config, token.claims
        name = self._name(issuer, entry, claims)
        last = times.expires + issuer.leeway
        return Identity(
            name=name, issuer=issuer.name, subject=_text(claims, "sub"),
            groups=_all_groups(entry, _groups(issuer, claims)),
            owner=entry.config.owner if entry is not None else None, person=issuer.people, token_id=token_id, key_id=key.id,
            expires=times.expires, session_until=last if issuer.session == "token" else now + issuer.session,
            claims=_recorded(issuer, claims), entry=entry.digest if entry is not None else trust.digest)

    def _name(self, issuer: Issuer, entry: Entry | None, claims: Mapping[str, Any]) -> str:
        """A robot has its entry's name, a person the name claim; a person never passes for an identity of the same name."""
        if not issuer.people and entry is not None:
            return entry.config.name
        name = _text(claims, issuer.name_claim)
        if name in self._names and (entry is None or entry.config.name != name):
            raise TokenRefused("name not clear", f"person {shown(name)} has the name of an identity")
        return name


def revocations(folder: Folder) -> Revocations:
    """The compiled revoked list of a folder."""
    return compile_revocations(folder.policy.revoked, {issuer.name: issuer.issuer for issuer in folder.policy.issuers})


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def issuer_digest(issuer: Issuer) -> str:
    """What a session was admitted by, as far as the issuer goes; keys may rotate under a live session."""
    return _digest(issuer.name, issuer.issuer, issuer.audience, issuer.people, issuer.name_claim, issuer.groups_claim)


def entry_digest(issuer: Issuer, entry: IdentityEntry) -> str:
    """What a session was admitted by: a reload that changes it ends the session."""
    return _digest(issuer_digest(issuer), entry.model_dump(mode="json"))


def _trust(folder: Folder, issuer: Issuer) -> Trust:
    algorithms = frozenset[str](issuer.algorithms)
    if unknown := algorithms - ALGORITHMS:
        expected = ", ".join(sorted(ALGORITHMS))
        raise ConfigError(f"issuer {issuer.name}: algorithms: expected some of {expected}, not {', '.join(sorted(unknown))}")
    mine = [entry for entry in folder.policy.identities if entry.issuer == issuer.name]
    entries = tuple(Entry(entry, frozenset(entry.groups), entry.sources, entry_digest(issuer, entry)) for entry in mine)
    by_subject, others = _indexed(entries)
    return Trust(issuer, folder.key_sets.get(issuer.name), _source(folder, issuer), algorithms, entries, issuer_digest(issuer),
                 by_subject, others)


def _indexed(entries: Sequence[Entry]) -> tuple[dict[str, tuple[Entry, ...]], tuple[Entry, ...]]:
    found: dict[str, list[Entry]] = {}
    others: list[Entry] = []
    for entry in entries:
        subject = entry.config.match.get("sub", "*")
        (others if "*" in subject else found.setdefault(subject, [])).append(entry)
    return {subject: tuple(mine) for subject, mine in found.items()}, tuple(others)


def _source(folder: Folder, issuer: Issuer) -> KeySource | None:
    if issuer.jwks_url is None:
        return None
    return KeySource(issuer.jwks_url, folder.resolve(issuer.jwks_ca) if issuer.jwks_ca is not None else None, issuer.jwks_max_age)


def _entry(trust: Trust, claims: Mapping[str, Any]) -> Entry | None:
    """The one entry that the claims match. A person needs none: an entry only adds groups and networks."""
    found = [entry for entry in trust.candidates(claims) if fits(entry.config.match, claims)]
    if len(found) == 1:
        return found[0]
    subject = f"subject {shown(claims.get('sub'))} of issuer {trust.config.name}"
    if found:
        names = ", ".join(sorted(entry.config.name for entry in found))
        raise TokenRefused("matches two identities", f"{subject} matches several identities: {names}")
    if trust.config.people:
        return None
    raise TokenRefused("matches no identity", f"{subject} matches no identity{_nearest(trust, claims)}")


def _nearest(trust: Trust, claims: Mapping[str, Any]) -> str:
    """Which claim was wrong, at the entry with the fewest wrong ones among those that a claim did fit."""
    misses: list[tuple[int, str, str, str]] = []
    for entry in trust.entries:
        match = entry.config.match
        wrong = sorted(name for name, pattern in match.items() if not fits({name: pattern}, claims))
        if len(wrong) < len(match):
            misses.append((len(wrong), entry.config.name, wrong[0], match[wrong[0]]))
    if not misses:
        return ""
    _, name, claim, needed = min(misses)
    return f": {name} needs {claim} {needed!r}, it has {shown(claims.get(claim))}"


def _text(claims: Mapping[str, Any], name: str) -> str:
    """A claim that names something: a plain string, or the token is refused."""
    value = claims.get(name)
    limit = ID_BYTES if name == "jti" else CLAIM_CHARACTERS if name == "sub" else NAME_CHARACTERS
    if value is None:
        raise TokenRefused(f"no {name[:40]}", f"it has no `{name}`")
    if not isinstance(value, str) or not 0 < len(value) <= limit or not value.isprintable() or value != value.strip():
        raise TokenRefused(f"{name[:40]} not accepted", f"its `{name}` is not a plain string of 1 to {limit} characters")
    return value


def _all_groups(entry: Entry | None, claimed: frozenset[str]) -> frozenset[str]:
    """Mostly the entry's own, which its sessions then share."""
    if entry is None:
        return claimed
    return entry.groups | claimed if claimed else entry.groups


def _groups(issuer: Issuer, claims: Mapping[str, Any]) -> frozenset[str]:
    if issuer.groups_claim is None or claims.get(issuer.groups_claim) is None:
        return frozenset()
    value = claims[issuer.groups_claim]
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or len(found) > GROUPS or not all(isinstance(one, str) and one for one in found):
        raise TokenRefused("groups not accepted", f"its `{issuer.groups_claim}` is not a list of at most {GROUPS} strings")
    return frozenset(found)


def _recorded(issuer: Issuer, claims: Mapping[str, Any]) -> dict[str, str]:
    texts = {name: claim_text(claims.get(name)) for name in issuer.record_claims}
    return {name: text[:CLAIM_CHARACTERS] for name, text in texts.items() if text is not None}
