# SPDX-License-Identifier: Apache-2.0
"""Who may vote on an approval, and who may see it: pure, on identities.

Names are compared without regard to case or Unicode form, because identity providers differ in both and a second spelling
must not be a second person; a person is also known by issuer and subject, so that a new name is not a new voter.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from gateway.approvals.tally import Need
from gateway.model import Identity


def excluded(person: Identity, requester: Identity) -> str | None:
    """Why this identity may not vote on what ``requester`` asks for, or ``None``."""
    if not person.person:
        return "only people vote"
    if same_person(person, requester):
        return "the requester may not vote on its own command"
    if requester.owner is not None and _same_name(person.name, requester.owner):
        return f"{person.name} owns {requester.name} and may not vote for it"
    return None


def same_person(one: Identity, other: Identity) -> bool:
    """Whether two identities count as one voter."""
    return _same_name(one.name, other.name) or (one.issuer, one.subject) == (other.issuer, other.subject)


def asked(person: Identity, needs: Sequence[Need]) -> bool:
    """Whether one of the groups whose votes are needed is this person's."""
    return any(need.group in person.groups for need in needs)


def may_see(person: Identity, needs: Sequence[Need], readers: Sequence[str]) -> bool:
    """People see what waits for one of their groups; readers (``group:NAME`` or a person's name) see everything."""
    return person.person and (asked(person, needs) or is_reader(person, readers))


def is_reader(person: Identity, readers: Sequence[str]) -> bool:
    """Whether one of the entries ``group:NAME`` or ``NAME`` names this person."""
    return person.person and any(
        entry.removeprefix("group:") in person.groups if entry.startswith("group:") else entry == person.name for entry in readers)


def _same_name(one: str, other: str) -> bool:
    return _folded(one) == _folded(other)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
