# SPDX-License-Identifier: Apache-2.0
"""Windows: absolute bounds, days, hours, time zones."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.config.window import DAYS, Window


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def window(**keys: Any) -> Window:
    return Window.model_validate(keys)


def test_absolute_bounds() -> None:
    one = window(**{"from": "2026-01-01T00:00:00Z", "until": "2026-02-01T00:00:00+01:00"})
    assert not one.open(at("2025-12-31T23:59:59Z"))
    assert one.open(at("2026-01-01T00:00:00Z"))
    assert not one.open(at("2026-01-31T23:00:00Z"))
    assert one.over(at("2026-01-31T23:00:00Z"))
    assert one.closes(at("2026-01-15T00:00:00Z")) == at("2026-01-31T23:00:00Z")


def test_days_and_hours() -> None:
    office = window(days=["mon", "tue", "wed", "thu", "fri"], hours="08:00-18:00", zone="UTC")
    assert office.open(at("2026-06-12T08:00:00Z"))
    assert not office.open(at("2026-06-12T18:00:00Z"))
    assert not office.open(at("2026-06-13T12:00:00Z"))
    assert office.closes(at("2026-06-12T09:00:00Z")) == at("2026-06-12T18:00:00Z")


def test_past_midnight_belongs_to_the_day_it_begins_on() -> None:
    night = window(days=["fri"], hours="22:00-06:00")
    assert night.open(at("2026-06-12T23:00:00Z"))
    assert night.open(at("2026-06-13T05:59:59Z"))
    assert not night.open(at("2026-06-12T05:00:00Z"))


def test_days_that_follow_each_other_are_one_span() -> None:
    assert window(days=["fri", "sat"]).closes(at("2026-06-12T12:00:00Z")) == at("2026-06-14T00:00:00Z")
    assert window(days=list(DAYS)).closes(at("2026-06-12T12:00:00Z")) is None
    assert window().closes(0) is None


@pytest.mark.parametrize(
    "keys",
    [
        {"from": "2026-01-01"},
        {"from": "2026-01-01T00:00:00"},
        {"from": 1767225600},
        {"until": "2026-13-01T00:00:00Z"},
        {"hours": "8-18"},
        {"hours": "08:00-08:00"},
        {"hours": "24:00-25:00"},
        {"days": ["monday"]},
        {"zone": "Mars/Olympus"},
        {"zone": "../../etc/passwd"},
        {"form": "2026-01-01T00:00:00Z"},
        {"from": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"},
    ],
)
def test_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        window(**keys)


@settings(max_examples=100, deadline=None)
@given(
    st.sets(st.sampled_from(DAYS)),
    st.none() | st.tuples(st.integers(0, 23), st.integers(0, 23)).filter(lambda pair: pair[0] != pair[1]),
    st.integers(1_700_000_000, 1_900_000_000),
)
def test_it_is_closed_when_it_says_it_closes(days: set[str], hours: tuple[int, int] | None, now: int) -> None:
    one = window(days=sorted(days), **({"hours": f"{hours[0]:02}:00-{hours[1]:02}:00"} if hours else {}))
    end = one.closes(now)
    if one.open(now) and end is not None:
        assert now < end
        assert one.open(end - 1)
        assert not one.open(end)
