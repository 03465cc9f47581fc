# SPDX-License-Identifier: Apache-2.0
"""What a valid policy may not mean: told by ``check``, never a reason to stop."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, islice

from gateway.config.load import Folder
from gateway.config.problem import Problem
from gateway.config.schema import ApprovalRule, Grant, Resource, Rule
from gateway.identity.match import both_possible
from gateway.policy.question import probes_of
from gateway.policy.rules import compile_rule
from gateway.policy.votes import same_person

PAIRS = 500_000
"""Pairs of identities that are compared; with more than a thousand identities of one issuer not every pair is."""


def warnings(folder: Folder) -> list[Problem]:
    """Everything an operator should look at."""
    return [*_two_identities(folder), *_silent_rules(folder), *_shadowed(folder), *_unreachable_approvals(folder), *_owners(folder)]


def _at(folder: Folder, kind: str, name: str, message: str) -> Problem:
    file, _, line = folder.where(kind, name).rpartition(":")
    return Problem(file or "policy", int(line or 0), f"{kind} {name!r}", message)


def _two_identities(folder: Folder) -> Iterator[Problem]:
    pairs = ((one, other) for one, other in combinations(folder.policy.identities, 2) if one.issuer == other.issuer)
    for one, other in islice(pairs, PAIRS):
        if both_possible(one.match, other.match):
            yield _at(folder, "identities", other.name, f"a token could match {one.name!r} too; such a token is refused")


def _silent_rules(folder: Folder) -> Iterator[Problem]:
    resources = {one.name: one for one in folder.policy.resources}
    for grant in folder.policy.grants:
        for rule in grant.rules:
            if not _ever(grant, rule, resources[grant.targets[0]]):
                yield _at(folder, "grants", grant.name, f"rule {rule.name!r} can never match: no operation has all that it asks for")


def _ever(grant: Grant, rule: Rule, resource: Resource) -> bool:
    compiled = compile_rule(grant, rule)
    return any(compiled.matches(probe) for probe in probes_of(resource, [rule.matcher[1]]))


def _shadowed(folder: Folder) -> Iterator[Problem]:
    """An allow or approve whose matcher some deny for everybody it is for repeats word by word."""
    denies: dict[str, list[tuple[Grant, Rule]]] = {}
    for grant in folder.policy.grants:
        for rule in grant.rules:
            if rule.effect == "deny":
                denies.setdefault(repr(rule.matcher), []).append((grant, rule))
    for grant in folder.policy.grants:
        for rule in grant.rules:
            twins = denies.get(repr(rule.matcher), []) if rule.effect != "deny" else []
            found = [f"{other.name}/{deny.name}" for other, deny in twins if _covers(other, grant)]
            if found:
                yield _at(folder, "grants", grant.name, f"rule {rule.name!r} never counts: {found[0]} denies the same")


def _covers(wide: Grant, narrow: Grant) -> bool:
    return set(wide.to) >= set(narrow.to) and set(wide.targets) >= set(narrow.targets)


def _unreachable_approvals(folder: Folder) -> Iterator[Problem]:
    if any(issuer.people and issuer.groups_claim for issuer in folder.policy.issuers):
        return
    for approval in folder.policy.approvals:
        if (wrong := _too_many(folder, approval)) is not None:
            yield _at(folder, "approvals", approval.name, wrong)


def _too_many(folder: Folder, approval: ApprovalRule) -> str | None:
    """Without a groups claim the people of a group are those whose entries say so."""
    people = {issuer.name for issuer in folder.policy.issuers if issuer.people}
    for part in approval.all_of:
        known = sum(1 for entry in folder.policy.identities if entry.issuer in people and part.group in entry.groups)
        if known < part.count:
            return f"group {part.group!r} has {known} people by entry, {part.count} are needed, and no issuer of people has groups_claim"
    return None


def _owners(folder: Folder) -> Iterator[Problem]:
    """An owner written otherwise than the identity of a robot: robots own nothing, they cannot answer for another."""
    people = {issuer.name for issuer in folder.policy.issuers if issuer.people}
    robots = [entry.name for entry in folder.policy.identities if entry.issuer not in people]
    for entry in folder.policy.identities:
        if entry.owner is not None and any(same_person(entry.owner, name) for name in robots):
            yield _at(folder, "identities", entry.name, f"owner {entry.owner!r} is an identity, not a person")
