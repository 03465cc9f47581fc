# SPDX-License-Identifier: Apache-2.0
"""What is open right now: connections, and sessions, counted per identity and resource and ended from outside."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from gateway.errors import Refused
from gateway.model import Session
from gateway.net.halfopen import HalfOpen

_K = TypeVar("_K")
End = Callable[[str], None]
"""Asks a session to end, and says why. Only schedules the ending, never blocks."""


@dataclass(frozen=True, slots=True)
class Caps:
    """How many sessions one identity may have: on the resource (``None``: as many as it likes), and in all."""

    concurrent: int | None
    in_all: int


class LiveSessions:
    """Registry of open sessions."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[Session, End, End]] = {}
        self._count: Counter[tuple[str, str]] = Counter()
        self._per_identity: Counter[str] = Counter()

    async def enter(self, session: Session, caps: Caps, end: End) -> None:
        """Count it in, if there is room for it. ``remove`` has to be called whatever happens afterwards.

        Raises ``Refused`` (53300), or ``GatewayFault`` where that cannot be told.
        """
        self.admit(session, caps, end)

    def admit(self, session: Session, caps: Caps, end: End) -> None:
        """``enter`` where all sessions there are, are here."""
        who = session.identity.name
        if caps.concurrent is not None and self.concurrent(who, session.resource) >= caps.concurrent:
            raise Refused(f"{who} has {caps.concurrent} sessions on {session.resource} already", "53300")
        if self.of_identity(who) >= caps.in_all:
            raise Refused(f"{who} has too many connections", "53300")
        self.add(session, end)

    def add(self, session: Session, end: End) -> None:
        """Count it in."""
        self._open[session.id] = (session, end, end)
        self._count[session.identity.name, session.resource] += 1
        self._per_identity[session.identity.name] += 1

    def steer(self, session_id: str, end: End, drain: End) -> None:
        """How it is ended from now on; ``drain`` lets the command that is running end first."""
        if (found := self._open.get(session_id)) is not None:
            self._open[session_id] = (found[0], end, drain)

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


class Connections:
    """How many connections are open, their callers known or not; ``half_open`` are those of this process whose callers are not."""

    def __init__(self) -> None:
        self.here = 0
        self.half_open = HalfOpen()

    def opened(self) -> int:
        """One more; how many there are with it."""
        self.here += 1
        return self.here

    def closed(self) -> None:
        self.here -= 1


class Rates:
    """A token bucket per identity: ``rate`` operations a second, as many at once as one second gives."""

    def __init__(self, rate: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._most, self._monotonic = rate, max(rate, 1.0), monotonic
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, identity: str) -> bool:
        """Whether one more operation may start now."""
        now = self._monotonic()
        left, seen = self._left.get(identity, (self._most, now))
        left = min(self._most, left + (now - seen) * self._rate)
        self._left[identity] = (left - 1 if left >= 1 else left, now)
        return left >= 1
