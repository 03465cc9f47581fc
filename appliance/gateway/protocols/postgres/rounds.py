# SPDX-License-Identifier: Apache-2.0
"""One timer that looks at all sessions, each once in ``EVERY`` seconds: a timer of its own takes an idle session 700 bytes."""

from __future__ import annotations

import asyncio
from typing import Protocol
from weakref import WeakKeyDictionary

EVERY = 1.0
PARTS = 8
"""They are looked at in as many parts, so that a thousand sessions do not hold up the loop at once."""


class Looked(Protocol):
    def look(self) -> None:
        """Must not raise."""


class Rounds:
    """Who takes part, on one event loop. The timer runs while there is anybody."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call_later = loop.call_later
        self._parts: tuple[dict[Looked, None], ...] = tuple({} for _ in range(PARTS))
        self._next = 0
        self._timer: asyncio.TimerHandle | None = None

    def join(self, one: Looked) -> None:
        min(self._parts, key=len)[one] = None
        if self._timer is None:
            self._timer = self._call_later(EVERY / PARTS, self._round)

    def leave(self, one: Looked) -> None:
        """Whether or not it takes part."""
        for part in self._parts:
            part.pop(one, None)

    def _round(self) -> None:
        part, self._next = self._parts[self._next], (self._next + 1) % PARTS
        self._timer = self._call_later(EVERY / PARTS, self._round) if any(self._parts) else None
        for one in list(part):
            if one in part:
                one.look()


_by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Rounds] = WeakKeyDictionary()


def rounds() -> Rounds:
    """Those of the running loop."""
    loop = asyncio.get_running_loop()
    found = _by_loop.get(loop)
    if found is None:
        found = _by_loop[loop] = Rounds(loop)
    return found
