# SPDX-License-Identifier: Apache-2.0
"""A time with a floor: a wall clock set back by a hypervisor revives no token, window or approval.

``now = max(wall, floor)``. The floor rises with the monotonic clock, so time goes on at its true pace while the wall clock is
behind. It follows the wall clock upwards too, but one step forward raises it by ``step`` seconds at most, and the next one only
after ``settle`` seconds: a clock that once said 2099 does not leave the gateway in 2099 when it is set right. Setbacks, large steps
and resets are told to ``tell``, which records them. The floor is kept in a file over restarts.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from pathlib import Path

STEP = 86_400.0
SETTLE = 3_600.0
TOLERANCE = 5.0

Tell = Callable[[str, float], None]
"""Called with ``clock.behind``, ``clock.right``, ``clock.step`` or ``clock.reset``, and the seconds by which the wall clock is off."""


class Clock:
    """Seconds since the epoch. ``wall`` and ``monotonic`` are the sources; not to be shared by threads."""

    def __init__(self, floor: float = 0.0, *, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic,
                 tell: Tell = lambda kind, seconds: None, step: float = STEP, settle: float = SETTLE) -> None:
        self._wall, self._monotonic, self._tell = wall, monotonic, tell
        self._step, self._settle = step, settle
        self.begin(floor)

    def begin(self, floor: float) -> None:
        """Begin with this floor; 0 is none."""
        self._seen = self._monotonic()
        self._stepped = -math.inf
        self._behind = False
        start = self._wall()
        self._floor = start if floor <= 0 or 0 < start - floor <= self._step else floor   # time that passed while nothing ran is no step

    def now(self) -> float:
        """The time to decide by."""
        wall, seen = self._wall(), self._monotonic()
        if seen > self._seen:
            self._floor += seen - self._seen
        self._seen = seen
        ahead = wall - self._floor
        if 0 < ahead <= TOLERANCE:
            self._floor = wall
        elif ahead > TOLERANCE:
            self._raise(ahead, seen)
        if self._behind or ahead < -TOLERANCE:
            self._note(ahead)
        return wall if wall > self._floor else self._floor

    def _raise(self, ahead: float, seen: float) -> None:
        if seen - self._stepped < self._settle:
            return
        self._stepped = seen
        self._floor += min(ahead, self._step)
        self._tell("clock.step", ahead)

    def _note(self, ahead: float) -> None:
        behind = ahead < -TOLERANCE
        if behind != self._behind:
            self._behind = behind
            self._tell("clock.behind" if behind else "clock.right", ahead)

    @property
    def floor(self) -> float:
        """What to keep over a restart."""
        return self._floor

    @property
    def behind(self) -> bool:
        """Whether the wall clock says less than is known to have passed."""
        return self._behind

    def reset(self) -> None:
        """Believe the wall clock again, even if that is a step back. Only ever on an operator's word; it is told."""
        wall = self._wall()
        self._tell("clock.reset", wall - self._floor)
        self._floor, self._seen, self._stepped, self._behind = wall, self._monotonic(), -math.inf, False


def start_floor(saved: float | None, last_record: float | None, step: float = STEP) -> float:
    """The floor to start with, from the kept one and the time of the last audit record.

    A record written while the wall clock was wrong cannot lift the floor by more than one step over the kept one.
    """
    if saved is None:
        return last_record or 0.0
    return max(saved, min(last_record or 0.0, saved + step))


def read_floor(path: Path) -> float | None:
    """The kept floor, ``None`` if there is none or it cannot be understood."""
    try:
        value = float(path.read_text(encoding="ascii")[:64])
    except (OSError, ValueError):
        return None
    return value if math.isfinite(value) and value > 0 else None


def keep_floor(path: Path, floor: float) -> None:
    """Keep the floor, atomically. Raises ``OSError``."""
    draft = path.with_suffix(".new")
    try:
        draft.write_text(f"{floor:.6f}\n", encoding="ascii")
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
