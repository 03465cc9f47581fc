# SPDX-License-Identifier: Apache-2.0
"""Which of several windows are open, and how long that stays so. Pure; times are seconds since the epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from gateway.config.window import Window

_MINUTE = 60.0
_STEPS = 64


def open_now(windows: Sequence[Window | None], now: float) -> frozenset[int]:
    """The numbers of those that are open; ``None`` is always open."""
    return frozenset(number for number, window in enumerate(windows) if window is None or window.open(now))


def settled_until(windows: Iterable[Window | None], now: float) -> float:
    """Until when ``open_now`` cannot change: the next absolute bound, or the next minute where days and hours play a part."""
    bounds = [math.inf]
    for window in windows:
        if window is None:
            continue
        moments = [moment.timestamp() for moment in (window.from_, window.until) if moment is not None]
        bounds += [moment for moment in moments if moment > now]
        if window.days or window.hours is not None:
            bounds.append((now // _MINUTE + 1) * _MINUTE)
    return min(bounds)


def covered_until(windows: Sequence[Window | None], now: float) -> float | None:
    """When the last window that gives anything closes: windows that follow without a gap add up. ``None`` is never, ``now`` is already.

    Gives up looking ahead after a bounded number of windows; the answer is then earlier than it could be, never later.
    """
    end = now
    for _ in range(_STEPS):
        reached = end
        for window in windows:
            close = None if window is None else window.closes(end)
            if close is None:
                return None
            reached = max(reached, close)
        if reached == end:
            break
        end = reached
    return end
