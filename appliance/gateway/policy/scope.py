# SPDX-License-Identifier: Apache-2.0
"""All grants that apply to one identity on one resource, and what they say together.

Every rule that matches is found, none first: order has no meaning. What is found for an operation is remembered, and what was
decided for a command as long as no window opens or closes; policy, revocation and catalog generations are the business of the callers'
own caches and of a new ``Scope`` after every reload.
"""

from __future__ import annotations

import shlex
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.config.schema import SessionSpec
from gateway.config.window import Window
from gateway.model import Decision, Effect, Operation, SessionLimits, StatementLimits
from gateway.policy.rules import CompiledRule, family, smallest, smallest_count, tightest
from gateway.policy.windows import covered_until, open_now, settled_until

KEPT = 4_096
SHORT = 1_024
"""Characters of a text that is remembered: what is kept for one caller is bounded in bytes, too."""
NAMED = 256
"""Characters of a name that a refusal says a second time."""
COUNTED = frozenset({"insert", "update", "delete", "merge"})
"""Verbs whose affected rows ``max_rows`` bounds."""


@dataclass(frozen=True, slots=True)
class CompiledGrant:
    """A grant as decisions need it. ``masks`` are names."""

    name: str
    to: frozenset[str]
    targets: frozenset[str]
    when: Window | None
    session: SessionSpec
    statement: StatementLimits
    rules: tuple[CompiledRule, ...]
    masks: tuple[str, ...]

    @property
    def gives(self) -> bool:
        """Whether it allows anything at all, with or without approval."""
        return any(rule.effect != "deny" for rule in self.rules)


@dataclass(frozen=True, slots=True)
class Found:
    """A rule that matches an operation, and the number of its grant."""

    grant: int
    rule: CompiledRule


@dataclass(frozen=True, slots=True)
class Matched:
    """One operation with every rule that matches it and counts now."""

    operation: Operation
    rules: tuple[CompiledRule, ...]

    def having(self, effect: Effect) -> list[CompiledRule]:
        return [rule for rule in self.rules if rule.effect == effect]

    @property
    def silent(self) -> bool:
        """No rule lets it pass, and it needs one."""
        return self.operation.attributes.get("free") is not True and not (self.having("allow") or self.having("approve"))


