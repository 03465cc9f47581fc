# SPDX-License-Identifier: Apache-2.0
"""Who looks on while a session runs: masked events as they happen, to people of ``console.watch``.

The hub belongs to one event loop. A session that nobody watches pays one look into a dictionary; one that is watched never waits for a
watcher: who takes too long is dropped. With ``workers`` the first process asks the one that has the session (``asked``, ``workers.seat``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from gateway.errors import Refused
from gateway.recording.terminal import Event

ROOM = 2**20
"""Bytes that may wait for one watcher."""
MOST = 32
"""Watchers at once."""

Row = tuple[int, Event]
"""The number of a ``command.begin``, and what its program did: ``at`` is microseconds since that program began."""


class Watcher:
    """One who looks on. ``dropped``: was too slow, and sees nothing more."""

    def __init__(self, session: str) -> None:
        self.session = session
        self.dropped = False
        self._rows: list[Row] = []
        self._size = 0
        self._some = asyncio.Event()

    def put(self, rows: Sequence[Row]) -> None:
        """Keep them for ``take``, or drop the watcher."""
        if self.dropped:
            return
        self._size += sum(64 + len(event.data) for _, event in rows)
        if self._size > ROOM:
            self.drop()
            return
        self._rows += rows
        self._some.set()

    def drop(self) -> None:
        """It sees nothing more."""
        self.dropped = True
        self._rows.clear()
        self._some.set()

    async def take(self, patience: float) -> list[Row]:
        """What came since, at the latest after so many seconds."""
        if not self._some.is_set():
            try:
                async with asyncio.timeout(patience):
                    await self._some.wait()
            except TimeoutError:
                return []
        self._some.clear()
        rows, self._rows, self._size = self._rows, [], 0
        return rows


class Hub:
    """All watchers of one process."""

    def __init__(self) -> None:
        self._watchers: dict[str, list[Watcher]] = {}
        self.asked: Callable[[str, bool], None] = lambda session, on: None
        """Told when a session gets its first watcher here, and when its last one leaves."""

    def watched(self, session: str) -> bool:
        return session in self._watchers

    def watch(self, session: str) -> Watcher:
        """Look on. ``leave`` has to be called. Raises ``Refused`` where too many do."""
        if sum(map(len, self._watchers.values())) >= MOST:
            raise Refused("too many sessions are watched")
        found = self._watchers.setdefault(session, [])
        watcher = Watcher(session)
        found.append(watcher)
        if len(found) == 1:
            self.asked(session, True)
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Look no more. Idempotent."""
        found = self._watchers.get(watcher.session, [])
        if watcher in found:
            found.remove(watcher)
            if not found:
                del self._watchers[watcher.session]
                self.asked(watcher.session, False)

    def shown(self, session: str, rows: Sequence[Row] | None) -> None:
        """What another process shows of a session; ``None``: it was too much for the way here."""
        if rows is not None:
            self.publish(session, rows)
            return
        for watcher in self._watchers.get(session, ()):
            watcher.drop()

    def publish(self, session: str, rows: Sequence[Row]) -> None:
        """Show it to whoever watches the session. Never blocks, never raises."""
        for watcher in self._watchers.get(session, ()):
            watcher.put(rows)
