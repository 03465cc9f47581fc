# SPDX-License-Identifier: Apache-2.0
"""The sessions open right now: counted per identity and resource, and ended from outside."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from gateway.model import Session

_K = TypeVar("_K")


class LiveSessions:
    """Registry of open sessions. ``end`` callbacks must only schedule the ending, never block."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[Session, Callable[[str], None], Callable[[str], None]]] = {}
        self._count: Counter[tuple[str, str]] = Counter()
        self._per_identity: Counter[str] = Counter()

    def add(self, session: Session, end: Callable[[str], None], drain: Callable[[str], None] | None = None) -> None:
        """``drain`` ends it once the command that is running has ended (at once where there is no such difference)."""
        self._open[session.id] = (session, end, drain or end)
        self._count[session.identity.name, session.resource] += 1
        self._per_identity[session.identity.name] += 1

    def remove(self, session_id: str) -> None:
        found = self._open.pop(session_id, None)
        if found is None:
            return
        _less(self._count, (found[0].identity.name, found[0].resource))
        _less(self._per_identity, found[0].identity.name)

    def concurrent(self, identity: str, resource: str) -> int:
        return self._count[identity, resource]

    def of_identity(self, identity: str) -> int:
        return self._per_identity[identity]

    def all(self) -> list[Session]:
        return [session for session, _, _ in self._open.values()]

    def end(self, session_id: str, reason: str) -> bool:
        """Ask a session to end. False when there is none of that id."""
        found = self._open.get(session_id)
        if found is None:
            return False
        found[1](reason)
        return True

    def end_all(self, reason: str) -> None:
        for _, end, _ in list(self._open.values()):
            end(reason)

    def drain_all(self, reason: str) -> None:
        for _, _, drain in list(self._open.values()):
            drain(reason)

    def __len__(self) -> int:
        return len(self._open)


def _less(counter: Counter[_K], key: _K) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


class Rates:
    """A token bucket per identity: ``rate`` operations a second, as many at once as one second gives."""

    def __init__(self, rate: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._monotonic = rate, monotonic
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, identity: str) -> bool:
        """Whether one more operation may start now."""
        now = self._monotonic()
        left, seen = self._left.get(identity, (self._rate, now))
        left = min(self._rate, left + (now - seen) * self._rate)
        self._left[identity] = (left - 1 if left >= 1 else left, now)
        return left >= 1
