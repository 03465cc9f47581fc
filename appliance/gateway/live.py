# SPDX-License-Identifier: Apache-2.0
"""The sessions open right now: counted per identity and resource, and ended from outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from gateway.model import Session


class LiveSessions:
    """Registry of open sessions. ``end`` callbacks must only schedule the ending, never block."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[Session, Callable[[str], None]]] = {}
        self._count: Counter[tuple[str, str]] = Counter()
        self._per_identity: Counter[str] = Counter()

    def add(self, session: Session, end: Callable[[str], None]) -> None:
        self._open[session.id] = (session, end)
        self._count[session.identity.name, session.resource] += 1
        self._per_identity[session.identity.name] += 1

    def remove(self, session_id: str) -> None:
        found = self._open.pop(session_id, None)
        if found is None:
            return
        key = (found[0].identity.name, found[0].resource)
        for counter, name in ((self._count, key), (self._per_identity, key[0])):
            counter[name] -= 1
            if not counter[name]:
                del counter[name]

    def concurrent(self, identity: str, resource: str) -> int:
        return self._count[identity, resource]

    def of_identity(self, identity: str) -> int:
        return self._per_identity[identity]

    def all(self) -> list[Session]:
        return [session for session, _ in self._open.values()]

    def end(self, session_id: str, reason: str) -> bool:
        """Ask a session to end. False when there is none of that id."""
        found = self._open.get(session_id)
        if found is None:
            return False
        found[1](reason)
        return True

    def end_all(self, reason: str) -> None:
        for _, end in list(self._open.values()):
            end(reason)

    def __len__(self) -> int:
        return len(self._open)
