# SPDX-License-Identifier: Apache-2.0
"""Bounds on what callers can make the console do (T66). Pure but for the clock that is handed in."""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConsoleLimits:
    """Seconds and counts. ``header`` is from accept (or the last answer) to a whole request head, ``request`` from there to the
    answer, ``stall`` how long a caller may not read. ``failures`` are refused tokens a minute and source."""

    connections: int = 256
    per_source: int = 64
    in_flight: int = 64
    header: float = 10.0
    request: float = 30.0
    stall: float = 30.0
    body: int = 64 * 1024
    failures: int = 20


class Connections:
    """How many are open, in all and per source."""

    def __init__(self, limits: ConsoleLimits) -> None:
        self._limits = limits
        self._open: Counter[str] = Counter()
        self._all = 0

    def enter(self, source: str) -> bool:
        """Count one more. False (and not counted) where that would be too many."""
        if self._all >= self._limits.connections or self._open[source] >= self._limits.per_source:
            return False
        self._all += 1
        self._open[source] += 1
        return True

    def leave(self, source: str) -> None:
        self._all -= 1
        self._open[source] -= 1
        if not self._open[source]:
            del self._open[source]

    def __len__(self) -> int:
        return self._all


class Failures:
    """Refused tokens per source: a bucket that fills with each and empties at ``limit`` a minute."""

    def __init__(self, limit: int, sources: int = 10_000) -> None:
        self._limit = limit
        self._sources = sources
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, source: str, now: float) -> int:
        """Seconds this source has to wait before it may show a token again; 0 where it may now."""
        level = self._level(source, now)
        over = level - (self._limit - 1)
        return 0 if over <= 0 else int(over * 60 / self._limit) + 1

    def count(self, source: str, now: float) -> None:
        self._levels[source] = (self._level(source, now) + 1, now)
        self._levels.move_to_end(source)
        while len(self._levels) > self._sources:
            self._levels.popitem(last=False)

    def _level(self, source: str, now: float) -> float:
        level, when = self._levels.get(source, (0.0, now))
        return max(0.0, level - (now - when) * self._limit / 60)


def is_loopback(address: str | None) -> bool:
    try:
        parsed = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback
