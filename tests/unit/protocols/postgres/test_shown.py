# SPDX-License-Identifier: Apache-2.0
"""What the audit log may keep of a statement."""

from __future__ import annotations

from gateway.masking.model import MaskSet
from gateway.masking.rules import REDACT, keep_last
from gateway.protocols.postgres.shown import shown_parameters, shown_text
from gateway.protocols.postgres.statement import ColumnId, Literal, Statement

MASKS = MaskSet({"public.customers.ssn": REDACT}, detect={"payment-card": keep_last(4)})
SSN: frozenset[ColumnId] = frozenset({("public", "customers", "ssn")})
NAME: frozenset[ColumnId] = frozenset({("public", "customers", "name")})


def literal(text: str, token: str, origins: frozenset[ColumnId], secret: bool = False) -> Literal:
    start = text.index(token)
    return Literal(origins, start, start + len(token), secret=secret)


def test_values_that_meet_masked_columns_are_hidden() -> None:
    text = "select 'ä' from customers where ssn = '078-05-1120' and name = 'Ann' or ssn like '0%'"
    statement = Statement(
        "select", (), literals=(literal(text, "'078-05-1120'", SSN), literal(text, "'Ann'", NAME), literal(text, "'0%'", SSN))
    )
    assert shown_text(text, (statement,), MASKS) == "select 'ä' from customers where ssn = '****' and name = 'Ann' or ssn like '****'"
    assert shown_text(text, (statement,), MaskSet()) == text


def test_password_literals_are_hidden_without_masks() -> None:
    text = "alter user a password 'hunter2'"
    statement = Statement("alter", (), literals=(literal(text, "'hunter2'", frozenset(), secret=True),))
    assert shown_text(text, (statement,), MaskSet()) == "alter user a password '****'"


def test_what_is_inside_prepare_counts_too() -> None:
    text = "prepare p as select 1 where '078' = ssn"
    inner = Statement("select", (), literals=(literal(text, "'078'", SSN),))
    assert "078" not in shown_text(text, (Statement("prepare", (), inner=inner),), MASKS)


def test_secrets_and_findings_are_hidden_wherever_they_are() -> None:
    text = "select 'correct horse', 'short' -- 4111111111111111"
    assert shown_text(text, (), MASKS, ("correct horse", "short")) == "select '****', 'short' -- ************1111"


def test_a_literal_that_two_statements_share_is_replaced_once() -> None:
    text = "select '078'"
    one = Statement("select", (), literals=(literal(text, "'078'", SSN), literal(text, "'078'", SSN)))
    assert shown_text(text, (one, one), MASKS) == "select '****'"


def test_parameters() -> None:
    statement = Statement("select", (), literals=(Literal(SSN, parameter=2), Literal(NAME, parameter=3)))
    given = (("25", "a"), ("25", "078"), ("25", "Ann"), ("25", None), ("25", "say correct horse"), ("25", "4111111111111111"))
    assert shown_parameters(given, (statement,), MASKS, ("correct horse",)) == ("a", "****", "Ann", None, "say ****", "************1111")
    assert shown_parameters((("17", "\\x" + b"-correct horse-".hex()),), (), MASKS, ("correct horse",)) == ("****",)
    assert shown_parameters((("23", None), ("25", None)), (statement,), MASKS) == (None, None)
