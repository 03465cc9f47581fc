# SPDX-License-Identifier: Apache-2.0
"""``Flag``: what ``asyncio.Event`` does, in a few bytes until somebody waits. A session has four; an Event's queue alone takes 700."""

from __future__ import annotations

import asyncio


class Flag:
    """Set or not; ``wait()`` returns once it is set. For one event loop."""

    __slots__ = ("_on", "_waiters")

    def __init__(self, on: bool = False) -> None:
        self._on = on
        self._waiters: tuple[asyncio.Future[None], ...] = ()

    def is_set(self) -> bool:
        return self._on

    def set(self) -> None:
        """Everybody who waits goes on."""
        self._on = True
        waiters, self._waiters = self._waiters, ()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def clear(self) -> None:
        self._on = False

    async def wait(self) -> None:
        """Until it is set: also where it is cleared again before this task runs."""
        if self._on:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters = (*self._waiters, waiter)
        try:
            await waiter
        finally:
            self._waiters = tuple(one for one in self._waiters if one is not waiter)
