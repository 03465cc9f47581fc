# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import fnmatch
import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from gateway.identity.match import both_possible, claim_text, fits, inside, matches, overlap

SMALL = st.text(alphabet="ab", max_size=6)
PATTERN = st.text(alphabet="ab*", max_size=6)


@given(PATTERN, SMALL)
def test_matches_is_a_glob(pattern: str, text: str) -> None:
    assert matches(pattern, text) == fnmatch.fnmatchcase(text, pattern)


def test_every_character_but_the_star_is_itself() -> None:
    assert matches("a?[b].c", "a?[b].c")
    assert not matches("a?", "ab")
    assert matches("a*b", "a\n\x00/b")
    assert not matches("ab*ba", "aba")


@given(PATTERN, PATTERN, SMALL)
def test_overlap_is_seen_when_a_text_fits_both(left: str, right: str, text: str) -> None:
    if matches(left, text) and matches(right, text):
        assert overlap(left, right)


def test_overlap_is_not_seen_where_none_is() -> None:
    assert not overlap("project:a/*", "project:b/*")
    assert not overlap("a*b", "a*c")
    assert overlap("a*", "*b")
    assert not both_possible({"sub": "a", "ref": "x"}, {"sub": "*", "ref": "y"})
    assert both_possible({"sub": "a*"}, {"ref": "y"})


def test_claims_as_strings() -> None:
    assert [claim_text(value) for value in ("x", True, False, 7, 0)] == ["x", "true", "false", "7", "0"]
    odd: list[object] = [None, 1.5, [], ["x"], {}]
    assert [claim_text(value) for value in odd] == [None] * 5
    assert fits({"n": "7", "b": "true"}, {"n": 7, "b": True})
    assert not fits({"n": "*"}, {})
    assert not fits({"n": "*"}, {"n": ["x"]})


def test_mapped_networks() -> None:
    mapped = [ipaddress.ip_network("::ffff:10.0.0.0/104")]
    assert inside("10.1.2.3", mapped)
    assert inside("::ffff:10.1.2.3", mapped)
    assert not inside("11.1.2.3", mapped)
    assert not inside("fe80::1%eth0", [ipaddress.ip_network("10.0.0.0/8")])
