# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.config.window import Window
from gateway.policy.windows import covered_until, open_now, settled_until

DAY = 1_790_035_200.0
"""2026-09-22T00:00:00Z, a Tuesday."""


def window(**keys: Any) -> Window:
    return Window.model_validate(keys)


def at(hour: float) -> float:
    return DAY + hour * 3600


def test_windows_without_a_gap_add_up() -> None:
    morning, noon = Window(hours="08:00-12:00"), Window(hours="12:00-13:00")
    assert covered_until([morning], at(9)) == at(12)
    assert covered_until([morning, noon], at(9)) == at(13)
    assert covered_until([noon], at(9)) == at(9)
    assert covered_until([noon, None], at(9)) is None
    assert covered_until([], at(9)) == at(9)
    assert covered_until([window(until="2026-09-22T10:00:00Z")], at(9)) == at(10)
    assert covered_until([window(**{"from": "2026-01-01T00:00:00Z"})], at(9)) is None


def test_looking_ahead_is_bounded() -> None:
    halves = [Window(hours="00:00-12:00"), Window(hours="12:00-00:00")]
    until = covered_until(halves, at(1))
    assert until is None or until > at(24)


WINDOWS = st.sampled_from([
    None, Window(hours="08:00-12:00"), window(days=["tue"]), window(days=["wed"], hours="22:00-06:00"),
    Window(hours="08:30-08:31", zone="Europe/Berlin"), window(until="2026-09-22T10:00:30Z"), window(**{"from": "2026-09-22T10:00:30Z"}),
    window(**{"from": "2026-09-22T09:00:00Z", "until": "2026-09-22T09:00:10Z"})])


@given(st.lists(WINDOWS, max_size=4), st.floats(0, 200_000), st.floats(0, 1, exclude_max=True))
def test_nothing_opens_or_closes_before_it_is_looked_at_again(windows: list[Window | None], offset: float, share: float) -> None:
    now = DAY + offset
    until = settled_until(windows, now)
    assert until > now
    then = now + (min(until, now + 100_000) - now) * share
    if then < until:
        assert open_now(windows, then) == open_now(windows, now)
    assert until == math.inf or until > now
