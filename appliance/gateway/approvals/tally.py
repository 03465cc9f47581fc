# SPDX-License-Identifier: Apache-2.0
"""Which votes count towards which group: pure, on names only.

Every voter counts once, towards one group that still needs a vote. Who counts where is not fixed by the order of the
votes: a voter of two groups is moved to the other one when that makes room (a maximum matching, so no vote is wasted).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Need:
    """``count`` voters of ``group``."""

    group: str
    count: int


def together(needs: Iterable[Need]) -> tuple[Need, ...]:
    """Several approval definitions met at once: the largest count per group, in the order they were first named."""
    largest: dict[str, int] = {}
    for need in needs:
        largest[need.group] = max(need.count, largest.get(need.group, 0))
    return tuple(Need(group, count) for group, count in largest.items())


def tally(needs: Sequence[Need], voters: Sequence[frozenset[str]]) -> tuple[int, ...]:
    """How many of each need's votes are there. ``voters`` holds the groups of each voter, in the order they voted."""
    seats: list[list[int]] = [[] for _ in needs]
    for voter in range(len(voters)):
        _seat(voter, needs, voters, seats, set())
    return tuple(len(seat) for seat in seats)


def met(needs: Sequence[Need], voters: Sequence[frozenset[str]]) -> bool:
    """Whether every need is filled. No need at all is never met."""
    have = tally(needs, voters)
    return bool(needs) and all(have[i] >= need.count for i, need in enumerate(needs))


def counts_for_something(needs: Sequence[Need], voters: Sequence[frozenset[str]], newcomer: frozenset[str]) -> bool:
    """Whether one more voter of these groups fills a need that nobody fills yet."""
    return sum(tally(needs, [*voters, newcomer])) > sum(tally(needs, voters))


def _seat(voter: int, needs: Sequence[Need], voters: Sequence[frozenset[str]], seats: list[list[int]], tried: set[int]) -> bool:
    """Find the voter a seat, moving others along an augmenting path where that frees one."""
    open_to = [i for i, need in enumerate(needs) if need.group in voters[voter] and i not in tried]
    for i in open_to:
        if len(seats[i]) < needs[i].count:
            seats[i].append(voter)
            return True
    for i in open_to:
        tried.add(i)
        for place, sitting in enumerate(seats[i]):
            if _seat(sitting, needs, voters, seats, tried):
                seats[i][place] = voter
                return True
    return False
