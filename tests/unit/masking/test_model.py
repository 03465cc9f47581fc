# SPDX-License-Identifier: Apache-2.0
"""Mask sets: patterns, and how several add up."""

from __future__ import annotations

import pytest

from gateway.masking.model import MaskSet, add_up
from gateway.masking.rules import EMAIL, REDACT, keep_last

CUSTOMERS = MaskSet(
    {"public.customers.ssn": REDACT, "public.*.card": keep_last(4), "hr?.people.*": REDACT},
    clear=["public.notes.*"],
    detect={"jwt": REDACT},
)


@pytest.mark.parametrize(
    ("column", "masked"),
    [
        (("public", "customers", "ssn"), True),
        (("public", "customers", "SSN"), False),
        (("other", "customers", "ssn"), False),
        (("public", "orders", "card"), True),
        (("public", "a.b", "card"), True),
        (("public", "orders", "cards"), False),
        (("hr1", "people", "anything.at all"), True),
        (("hr", "people", "x"), False),
        (("hr12", "people", "x"), False),
    ],
)
def test_patterns(column: tuple[str, str, str], masked: bool) -> None:
    assert (CUSTOMERS.rule_for(column) is not None) is masked
    assert (CUSTOMERS.rule_for(column) is not None) is masked


def test_a_star_does_not_cross_a_part() -> None:
    assert MaskSet({"*.x.*": REDACT}).rule_for(("a", "b", "x")) is None
    assert MaskSet({"*.x.*": REDACT}).rule_for(("a", "x", "b")) == REDACT


def test_patterns_are_no_regular_expressions() -> None:
    assert MaskSet({"public.c+.[a]": REDACT}).rule_for(("public", "cc", "a")) is None
    assert MaskSet({"public.c+.[a]*": REDACT}).rule_for(("public", "c+", "[a]x")) == REDACT


@pytest.mark.parametrize("pattern", ["ssn", "customers.ssn", "db.public.customers.ssn", "public..ssn", ""])
def test_three_parts(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"SCHEMA\.RELATION\.COLUMN"):
        MaskSet({pattern: REDACT})


def test_several_patterns_on_a_column_add_up() -> None:
    masks = MaskSet({"public.customers.*": keep_last(4), "public.*.card": keep_last(2), "public.customers.email": EMAIL})
    assert masks.rule_for(("public", "customers", "card")) == keep_last(2)
    assert masks.rule_for(("public", "customers", "email")) == REDACT
    assert masks.rule_of(frozenset([("public", "customers", "id"), ("public", "x", "y")])) == keep_last(4)
    assert masks.rule_of(frozenset()) is None


def test_truth_is_about_columns() -> None:
    assert not MaskSet() and not MaskSet(detect={"jwt": REDACT}) and MaskSet({"a.b.c": REDACT})


def test_clear() -> None:
    assert CUSTOMERS.is_clear(("public", "notes", "body")) and not CUSTOMERS.is_clear(("public", "orders", "body"))


def test_sets_add_up() -> None:
    other = MaskSet({"public.customers.ssn": keep_last(4), "public.x.y": EMAIL}, detect={"payment-card": keep_last(4)})
    both = add_up([CUSTOMERS, other])
    assert both.rule_for(("public", "customers", "ssn")) == REDACT
    assert both.rule_for(("public", "x", "y")) == EMAIL
    assert set(both.detect) == {"jwt", "payment-card"}
    assert not both.clear, "a set with detectors that does not clear the column still looks into it"
    assert add_up([CUSTOMERS, MaskSet({"a.b.c": REDACT})]).clear == CUSTOMERS.clear
    assert not add_up([])


def test_unknown_detectors() -> None:
    with pytest.raises(ValueError, match="unknown detector"):
        _ = MaskSet(detect={"magic": REDACT}).detectors
    assert MaskSet().detectors is None
