# SPDX-License-Identifier: Apache-2.0
"""Who may vote, and whether the votes suffice. Pure.

Voters are people. Each counts once, never the requester or the identity's owner. Someone in two groups counts towards one that still
needs a vote: the count is a maximum matching of people to places, so the order of votes does not matter.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.config.schema import ApprovalRule
from gateway.model import Identity


@dataclass(frozen=True, slots=True)
class Vote:
    """One person's word. ``groups`` are those of the token the vote came with."""

    person: str
    issuer: str
    subject: str
    groups: frozenset[str]
    grant: bool = True


@dataclass(frozen=True, slots=True)
class Need:
    """So many people of a group, and how many of the votes count towards it."""

    group: str
    count: int
    have: int = 0


def quorum(definitions: Iterable[ApprovalRule]) -> dict[str, int]:
    """What several approval definitions ask for together: per group the largest count. Groups in alphabetical order."""
    counts: dict[str, int] = {}
    for definition in definitions:
        own: dict[str, int] = {}
        for part in definition.all_of:
            own[part.group] = own.get(part.group, 0) + part.count
        counts = {group: max(counts.get(group, 0), own.get(group, 0)) for group in counts.keys() | own.keys()}
    return dict(sorted(counts.items()))


def shortest(definitions: Iterable[ApprovalRule]) -> float:
    """Seconds from the request to its expiry. Raises ``ValueError`` without definitions."""
    return min(definition.expires for definition in definitions)


def same_person(left: str, right: str) -> bool:
    """Whether two names are one person's; spelling in case, width and outer space makes no second person."""
    return _plain(left) == _plain(right)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip()


def may_vote(voter: Identity, definitions: Sequence[ApprovalRule], requester: Identity) -> str | None:
    """Why this voter does not count, or ``None``."""
    if not voter.person:
        return "only people vote"
    if same_person(voter.name, requester.name) or (voter.issuer, voter.subject) == (requester.issuer, requester.subject):
        return "the requester does not vote"
    if requester.owner is not None and _is_owner(voter.name, voter.subject, requester.owner):
        return f"the owner of {requester.name} does not vote for it"
    groups = quorum(definitions)
    if not voter.groups & groups.keys():
        return f"only members of {', '.join(groups)} vote on this"
    return None


def _is_owner(name: str, subject: str, owner: str) -> bool:
    return same_person(name, owner) or same_person(subject, owner)


def tally(definitions: Iterable[ApprovalRule], votes: Iterable[Vote], owner: str | None, requester: str = "") -> tuple[Need, ...]:
    """How far the votes go. Denials, the owner's and the requester's votes do not count, nor a person's second one."""
    counts = quorum(definitions)
    voters = [vote for vote in _distinct(votes) if not same_person(vote.person, requester)
              and (owner is None or not _is_owner(vote.person, vote.subject, owner))]
    places = [(group, number) for group, count in counts.items() for number in range(min(count, len(voters)))]
    taken = _matching(places, [vote.groups for vote in voters])
    return tuple(Need(group, count, sum(1 for place in taken if place[0] == group)) for group, count in counts.items())


def met(needs: Iterable[Need]) -> bool:
    return all(need.have >= need.count for need in needs)


def _distinct(votes: Iterable[Vote]) -> list[Vote]:
    names: set[str] = set()
    subjects: set[tuple[str, str]] = set()
    found = []
    for vote in sorted(votes, key=lambda one: (one.person, one.issuer, one.subject)):
        if not vote.grant or _plain(vote.person) in names or (vote.issuer, vote.subject) in subjects:
            continue
        names.add(_plain(vote.person))
        subjects.add((vote.issuer, vote.subject))
        found.append(vote)
    return found


def _matching(places: Sequence[tuple[str, int]], voters: Sequence[frozenset[str]]) -> dict[tuple[str, int], int]:
    """A maximum matching of places to voters (augmenting paths)."""
    taken: dict[tuple[str, int], int] = {}

    def place(voter: int, tried: set[tuple[str, int]]) -> bool:
        for spot in places:
            if spot[0] not in voters[voter] or spot in tried:
                continue
            tried.add(spot)
            if spot not in taken or place(taken[spot], tried):
                taken[spot] = voter
                return True
        return False

    for voter in range(len(voters)):
        place(voter, set())
    return taken
