# SPDX-License-Identifier: Apache-2.0
"""The count of votes, against a count by trying everything."""

from __future__ import annotations

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.approvals.tally import Need, counts_for_something, met, tally, together

GROUPS = ["dba", "security", "ops"]
voters_of = st.lists(st.frozensets(st.sampled_from(GROUPS)), max_size=5)
needs_of = st.lists(st.sampled_from(GROUPS), min_size=1, max_size=3, unique=True).flatmap(
    lambda names: st.tuples(*(st.builds(Need, st.just(name), st.integers(1, 2)) for name in names)))


def by_trying(needs: tuple[Need, ...], voters: list[frozenset[str]]) -> int:
    """The most votes that can count, each voter for one group or none."""
    best = 0
    for choice in product([None, *range(len(needs))], repeat=len(voters)):
        fair = all(c is None or needs[c].group in voters[v] for v, c in enumerate(choice))
        full = all(sum(c == i for c in choice) <= need.count for i, need in enumerate(needs))
        if fair and full:
            best = max(best, sum(c is not None for c in choice))
    return best


@settings(max_examples=150, deadline=None)
@given(needs_of, voters_of)
def test_no_vote_is_wasted_and_none_counts_twice(needs: tuple[Need, ...], voters: list[frozenset[str]]) -> None:
    have = tally(needs, voters)
    assert sum(have) == by_trying(needs, voters)
    assert all(0 <= have[i] <= need.count for i, need in enumerate(needs))
    assert met(needs, voters) == (sum(have) == sum(need.count for need in needs))


@settings(max_examples=100, deadline=None)
@given(needs_of, voters_of)
def test_a_vote_that_fills_nothing_now_never_will(needs: tuple[Need, ...], voters: list[frozenset[str]]) -> None:
    counted: list[frozenset[str]] = []
    for voter in voters:
        if counts_for_something(needs, counted, voter):
            counted.append(voter)
    assert sum(tally(needs, counted)) == sum(tally(needs, voters)) == len(counted)


def test_definitions_together_take_the_largest_count() -> None:
    assert together([Need("dba", 1), Need("security", 1), Need("dba", 2)]) == (Need("dba", 2), Need("security", 1))


def test_no_need_is_never_met() -> None:
    assert not met((), [frozenset({"dba"})])
