# SPDX-License-Identifier: Apache-2.0
"""``policy test``: the cases under ``policy/tests``. Sets are compared as sets; a key that is absent is not compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.config import speaks
from gateway.config.load import Folder
from gateway.config.schema import TestCase
from gateway.policy.policy import Policy
from gateway.policy.question import Answer, Reader, answer, identity_of, reader_of, resource_of


@dataclass(frozen=True, slots=True)
class Outcome:
    """One case, what it got, and ``key: (expected, got)`` for everything that differs."""

    case: TestCase
    asked: Any
    answer: Answer
    wrong: Mapping[str, tuple[Any, Any]]

    @property
    def passed(self) -> bool:
        return not self.wrong


class Readers:
    """The readers of a folder's resources, each made once."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._made: dict[tuple[str, str | None], Reader | None] = {}

    def of(self, resource: str, database: str | None = None) -> Reader | None:
        key = (resource, database)
        if key not in self._made:
            self._made[key] = reader_of(self._folder, resource_of(self._folder, resource), database)
        return self._made[key]


def asked_of(folder: Folder, case: TestCase) -> Any:
    """What the case asks, in its protocol's own form."""
    return getattr(case, speaks.settings(resource_of(folder, case.resource).protocol).test)


def run_cases(folder: Folder, policy: Policy, now: float) -> Iterator[Outcome]:
    """Every case of the folder, in order."""
    readers = Readers(folder)
    for case in folder.tests:
        asked = asked_of(folder, case)
        got = ask(folder, policy, readers, case, now)
        yield Outcome(case, asked, got, _differences(case, got))


def ask(folder: Folder, policy: Policy, readers: Readers, case: TestCase, now: float) -> Answer:
    """What the policy answers to a case."""
    moment = case.at.timestamp() if case.at is not None else now
    reader = readers.of(case.resource, getattr(case, "database", None))
    if reader is None:
        return Answer("unknown", reason=f"neither policy/schemas/{case.resource}.json nor the target can be read")
    identity = identity_of(folder, case.identity)
    meaning = reader.read(asked_of(folder, case), policy.masks(identity, case.resource, moment))
    return answer(policy, identity, case.resource, meaning, moment)


def _differences(case: TestCase, got: Answer) -> dict[str, tuple[Any, Any]]:
    wrong: dict[str, tuple[Any, Any]] = {}
    if got.effect == "unknown":
        return {"effect": (case.effect or "an answer", f"unknown: {got.reason}")}
    if case.effect is not None and case.effect != got.effect:
        wrong["effect"] = (case.effect, got.effect)
    if case.rules is not None and not same_rules(case.rules, got.rules):
        wrong["rules"] = (sorted(case.rules), list(got.rules))
    if case.by is not None and set(case.by) != set(got.approvals):
        wrong["by"] = (sorted(case.by), list(got.approvals))
    if case.masked is not None and set(case.masked) != set(got.masks):
        wrong["masked"] = (sorted(case.masked), sorted(got.masks))
    if case.filtered is not None and set(case.filtered) != set(got.filtered):
        wrong["filtered"] = (sorted(case.filtered), sorted(got.filtered))
    return wrong


def same_rules(expected: frozenset[str], got: tuple[str, ...]) -> bool:
    """Whether the sets are equal; an expected name may be RULE alone."""
    def fits(want: str, have: str) -> bool:
        return want == have or want == have.rpartition("/")[2]

    found = all(any(fits(want, have) for have in got) for want in expected)
    return found and all(any(fits(want, have) for want in expected) for have in got)


def never_hit(policy: Policy, outcomes: list[Outcome]) -> list[str]:
    """The rules that no case touches."""
    hit = frozenset[str]().union(*(outcome.answer.hits for outcome in outcomes))
    return sorted({rule.name for grant in policy.grants for rule in grant.rules} - hit)
