# SPDX-License-Identifier: Apache-2.0
"""Checks and what they find."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, TypeVar

Severity = Literal["high", "medium", "low"]
SEVERITIES: tuple[Severity, ...] = ("high", "medium", "low")
"""high: the gateway protects nothing there, or stops. medium: one fault away from that, or soon. low: worth a look."""

P = TypeVar("P", contravariant=True)


class Sign(NamedTuple):
    """Where something was found, and what was seen there. Neither ever holds a secret."""

    where: str
    saw: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One sign of one check, as it is told."""

    id: str
    severity: Severity
    where: str
    saw: str
    todo: str


@dataclass(frozen=True, slots=True)
class Check(Generic[P]):
    """A row of the table. ``what`` says in a sentence what is wrong where it finds something, ``todo`` what helps."""

    id: str
    severity: Severity
    what: str
    todo: str
    look: Callable[[P], Iterable[Sign]]

    def findings(self, patient: P) -> Iterator[Finding]:
        """What this check finds."""
        for where, saw in self.look(patient):
            yield Finding(self.id, self.severity, where, saw, self.todo)


def examined(checks: Iterable[Check[P]], patient: P) -> list[Finding]:
    """The findings of all of them."""
    return [finding for check in checks for finding in check.findings(patient)]


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first, otherwise in the order they were found."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
