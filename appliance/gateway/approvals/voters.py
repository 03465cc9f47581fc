# SPDX-License-Identifier: Apache-2.0
"""Who counts as one person, and who may see an approval: pure, on identities. Who may vote is ``policy.votes``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.config.schema import ApprovalRule
from gateway.model import Identity
from gateway.policy import votes


def same_voter(one: Identity, other: Identity) -> bool:
    """Whether two identities count as one: by name however spelled, or by issuer and subject under a new name."""
    return votes.same_person(one.name, other.name) or (one.issuer, one.subject) == (other.issuer, other.subject)


def may_see(person: Identity, definitions: Iterable[ApprovalRule], readers: Sequence[str]) -> bool:
    """People see what waits for one of their groups; readers (``group:NAME`` or a person's name) see everything."""
    return person.person and (bool(person.groups & votes.quorum(definitions).keys()) or is_reader(person, readers))


def is_reader(person: Identity, readers: Sequence[str]) -> bool:
    """Whether one of the entries ``group:NAME`` or ``NAME`` names this person."""
    return person.person and any(
        entry.removeprefix("group:") in person.groups if entry.startswith("group:") else entry == person.name for entry in readers)
