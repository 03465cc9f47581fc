# SPDX-License-Identifier: Apache-2.0
"""What a session remembers of the comparisons of descriptions with plans: the wide ones too, and never more than its room."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.errors import TargetFault
from gateway.masking.model import MaskSet
from gateway.protocols.postgres import secondlock
from gateway.protocols.postgres.masking import CLEAR, MaskPlan
from gateway.protocols.postgres.messages import Field, RowDescription
from gateway.protocols.postgres.secondlock import ROOM, SecondLock


class Known:
    """The session's context, as far as the second lock looks at it."""

    def __init__(self) -> None:
        self.catalog, self.masking = SimpleNamespace(), MaskSet()

    def known(self) -> Any:
        return self.catalog

    def masks(self) -> MaskSet:
        return self.masking


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of columns of every comparison that is really made."""
    made: list[int] = []

    def check(plan: MaskPlan, fields: tuple[Field, ...], formats: tuple[int, ...], catalog: object, masks: MaskSet) -> MaskPlan:
        made.append(len(fields))
        return plan

    monkeypatch.setattr(secondlock, "check_row_description", check)
    return made


def described(columns: int, prefix: str = "column") -> bytes:
    return RowDescription(tuple(Field(f"{prefix}_{number}") for number in range(columns))).encode()[5:]


@pytest.mark.parametrize("columns", [1, 1000])
def test_a_description_is_compared_once(columns: int, compared: list[int]) -> None:
    lock = SecondLock(Known())  # type: ignore[arg-type]
    for _ in range(3):
        fields, plan = lock.verified(CLEAR, (), described(columns))
        assert (len(fields), plan) == (columns, CLEAR)
    assert compared == [columns]


def test_other_masks_another_catalog_and_another_plan_are_compared_anew(compared: list[int]) -> None:
    context = Known()
    lock = SecondLock(context)  # type: ignore[arg-type]
    lock.verified(CLEAR, (), described(2))
    context.masking = MaskSet()
    lock.verified(CLEAR, (), described(2))
    context.catalog = SimpleNamespace()
    lock.verified(CLEAR, (), described(2))
    lock.verified(MaskPlan(columns=None), (), described(2))
    assert compared == [2, 2, 2, 2]


def test_what_is_remembered_is_bounded_in_bytes(compared: list[int]) -> None:
    lock = SecondLock(Known())  # type: ignore[arg-type]
    for number in range(12):
        lock.verified(CLEAR, (), described(400, f"of_{number}"))
    assert sum(map(len, lock._described)) <= ROOM
    lock.verified(CLEAR, (), described(400, "of_11"))
    assert len(compared) == 12                              # the latest is still known
    for _ in range(2):
        lock.verified(CLEAR, (), described(1600, "far_too_long_to_be_remembered"))
    assert len(compared) == 14


def test_rows_of_a_statement_without_a_plan_are_the_targets_fault() -> None:
    with pytest.raises(TargetFault, match="returns none"):
        SecondLock(Known()).verified(None, (), described(1))  # type: ignore[arg-type]
