# SPDX-License-Identifier: Apache-2.0
"""Which rule hides all that another one hides, for all kinds: what laundering and adding up go by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.masking.paths import Places, parsed
from gateway.masking.rules import (
    EMAIL,
    NULLED,
    REDACT,
    UNITS,
    MaskRule,
    cut_to,
    each,
    fixed,
    hashed,
    json_paths,
    keep_first,
    keep_last,
    rounded,
)
from gateway.protocols.postgres.moments import cut
from gateway.protocols.postgres.numbers import nearest

_FLAT = st.one_of(
    st.sampled_from([REDACT, NULLED, EMAIL, fixed("a"), fixed("b"), hashed("k", b"1"), hashed("l", b"2")]),
    st.builds(keep_last, st.integers(0, 4)),
    st.builds(keep_first, st.integers(0, 4)),
    st.builds(rounded, st.integers(1, 12)),
    st.builds(cut_to, st.sampled_from(UNITS)),
)
RULES = st.one_of(
    _FLAT, st.builds(each, _FLAT), st.builds(json_paths, st.dictionaries(st.sampled_from(["$.a", "$.b", "$..c"]), _FLAT, min_size=1))
)


@given(RULES, RULES, RULES)
def test_the_order_holds_together(one: MaskRule, two: MaskRule, three: MaskRule) -> None:
    assert one.hides_all_that(one)
    if one.hides_all_that(two) and two.hides_all_that(three):
        assert one.hides_all_that(three)
    assert NULLED.hides_all_that(one) and (REDACT.hides_all_that(one) or one.kind == "null")


@given(st.lists(RULES, min_size=2, max_size=4), st.randoms())
def test_rules_add_up_in_any_order_to_one_that_hides_all(rules: list[MaskRule], random: object) -> None:
    def added(several: list[MaskRule]) -> MaskRule:
        found = several[0]
        for rule in several[1:]:
            found = found.also(rule)
        return found

    total = added(rules)
    assert added(rules[::-1]) == total and added(sorted(rules, key=repr)) == total
    assert all(total.hides_all_that(rule) for rule in rules)


@pytest.mark.parametrize(
    ("stronger", "weaker"),
    [
        (NULLED, REDACT),
        (REDACT, fixed("a")),
        (fixed("a"), REDACT),
        (REDACT, hashed("k", b"1")),
        (keep_last(2), keep_last(4)),
        (rounded(300), rounded(100)),
        (cut_to("year"), cut_to("hour")),
        (each(REDACT), each(EMAIL)),
        (json_paths({"$.a": REDACT, "$.b": EMAIL}), json_paths({"$.a": keep_last(1)})),
    ],
)
def test_stronger(stronger: MaskRule, weaker: MaskRule) -> None:
    assert stronger.hides_all_that(weaker)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (REDACT, NULLED),
        (fixed("a"), NULLED),
        (keep_last(4), keep_first(4)),
        (hashed("k", b"1"), hashed("k", b"2")),
        (hashed("k", b"1"), EMAIL),
        (rounded(200), rounded(100)),
        (rounded(100), rounded(300)),
        (cut_to("day"), cut_to("month")),
        (hashed("k", b"1"), REDACT),
        (json_paths({"$.a": REDACT}), json_paths({"$.b": REDACT})),
        (json_paths({"$.a": REDACT}), REDACT),
        (each(EMAIL), each(REDACT)),
    ],
)
def test_not_stronger(one: MaskRule, other: MaskRule) -> None:
    assert not one.hides_all_that(other)


@given(st.integers(-(10**6), 10**6), st.integers(1, 60), st.integers(1, 60))
def test_what_a_stronger_rounding_shows_is_seen_in_the_weaker(value: int, step: int, other: int) -> None:
    if rounded(step).hides_all_that(rounded(other)):
        for near in range(value - 70, value + 70):
            if nearest(near, other) == nearest(value, other):
                assert nearest(near, step) == nearest(value, step)


@given(st.integers(-(10**17), 10**17), st.sampled_from(UNITS), st.sampled_from(UNITS))
def test_what_a_stronger_cut_shows_is_seen_in_the_weaker(moment: int, unit: str, other: str) -> None:
    if cut_to(unit).hides_all_that(cut_to(other)):
        assert cut(cut(moment, other), unit) == cut(moment, unit)


def test_several_sets_of_paths_hide_what_any_of_them_hides() -> None:
    both = json_paths({"$.a": keep_last(4)}).also(json_paths({"$.b": EMAIL, "$.a": keep_last(2)}))
    assert both == json_paths({"$.a": keep_last(2), "$.b": EMAIL})
    assert both.described() == "json: {$.a: keep_last: 2, $.b: email}" and each(hashed("k", b"x")).described() == "each: hash: k"


@pytest.mark.parametrize(
    "path", ["", "$", "ssn", "$ssn", "$.", "$.a b", "$.[0]", "$[", '$["a]', "$[-1]", "$...a", "$.a[01]", "$" + ".a" * 33, "$." + "a" * 600]
)
def test_paths_that_are_none(path: str) -> None:
    with pytest.raises(ValueError, match="expected a path"):
        parsed(path)


def test_following_paths() -> None:
    places = Places(['$["a b"].c', "$.list[*].x", "$..deep", "$.*[1]"])
    at, ended = places.below(places.start(), "a b")
    assert not ended and places.below(at, "c")[1] == [0]
    at, _ = places.below(places.start(), "list")
    inside, found = places.below(at, 1)
    assert found == [3] and places.below(inside, "x")[1] == [1] and places.below(inside, "deep")[1] == [2]
    assert places.below(places.start(), 0)[1] == [] and places.below(places.below(places.start(), "q")[0], "1")[1] == []
