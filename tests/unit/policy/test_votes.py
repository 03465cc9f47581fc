# SPDX-License-Identifier: Apache-2.0
"""Who counts: contract section 3 and section 6 "Approvals JSON"; attacks T58, T59."""

from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from gateway.config.schema import ApprovalRule, Quorum
from gateway.model import Identity
from gateway.policy.votes import Need, Vote, may_vote, met, quorum, same_person, shortest, tally


def approval(expires: float = 900.0, **groups: int) -> ApprovalRule:
    return ApprovalRule(name="a", all_of=tuple(Quorum(group=group, count=count) for group, count in groups.items()), expires=expires)


def person(name: str, *groups: str, issuer: str = "staff", subject: str = "") -> Identity:
    return Identity(name, issuer, subject or f"user:{name}", frozenset(groups), person=True)


def vote(name: str, *groups: str, grant: bool = True, issuer: str = "staff", subject: str = "") -> Vote:
    return Vote(name, issuer, subject or f"user:{name}", frozenset(groups), grant)


ROBOT = Identity("ci-bot", "ci", "project:x", frozenset({"robots"}), owner="dana")
DBA = approval(dba=1)
BOTH = approval(dba=1, security=1)


def test_one_dba() -> None:
    assert tally([DBA], [], None) == (Need("dba", 1, 0),)
    assert met(tally([DBA], [vote("ines", "dba")], "dana"))
    assert not met(tally([DBA], [vote("sam", "security")], "dana"))
    assert not met(tally([DBA], [vote("ines", "dba", grant=False)], "dana"))


def test_t58_owner_requester_and_robots_do_not_vote() -> None:
    assert may_vote(person("ines", "dba"), [DBA], ROBOT) is None
    for voter in (person("dana", "dba"), person("Dana", "dba"), person("\uff44ana", "dba"), person("d", "dba", subject="dana")):
        assert "owner" in str(may_vote(voter, [DBA], ROBOT))
        assert not met(tally([DBA], [Vote(voter.name, voter.issuer, voter.subject, voter.groups)], "dana"))
    assert may_vote(ROBOT, [DBA], ROBOT) == "only people vote"
    assert may_vote(Identity("other", "ci", "s", frozenset({"dba"})), [DBA], ROBOT) == "only people vote"
    assert "members of dba" in str(may_vote(person("sam", "security"), [DBA], ROBOT))


def test_t58_requester_who_is_a_person() -> None:
    asking = person("ines", "dba")
    assert "requester" in str(may_vote(asking, [DBA], asking))
    assert "requester" in str(may_vote(person("INES", "dba", subject="x"), [DBA], asking))
    assert "requester" in str(may_vote(person("ines2", "dba", subject="user:ines"), [DBA], asking))
    assert not met(tally([DBA], [vote("ines", "dba")], None, requester="ines"))


def test_t58_one_person_with_two_accounts_counts_once() -> None:
    two = approval(dba=2)
    assert tally([two], [vote("ines", "dba"), vote("ines", "dba", issuer="other")], None) == (Need("dba", 2, 1),)
    assert tally([two], [vote("ines", "dba"), vote("Ines", "dba", subject="y")], None) == (Need("dba", 2, 1),)
    assert tally([two], [vote("ines", "dba"), vote("i.", "dba", subject="user:ines")], None) == (Need("dba", 2, 1),)
    assert met(tally([two], [vote("ines", "dba"), vote("max", "dba")], None))


def test_a_person_in_two_groups_counts_once_towards_the_one_that_needs_it() -> None:
    both = vote("eve", "dba", "security")
    assert sum(need.have for need in tally([BOTH], [both], None)) == 1
    for order in itertools.permutations([both, vote("ines", "dba")]):
        assert met(tally([BOTH], order, None))
    for order in itertools.permutations([both, vote("sam", "security")]):
        assert met(tally([BOTH], order, None))


def test_several_definitions_largest_count_and_shortest_expiry() -> None:
    assert quorum([approval(dba=1, security=2), approval(dba=3)]) == {"dba": 3, "security": 2}
    assert shortest([approval(dba=1), approval(300.0, dba=1)]) == 300.0
    doubled = ApprovalRule(name="a", all_of=(Quorum(group="dba", count=1), Quorum(group="dba", count=1)))
    assert quorum([doubled]) == {"dba": 2}


def test_names() -> None:
    assert same_person("Dana ", "dana")
    assert same_person("stra\u00dfe", "STRASSE")
    assert not same_person("dana", "dan")


VOTES = st.lists(st.builds(lambda n, groups: vote(f"p{n}", *groups), st.integers(0, 6), st.sets(st.sampled_from("abc"))), max_size=7)
NEEDS = st.dictionaries(st.sampled_from("abc"), st.integers(1, 3), min_size=1)


def possible(needs: dict[str, int], votes: list[Vote]) -> bool:
    """By trying every assignment of people to groups."""
    people = list({one.person: one for one in sorted(votes, key=lambda v: (v.person, v.issuer, v.subject))}.values())
    people = [next(one for one in votes if one.person == p.person) for p in people]
    for chosen in itertools.product(*[[*sorted(one.groups), None] for one in people]):
        if all(chosen.count(group) >= count for group, count in needs.items()):
            return True
    return False


@given(NEEDS, VOTES, st.randoms())
def test_the_count_is_a_best_assignment_in_any_order(needs: dict[str, int], votes: list[Vote], chance: random.Random) -> None:
    votes = list({one.person: one for one in votes}.values())
    definition = approval(**needs)
    found = tally([definition], votes, None)
    assert met(found) == possible(needs, votes)
    assert tally([definition], chance.sample(votes, len(votes)), None) == found
    assert all(need.have <= need.count for need in found)
