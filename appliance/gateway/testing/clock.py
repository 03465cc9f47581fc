# SPDX-License-Identifier: Apache-2.0
"""Time that stands still until it is moved."""

from __future__ import annotations

START = 1_790_000_000.0
"""2026-09-21T13:33:20Z: inside the windows of the example's grants."""


class FrozenClock:
    """A clock to pass where ``Callable[[], float]`` (seconds since the epoch) is wanted."""

    def __init__(self, now: float = START) -> None:
        self._now = now

    def __call__(self) -> float:
        return self._now

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> float:
        """Move on (or back, for tests of a clock that was set) and give the new time."""
        self._now += seconds
        return self._now
