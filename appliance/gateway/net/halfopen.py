# SPDX-License-Identifier: Apache-2.0
"""Connections whose callers are not known yet, counted by source, so that one source cannot have all places (T66)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from gateway.net.source import source_of

log = logging.getLogger("gateway.net")

SAY_EVERY = 60.0
"""Seconds between two lines about the same trouble."""


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """One connection's. ``end`` aborts it."""

    source: str
    end: Callable[[], None]


class HalfOpen:
    """Who is here, not known yet. The oldest of the source that has most of them gives way to a source that has fewer."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._of: dict[str, dict[Place, None]] = {}
        self._count = 0
        self._monotonic, self._said = monotonic, -SAY_EVERY

    def __len__(self) -> int:
        return self._count

    def enter(self, peer: str, end: Callable[[], None], most: int, *, full: bool = False) -> Place | None:
        """Count one more in, until ``leave``. ``most``: how many there may be; ``full``: one has to go in any case.

        ``None``, and not counted, where none gives way to it.
        """
        source = source_of(peer)
        if (full or self._count >= most) and not self._make_room(source):
            return None
        place = Place(source, end)
        self._of.setdefault(source, {})[place] = None
        self._count += 1
        return place

    def leave(self, place: Place) -> None:
        """Its caller is known, or gone. Idempotent."""
        if (mine := self._of.get(place.source)) is None or place not in mine:
            return
        del mine[place]
        self._count -= 1
        if not mine:
            del self._of[place.source]

    def _make_room(self, source: str) -> bool:
        greediest: Collection[Place] = max(self._of.values(), key=len, default=())
        taken = len(greediest)
        if taken <= len(self._of.get(source, ())):
            return False
        oldest = next(iter(greediest))
        self.leave(oldest)
        self._say(oldest.source, taken)
        oldest.end()
        return True

    def _say(self, source: str, taken: int) -> None:
        now = self._monotonic()
        if now - self._said >= SAY_EVERY:
            self._said = now
            log.warning("too many connections are not authenticated: %d of %s; the oldest give way to other addresses", taken, source)
