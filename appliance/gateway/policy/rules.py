# SPDX-License-Identifier: Apache-2.0
"""One rule of one grant, compiled. ``GRANT/RULE`` is its name everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway import protocols
from gateway.config.schema import Grant, Rule, StatementSpec
from gateway.errors import ConfigError
from gateway.model import Effect, Operation, StatementLimits
from gateway.protocols import Matcher


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """``by`` is the approval an approve rule asks for. ``max_rows`` bounds what insert, update, delete and merge may affect. ``families``
    are the families of verbs that it can match, ``None`` all: only an index, the matcher decides."""

    name: str
    effect: Effect
    protocol: str
    matcher: Matcher
    by: str | None = None
    max_rows: int | None = None
    statement: StatementLimits = field(default_factory=StatementLimits)
    families: frozenset[str] | None = None

    def matches(self, operation: Operation) -> bool:
        return operation.protocol == self.protocol and self.matcher(operation)


def compile_rule(grant: Grant, rule: Rule) -> CompiledRule:
    """Raises ``ConfigError`` on a matcher of no known protocol, or one that its protocol does not understand."""
    name = f"{grant.name}/{rule.name}"
    key, body = rule.matcher
    protocol = protocols.by_matcher(key)
    if protocol is None:
        raise ConfigError(f"rule {name}: {key}: expected the matcher of a protocol this gateway speaks")
    try:
        matcher = protocol.compile_matcher(body, rule.effect)
    except ValueError as error:
        raise ConfigError(f"rule {name}: {error}") from None
    limits = statement_limits(rule.statement)
    return CompiledRule(name, rule.effect, protocol.name, matcher, rule.by, rule.max_rows, limits, families(body))


def family(verb: str) -> str:
    """The first word of a verb: a rule that names ``create`` or ``set`` may mean ``create-table`` or ``set-role``, never another family."""
    return verb.partition("-")[0]


def families(body: Mapping[str, Any]) -> frozenset[str] | None:
    """The families of a matcher's ``verbs``; ``None`` where it names none, or a pattern."""
    value = body.get("verbs")
    verbs = (value,) if isinstance(value, str) else value
    if not verbs or not all(isinstance(verb, str) and verb.replace("-", "").isalpha() for verb in verbs):
        return None
    return frozenset(map(family, verbs))


def statement_limits(spec: StatementSpec | None) -> StatementLimits:
    return StatementLimits() if spec is None else StatementLimits(spec.rows, spec.time)


def smallest(*values: float | None) -> float | None:
    """Of several limits the smallest counts; ``None`` is no limit."""
    return min((value for value in values if value is not None), default=None)


def smallest_count(*values: int | None) -> int | None:
    """As ``smallest``, for whole numbers."""
    return min((value for value in values if value is not None), default=None)


def tightest(*limits: StatementLimits) -> StatementLimits:
    return StatementLimits(smallest_count(*(one.rows for one in limits)), smallest(*(one.time for one in limits)))
