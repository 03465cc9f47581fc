# SPDX-License-Identifier: Apache-2.0
"""One configuration folder's policy, compiled: decisions, masks, limits, and when a session is over. Replaced as a whole by a reload."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from gateway.config.load import Folder
from gateway.config.masks import MaskSpec
from gateway.config.schema import ApprovalRule, Grant, IdentityEntry, MaskSetEntry, Resource
from gateway.credentials import Credential
from gateway.errors import ConfigError
from gateway.identity import certificate
from gateway.identity.authenticate import entry_digest, issuer_digest, revocations
from gateway.masking.model import MaskSet, Strictness, add_up
from gateway.masking.rules import MaskRule, hashed
from gateway.model import Decision, Identity, Operation, Session, SessionLimits
from gateway.policy.rules import compile_rule, statement_limits
from gateway.policy.scope import CompiledGrant, Scope

SCOPES = 4_096
SESSIONS = 65_536
_UNKNOWN = Decision("deny", (), "there is no such resource")


def compile_policy(folder: Folder) -> Policy:
    """Raises ``ConfigError`` on a rule that its protocol does not understand."""
    return Policy(folder)


class Policy:
    """Pure but for its caches; used by one event loop."""

    def __init__(self, folder: Folder) -> None:
        config = folder.policy
        self.digest: str = folder.digest
        self.resources: Mapping[str, Resource] = {one.name: one for one in config.resources}
        self.identities: Mapping[str, IdentityEntry] = {one.name: one for one in config.identities}
        self.approvals: Mapping[str, ApprovalRule] = {one.name: one for one in config.approvals}
        self.grants: tuple[CompiledGrant, ...] = tuple(_grant(one) for one in config.grants)
        self._masks: Mapping[str, MaskSet] = {one.name: _mask_set(one, folder.credentials) for one in config.masks}
        self._admitted = _admitted(folder)
        self._revocations = revocations(folder)
        self._scopes: dict[tuple[str, bool, frozenset[str], str], Scope] = {}
        self._mask_sets: dict[tuple[str, ...], MaskSet] = {}
        self._fine: dict[str, tuple[float, float]] = {}

    def scope(self, identity: Identity, resource: str) -> Scope | None:
        """The grants that apply; ``None`` for a resource that is not there."""
        key = (identity.name, identity.person, identity.groups, resource)
        found = self._scopes.get(key)
        if found is None and (target := self.resources.get(resource)) is not None:
            found = Scope(identity.name, resource, target.protocol, self._names(identity), self.grants)
            if len(self._scopes) >= SCOPES:
                self._scopes.clear()
            self._scopes[key] = found
        return found

    def _names(self, identity: Identity) -> Iterable[str]:
        """As grants write them. A person never takes what is granted to a robot of the same name."""
        entry = self.identities.get(identity.name)
        if not identity.person or (entry is not None and entry.issuer == identity.issuer):
            yield identity.name
        yield from (f"group:{group}" for group in identity.groups)

    def decide(self, identity: Identity, resource: str, operations: Sequence[Operation], now: float) -> Decision:
        """What the policy says of one command at ``now``."""
        scope = self.scope(identity, resource)
        return _UNKNOWN if scope is None else scope.decide(operations, now)

    def alike(self, identity: Identity, resource: str, one: Operation, other: Operation) -> bool:
        """Whether the same rules speak of both, inside and outside of their windows."""
        scope = self.scope(identity, resource)
        return scope is None or scope.hits([one]) == scope.hits([other])

    def may_enter(self, identity: Identity, resource: str, now: float) -> str | None:
        """Why a session cannot begin, or ``None``. The caller learns of a resource only if some grant is about it."""
        scope = self.scope(identity, resource)
        if scope is None or not scope.grants:
            return f"{identity.name} has no grant for a resource {resource[:64]!r}"
        until = scope.limits(now).until
        if until is not None and until <= now:
            return f"no grant gives {identity.name} anything on {resource} now"
        return self.untrusted(identity, now)

    def masks(self, identity: Identity, resource: str, now: float) -> MaskSet:
        """What is hidden: the masks of all applicable grants, inside and outside of their windows."""
        scope = self.scope(identity, resource)
        names = tuple(sorted({name for grant in scope.grants for name in grant.masks})) if scope is not None else ()
        found = self._mask_sets.get(names)
        if found is None:
            found = self._mask_sets[names] = add_up(self._masks[name] for name in names)
        return found

    def session_limits(self, identity: Identity, resource: str, now: float) -> SessionLimits:
        """The bounds of a session; ``until`` is ``now`` where no grant gives anything."""
        scope = self.scope(identity, resource)
        return SessionLimits(until=now) if scope is None else scope.limits(now)

    def ended(self, session: Session, now: float) -> str | None:
        """Why this session may not go on, or ``None``: token, length, window, revocation, a policy that changed.

        Within one policy nothing but time can end a session, so the moment until which it is fine is remembered.
        """
        fine = self._fine.get(session.id)
        if fine is not None and fine[0] <= now < fine[1]:
            return None
        identity = session.identity
        limits = self.session_limits(identity, session.resource, now)
        shown = "token" if identity.certificate is None else "certificate"
        ends = [(f"the {shown} has ended", identity.session_until), ("no grant is in its window any more", limits.until),
                ("the session has reached its longest duration", None if limits.max is None else session.started + limits.max)]
        if session.resource not in self.resources:
            return "the resource is no longer there"
        if reason := self.untrusted(identity, now):
            return reason
        if over := [reason for reason, end in ends if end is not None and now >= end]:
            return over[0]
        if len(self._fine) >= SESSIONS:
            self._fine.clear()
        self._fine[session.id] = (now, min(end for _, end in ends if end is not None))
        return None

    def settled(self, session: Session, now: float) -> float:
        """Until when, beginning now, this policy cannot say anything else of this session than it says now: neither ``ended`` (which has
        just said ``None``) nor ``decide``. ``now`` where that is not known."""
        scope, fine = self.scope(session.identity, session.resource), self._fine.get(session.id)
        return now if scope is None or fine is None or not fine[0] <= now < fine[1] else min(fine[1], scope.settled(now))

    def untrusted(self, identity: Identity, now: float) -> str | None:
        """Revoked, or admitted by an identity entry or issuer that is not there any more."""
        if reason := self._revocations.reason(identity, now):
            return reason
        known = self._admitted.get((identity.person, identity.issuer if identity.person else identity.name))
        if known is None:
            return "the issuer is no longer there" if identity.person else "the identity is no longer there"
        if identity.entry and identity.entry not in known:
            return "the policy changed what admitted this caller"
        return None

    def approval(self, name: str) -> ApprovalRule:
        """The definition of that name. Raises ``KeyError``."""
        return self.approvals[name]


def _admitted(folder: Folder) -> dict[tuple[bool, str], frozenset[str]]:
    """By (is a person, name of the identity or of the people's issuer): the digests of what lets such callers in."""
    issuers = {one.name: one for one in folder.policy.issuers}
    found = {(True, one.name): frozenset({issuer_digest(one)}) for one in issuers.values() if one.people}
    authorities = {one.name: one for one in folder.authorities}
    for entry in folder.policy.identities:
        if entry.issuer in authorities:
            found[False, entry.name] = frozenset({certificate.entry_digest(authorities[entry.issuer], entry)})
            continue
        issuer = issuers[entry.issuer]
        key = (True, issuer.name) if issuer.people else (False, entry.name)
        found[key] = found.get(key, frozenset()) | {entry_digest(issuer, entry)}
    return found


def _mask_set(entry: MaskSetEntry, credentials: Mapping[str, Credential]) -> MaskSet:
    """A set's patterns go by the set's name and theirs: another set may call something else the same."""
    columns = {column: mask_rule(spec, credentials) for column, spec in entry.columns.items()}
    detect = {name: mask_rule(spec, credentials) for name, spec in entry.detect.named()}
    own = {f"{entry.name}.{name}": pattern for name, pattern in entry.detect.patterns.items()}
    detect |= {name: mask_rule(pattern.mask, credentials) for name, pattern in own.items()}
    strict: Mapping[str, Strictness] = {} if entry.strict is False else dict.fromkeys(columns, "all" if entry.strict is True else "lookups")
    filters = {relation: frozenset({spec.filter}) for relation, spec in entry.rows.items()}
    return MaskSet(columns, entry.clear, detect, {name: pattern.match for name, pattern in own.items()}, strict, filters, entry.functions)


def mask_rule(spec: MaskSpec, credentials: Mapping[str, Credential]) -> MaskRule:
    """A mask as the policy writes it, with its key. Raises ``ConfigError`` where the key is not there."""
    if spec.kind == "hash":
        credential = credentials.get(spec.text)
        if credential is None or not credential.key:
            raise ConfigError(f"expected credentials/{spec.text}.yaml of kind mask-key")
        return hashed(spec.text, credential.key.reveal().encode())
    return MaskRule(spec.kind, spec.keep, spec.text, inner=tuple((path, mask_rule(inner, credentials)) for path, inner in spec.inner))


def _grant(grant: Grant) -> CompiledGrant:
    return CompiledGrant(
        grant.name, frozenset(grant.to), frozenset(grant.targets), grant.when, grant.session, statement_limits(grant.statement),
        tuple(compile_rule(grant, rule) for rule in grant.rules), tuple(grant.masks))
