# SPDX-License-Identifier: Apache-2.0
"""Rules: the examples of contract section 6, and what holds for every value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.masking.rules import EMAIL, HIDDEN, REDACT, MaskRule, keep_first, keep_last, on_bytes

RULES = st.one_of(st.just(REDACT), st.just(EMAIL), st.builds(keep_last, st.integers(0, 30)), st.builds(keep_first, st.integers(0, 30)))


@pytest.mark.parametrize(
    ("rule", "value", "shown"),
    [
        (REDACT, "078-05-1120", "****"),
        (REDACT, "", "****"),
        (keep_last(4), "4111111111111111", "************1111"),
        (keep_last(4), "1234", "****"),
        (keep_last(4), "12", "**"),
        (keep_last(4), "", ""),
        (keep_last(0), "abc", "***"),
        (keep_first(2), "abcdef", "ab****"),
        (keep_first(6), "abcdef", "******"),
        (keep_first(0), "abc", "***"),
        (keep_last(2), "äöüß", "**üß"),
        (keep_first(1), "日本語", "日**"),
        (EMAIL, "dana@example.com", "d***@example.com"),
        (EMAIL, "d@example.com", "d***@example.com"),
        (EMAIL, "ü@bücher.de", "ü***@bücher.de"),
        (EMAIL, "no address", "****"),
        (EMAIL, "@example.com", "****"),
        (EMAIL, "a@", "****"),
        (EMAIL, "a@b c", "****"),
        (EMAIL, "a b@c.d", "****"),
        (EMAIL, "", "****"),
        (EMAIL, "a@b..c", "****"),
        (EMAIL, "secret\n@x.y", "****"),
        (EMAIL, "x@" + "y" * 254, "****"),
    ],
)
def test_examples(rule: MaskRule, value: str, shown: str) -> None:
    assert rule.apply(value) == shown


@given(st.text(), st.integers(0, 40), st.booleans())
def test_keeping_keeps_the_length_and_at_most_n_characters(value: str, count: int, last: bool) -> None:
    shown = (keep_last if last else keep_first)(count).apply(value)
    assert len(shown) == len(value)
    kept = shown[len(value) - count :] if last else shown[:count]
    if 0 < count < len(value):
        assert kept == (value[len(value) - count :] if last else value[:count])
        assert set(shown[:-count] if last else shown[count:]) <= {"*"}
    else:
        assert set(shown) <= {"*"}


@given(RULES, RULES)
def test_adding_up_hides_what_either_hides(one: MaskRule, other: MaskRule) -> None:
    both = one.also(other)
    assert both.hides_all_that(one) and both.hides_all_that(other)
    assert both == other.also(one)


@given(RULES, RULES, RULES)
def test_the_order_of_adding_up_does_not_matter(one: MaskRule, two: MaskRule, three: MaskRule) -> None:
    assert one.also(two).also(three) == one.also(two.also(three))


def test_rules_that_hide_different_things_add_up_to_all() -> None:
    assert keep_last(4).also(keep_first(4)) == REDACT
    assert EMAIL.also(keep_last(4)) == REDACT
    assert keep_last(4).also(keep_last(2)) == keep_last(2)
    assert HIDDEN == "****"


ADDRESSES = st.text(alphabet="aZ0.-@ ü\n_+", max_size=20)


@given(RULES, st.text(max_size=20) | ADDRESSES)
def test_on_bytes_is_the_same(rule: MaskRule, value: str) -> None:
    raw = value.encode(errors="replace")
    assert on_bytes(rule)(raw) == rule.apply(raw.decode()).encode()


@pytest.mark.parametrize("rule", [REDACT, EMAIL, keep_last(4), keep_first(4)])
def test_what_is_not_utf8_is_hidden(rule: MaskRule) -> None:
    assert on_bytes(rule)(b"\xff\xfe-abcdefgh@x.org") == b"****"
