# SPDX-License-Identifier: Apache-2.0
"""What would the policy say? Asked by ``explain``, ``policy test`` and ``policy diff``; nothing runs.

A protocol's folder has a module ``explain`` with ``reader(folder, resource, database)`` (what a text means on a resource, ``None`` where
neither a schema file nor the target can say), ``probes(bodies, names)`` (operations that rules with these matcher bodies speak about) and
``operation(verb, objects)`` (what a record shows as that). Where requests are more than a text it also has ``asked(action, texts, login=…,
pty=…)`` (a command line as test cases write it) and ``recorded(record)`` (a ``command.begin`` record as that, or ``None``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal, Protocol

from gateway.config.load import Folder
from gateway.config.schema import Resource
from gateway.errors import ConfigError
from gateway.masking.model import MaskSet
from gateway.masking.rules import MaskRule
from gateway.model import Identity, Operation
from gateway.policy.policy import Policy


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a text would do. ``masked`` are the result columns that are hidden, and how. ``refusal``: it cannot run whatever the rules say
    (not parsable, a masked value where it would be kept, no row filter can be put into it). ``notes`` say why the origin of a value is not
    known. ``filtered``: the conditions that rows of these relations have to meet; ``sent``: what the target would be given for it."""

    operations: tuple[Operation, ...]
    masked: Mapping[str, str] = field(default_factory=dict)
    refusal: str = ""
    notes: tuple[str, ...] = ()
    filtered: Mapping[str, str] = field(default_factory=dict)
    sent: str = ""


class Reader(Protocol):
    """Understands what is asked on one resource."""

    def read(self, asked: Any, masks: MaskSet) -> Meaning: ...

    def filled(self, text: Any) -> Any:
        """What was recorded with something harmless in place of what was hidden in it."""

    def names(self) -> Iterable[str]:
        """What there is on the resource (``schema.relation``), for probes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The decision without running it. ``unknown`` is never an allow: nothing could say what the text means."""

    effect: Literal["allow", "approve", "deny", "unknown"]
    rules: tuple[str, ...] = ()
    masks: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    approvals: tuple[str, ...] = ()
    max_rows: int | None = None
    hits: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    filtered: Mapping[str, str] = field(default_factory=dict)
    sent: str = ""


def _module(resource: Resource) -> Any:
    return import_module(f"gateway.protocols.{resource.protocol}.explain")


def reader_of(folder: Folder, resource: Resource, database: str | None = None) -> Reader | None:
    """How texts are understood on that resource; ``None`` where nothing can say. Raises ``ConfigError`` on a broken schema file."""
    found: Reader | None = _module(resource).reader(folder, resource, database)
    return found


def probes_of(resource: Resource, bodies: Iterable[Mapping[str, Any]], names: Iterable[str] = ()) -> tuple[Operation, ...]:
    """Operations that tell rules apart: what the matcher bodies mention, put on ``names`` and on names made up for their patterns."""
    make: Callable[..., Iterable[Operation]] = _module(resource).probes
    return tuple(make(bodies, names))


def operation_of(resource: Resource, verb: str, objects: tuple[str, ...]) -> Operation:
    """An operation as far as a record shows it."""
    made: Operation = _module(resource).operation(verb, objects)
    return made


def asked_by(resource: Resource, texts: Sequence[str], *, action: str | None, login: str | None, pty: bool) -> Any:
    """What a command line asks, as the resource's reader takes it. Raises ``ConfigError``."""
    make = getattr(_module(resource), "asked", None)
    if make is not None:
        return make(action, texts, login=login, pty=pty)
    if action is not None or login is not None or pty:
        raise ConfigError(f"{resource.name} speaks {resource.protocol}: --action, --login and --pty are for SSH")
    if len(texts) != 1:
        raise ConfigError("expected one TEXT (in quotes)")
    return texts[0]


def recorded_by(resource: Resource, record: Mapping[str, Any]) -> Any:
    """What a ``command.begin`` record asks, as the resource's reader takes it; empty where nothing can be made of it."""
    make = getattr(_module(resource), "recorded", None)
    return make(record) if make is not None else str(record.get("text") or "")


def identity_of(folder: Folder, name: str, groups: Iterable[str] = ()) -> Identity:
    """An identity as its entry describes it, with further groups; with groups, also a person the folder has never heard of.

    Raises ``ConfigError``.
    """
    more = frozenset(groups)
    for entry in folder.policy.identities:
        if entry.name == name:
            return Identity(name, entry.issuer, "", frozenset(entry.groups) | more, entry.owner, session_until=math.inf)
    issuer = next((one.name for one in folder.policy.issuers if one.people), None)
    if more and issuer is not None:
        return Identity(name, issuer, "", more, person=True, session_until=math.inf)
    known = ", ".join(entry.name for entry in folder.policy.identities)
    raise ConfigError(f"there is no identity {name!r}; there are: {known or 'none'} (a person is asked for with --group)")


def resource_of(folder: Folder, name: str) -> Resource:
    """Raises ``ConfigError``."""
    for resource in folder.policy.resources:
        if resource.name == name:
            return resource
    raise ConfigError(f"there is no resource {name!r}; there are: {', '.join(one.name for one in folder.policy.resources) or 'none'}")


def answer(policy: Policy, identity: Identity, resource: str, meaning: Meaning, now: float) -> Answer:
    """What the gateway would answer to a text of this meaning."""
    decision = policy.decide(identity, resource, meaning.operations, now)
    scope = policy.scope(identity, resource)
    hits = scope.hits(meaning.operations) if scope is not None else frozenset()
    if decision.effect != "deny":
        refusal = meaning.refusal or policy.may_enter(identity, resource, now)
        if refusal:
            return Answer("deny", (), {}, refusal, hits=hits, notes=meaning.notes)
    if decision.effect == "deny":
        reason = meaning.refusal if meaning.refusal and not meaning.operations else decision.reason
        return Answer("deny", decision.rules, {}, reason, hits=hits, notes=meaning.notes)
    return Answer(decision.effect, decision.rules, meaning.masked, decision.reason, decision.approvals, decision.max_rows, hits,
                  meaning.notes, meaning.filtered, meaning.sent)


def rule_text(rule: MaskRule) -> str:
    """As policy files write it."""
    return rule.described()
