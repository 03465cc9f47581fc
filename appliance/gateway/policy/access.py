# SPDX-License-Identifier: Apache-2.0
"""Who may do what where, and through which rule: every identity and group that grants name, on every resource."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.config.load import Folder
from gateway.config.schema import Grant, Rule
from gateway.model import Identity
from gateway.policy.policy import Policy
from gateway.policy.question import identity_of, rule_text


@dataclass(frozen=True, slots=True)
class Access:
    """What one identity (or ``group:NAME``, whoever is in it) has on one resource. ``denied`` says why a session could not begin now."""

    identity: str
    resource: str
    grants: tuple[Mapping[str, Any], ...]
    masks: Mapping[str, str]
    rows: Mapping[str, str]
    detect: Mapping[str, str]
    limits: Mapping[str, float]
    denied: str | None

    def as_document(self) -> dict[str, Any]:
        return {"identity": self.identity, "resource": self.resource, "grants": list(self.grants), "masks": dict(self.masks),
                "rows": dict(self.rows), "detect": dict(self.detect), "limits": dict(self.limits), "denied": self.denied}


def subjects(folder: Folder) -> Iterator[str]:
    """Every identity, then every group that grants name and that people may be in."""
    entries = folder.policy.identities
    yield from (entry.name for entry in entries)
    of_robots = {f"group:{group}" for entry in entries for group in entry.groups}
    yield from sorted({who for grant in folder.policy.grants for who in grant.to if who.startswith("group:")} - of_robots)


def identity_for(folder: Folder, subject: str) -> Identity:
    """The identity of a subject: an entry's, or a person of one group."""
    group = subject.removeprefix("group:")
    return identity_of(folder, subject) if group == subject else identity_of(folder, subject, (group,))


def access(folder: Folder, policy: Policy, subject: str, resource: str, now: float) -> Access | None:
    """``None`` where no grant applies."""
    identity = identity_for(folder, subject)
    scope = policy.scope(identity, resource)
    if scope is None or not scope.grants:
        return None
    grants = {grant.name: grant for grant in folder.policy.grants}
    masks = policy.masks(identity, resource, now)
    limits = scope.limits(now)
    shown = {key: getattr(limits, key) for key in ("max", "idle", "concurrent", "rows", "bytes", "denials", "until")}
    return Access(
        subject, resource, tuple(_grant(grants[one.name], now) for one in scope.grants),
        {column: rule_text(rule) for column, rule in sorted(masks.columns.items())},
        {name: " and ".join(f"({text})" for text in sorted(texts)) for name, texts in sorted(masks.filters.items())},
        {name: rule_text(rule) for name, rule in sorted(masks.detect.items())},
        {key: value for key, value in shown.items() if value is not None}, policy.may_enter(identity, resource, now))


def _grant(grant: Grant, now: float) -> dict[str, Any]:
    document: dict[str, Any] = {"grant": grant.name, "open": grant.when is None or grant.when.open(now)}
    if grant.when is not None:
        document["when"] = grant.when.as_document()
    document["rules"] = [_rule(rule) for rule in grant.rules]
    return document


def _rule(rule: Rule) -> dict[str, Any]:
    key, body = rule.matcher
    found: dict[str, Any] = {"rule": rule.name, "effect": rule.effect, key: dict(body)}
    return found | {name: value for name, value in (("by", rule.by), ("max_rows", rule.max_rows)) if value is not None}