class Scope:
    """The grants of one identity (``who``) on one resource. ``names`` are the identity and its groups, as grants write them."""

    def __init__(self, who: str, resource: str, protocol: str, names: Iterable[str], grants: Iterable[CompiledGrant]) -> None:
        self.who, self.resource = who, resource
        known = frozenset(names)
        self.grants = tuple(sorted((one for one in grants if resource in one.targets and known & one.to), key=lambda one: one.name))
        self._rules = [Found(number, rule) for number, one in enumerate(self.grants) for rule in one.rules if rule.protocol == protocol]
        self._windows = [one.when for one in self.grants]
        self._giving = [one.when for one in self.grants if one.gives]
        self._open: frozenset[int] = frozenset()
        self._settled = (0.0, 0.0)
        self._limits: SessionLimits | None = None
        self._families: dict[str, tuple[Found, ...]] = {}
        self._found: dict[Hashable, tuple[Found, ...]] = {}
        self._same: dict[int, tuple[Sequence[Operation], Decision]] = {}
        self._equal: dict[Hashable, Decision] = {}

    def open(self, now: float) -> frozenset[int]:
        """The numbers of the grants whose window is open."""
        if not self._settled[0] <= now < self._settled[1]:
            self._settled = (now, settled_until(self._windows, now))
            self._open = open_now(self._windows, now)
            self._same.clear()
            self._equal.clear()
        return self._open

    def settled(self, now: float) -> float:
        """Until when, from ``now`` on, no window opens or closes."""
        self.open(now)
        return self._settled[1]

    def decide(self, operations: Sequence[Operation], now: float) -> Decision:
        """What the grants say of one command. Remembered for the same tuple of operations, and for an equal one."""
        open_grants = self.open(now)
        kept = self._same.get(id(operations))
        if kept is not None and kept[0] is operations:
            return kept[1]
        key = tuple([_key(operation) for operation in operations])
        decision = self._equal.get(key)
        if decision is None:
            decision = self._decide(operations, open_grants)
            if not all(map(_short, operations)):
                return decision
            _bound(self._equal)
            self._equal[key] = decision
        if isinstance(operations, tuple):
            _bound(self._same)
            self._same[id(operations)] = (operations, decision)
        return decision

    def _decide(self, operations: Sequence[Operation], open_grants: frozenset[int]) -> Decision:
        matched = [Matched(operation, self._counting(operation, open_grants)) for operation in operations]
        if denied := _rules_of(matched, "deny"):
            names = _names(denied)
            return Decision("deny", names, f"denied by {', '.join(names)}")
        if not any(number in open_grants and grant.gives for number, grant in enumerate(self.grants)):
            return Decision("deny", (), f"no grant gives {self.who} anything on {self.resource} now")
        if silent := [one.operation for one in matched if one.silent]:
            return Decision("deny", (), self._silence(silent[0], open_grants))
        return self._passed(matched, open_grants)

    def _counting(self, operation: Operation, open_grants: frozenset[int]) -> tuple[CompiledRule, ...]:
        """Outside its window a grant gives neither allow nor approve; its denies still count."""
        return tuple(one.rule for one in self._matching(operation) if one.rule.effect == "deny" or one.grant in open_grants)

    def _matching(self, operation: Operation) -> tuple[Found, ...]:
        key = _key(operation)
        found = self._found.get(key)
        if found is None:
            found = tuple(one for one in self._candidates(operation.verb) if one.rule.matches(operation))
            if _short(operation):
                _bound(self._found)
                self._found[key] = found
        return found

    def _candidates(self, verb: str) -> tuple[Found, ...]:
        """The rules that could match a verb."""
        name = family(verb)
        found = self._families.get(name)
        if found is None:
            found = tuple(one for one in self._rules if one.rule.families is None or name in one.rule.families)
            _bound(self._families)
            self._families[name] = found
        return found

    def hits(self, operations: Iterable[Operation]) -> frozenset[str]:
        """Every rule that matches any of them, whether it decides or not."""
        return frozenset(one.rule.name for operation in operations for one in self._matching(operation))

    def _passed(self, matched: list[Matched], open_grants: frozenset[int]) -> Decision:
        approves, allows = _rules_of(matched, "approve"), _rules_of(matched, "allow")
        winning = approves or allows
        counted = _rules_of([one for one in matched if one.operation.verb in COUNTED], "allow")
        return Decision(
            "approve" if approves else "allow", _names(winning),
            f"needs approval by {', '.join(_names(approves))}" if approves else "",
            approvals=tuple(sorted({rule.by for rule in approves if rule.by is not None})),
            max_rows=smallest_count(*(rule.max_rows for rule in counted)),
            limits=tightest(*(grant.statement for grant in self.grants), *(rule.statement for rule in [*approves, *allows])))

    def _silence(self, operation: Operation, open_grants: frozenset[int]) -> str:
        of = f" of {operation.objects[0]}" if operation.objects else ""
        closed = _names([one.rule for one in self._matching(operation) if one.rule.effect != "deny" and one.grant not in open_grants])
        later = f" ({', '.join(closed)} would, but its window is closed)" if closed else ""
        terminal = " with a terminal" if self._without_terminal(operation) else ""
        ask = f"lockgate explain --identity {self.who} --resource {self.resource} {_question(operation)}"
        return f"no rule allows {operation.verb}{of}{terminal}{later}; ask: {ask}"

    def _without_terminal(self, operation: Operation) -> bool:
        """Whether rules match it but for its terminal (SSH's ``pty``)."""
        if operation.attributes.get("pty") is not True:
            return False
        bare = replace(operation, attributes={**operation.attributes, "pty": False})
        return any(one.rule.effect != "deny" for one in self._matching(bare))

    def limits(self, now: float) -> SessionLimits:
        """The smallest of every bound; ``until`` is when the last window closes that gives anything (``now``: none is open)."""
        until = covered_until(self._giving, now)
        if self._limits is None or self._limits.until != until:
            self._limits = self._add_up(until)
        return self._limits

    def _add_up(self, until: float | None) -> SessionLimits:
        specs = [grant.session for grant in self.grants]
        return SessionLimits(
            max=smallest(*(one.max for one in specs)), idle=smallest(*(one.idle for one in specs)),
            concurrent=smallest_count(*(one.concurrent for one in specs)), rows=smallest_count(*(one.rows for one in specs)),
            bytes=smallest_count(*(one.bytes for one in specs)), denials=smallest_count(*(one.denials for one in specs)), until=until)


def _key(operation: Operation) -> Hashable:
    return (operation.protocol, operation.verb, operation.objects, frozenset(operation.attributes.items()))


def _short(operation: Operation) -> bool:
    """Whether it holds no long text (SSH: a command's own)."""
    text = operation.attributes.get("text")
    return not isinstance(text, str) or len(text) <= SHORT


def _rules_of(matched: Iterable[Matched], effect: Effect) -> list[CompiledRule]:
    return [rule for one in matched for rule in one.having(effect)]


def _question(operation: Operation) -> str:
    """How ``lockgate explain`` is asked about it: a statement's or command's text, or an action and what it is about."""
    if operation.protocol != "ssh" or operation.verb == "exec":
        return "TEXT"
    plain = all(len(one) <= NAMED and shlex.quote(one) == one for one in operation.objects)
    about = operation.objects if plain else ("ABOUT",)
    return " ".join(("--action", operation.verb, *about))


def _names(rules: Iterable[CompiledRule]) -> tuple[str, ...]:
    return tuple(sorted({rule.name for rule in rules}))


def _bound(kept: dict[Any, Any]) -> None:
    if len(kept) >= KEPT:
        kept.clear()
