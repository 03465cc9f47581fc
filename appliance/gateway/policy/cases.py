# SPDX-License-Identifier: Apache-2.0
"""``policy test``: the cases under ``policy/tests``. Sets are compared as sets; a key that is absent is not compared.

A case that would hold if nobody were revoked is *revoked*: it neither holds nor fails (docs/decisions/0033). One that says ``effect: deny``
means what is in force, the revoked list included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from gateway.config import speaks
from gateway.config.load import Folder
from gateway.config.schema import TestCase
from gateway.policy.policy import Policy, compile_policy
from gateway.policy.question import Answer, Reader, answer, identity_of, reader_of, resource_of


@dataclass(frozen=True, slots=True)
class Outcome:
    """One case, what it got, and ``key: (expected, got)`` for everything that differs. ``revoked``: only the revoked list makes it come
    out otherwise than it says; ``wrong`` is empty then, and ``answer`` says who or what is revoked. A case that fails without that
    list too has the answer and the differences of the rules. ``held``: it says deny, and nothing but that list denies."""

    case: TestCase
    asked: Any
    answer: Answer
    wrong: Mapping[str, tuple[Any, Any]]
    revoked: bool = False
    held: bool = False

    @property
    def state(self) -> Literal["passed", "failed", "revoked"]:
        return "failed" if self.wrong else "revoked" if self.revoked else "passed"


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
    readers, rules = Readers(folder), believing(folder)
    for case in folder.tests:
        asked = asked_of(folder, case)
        got = ask(folder, policy, readers, case, now)
        if rules is None:
            yield Outcome(case, asked, got, _differences(case, got))
            continue
        meant = ask(folder, rules, readers, case, now)
        wrong, differs = _differences(case, got), _differences(case, meant)
        if case.effect == "deny":
            yield Outcome(case, asked, got, wrong, held=bool(differs) and not wrong)
        elif differs:
            yield Outcome(case, asked, meant, differs)
        else:
            yield Outcome(case, asked, got, {}, revoked=bool(wrong))


def believing(folder: Folder) -> Policy | None:
    """The same policy without its revoked list; ``None`` where that is empty."""
    if not folder.policy.revoked:
        return None
    return compile_policy(replace(folder, policy=folder.policy.model_copy(update={"revoked": ()})))


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
