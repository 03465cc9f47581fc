# SPDX-License-Identifier: Apache-2.0
"""The cancel keys this gateway gave out (manual "Canceling Requests in Progress"). None reaches a session it was not made for.

A CancelRequest comes on a connection of its own, which another worker may accept than the one the session is on: the process id tells.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Forward = Callable[[int, int, bytes], Awaitable[None]]
"""Hands a key, as (worker, process id, secret), to the worker that gave it out."""

SHORT, LONG = 4, 32
"""Bytes of a secret for callers of protocol 3.0, which allows no more, and of 3.2."""


@dataclass(slots=True)
class CancelKeys:
    """Process ids and secrets of live sessions, of worker ``number`` (from 0) of ``workers``."""

    number: int = 0
    workers: int = 1
    forward: Forward | None = None
    _sessions: dict[int, tuple[bytes, Callable[[], None]]] = field(default_factory=dict, repr=False)

    def issue(self, cancel: Callable[[], None], *, long: bool = False) -> tuple[int, bytes]:
        """A fresh process id and secret whose CancelRequest calls ``cancel``."""
        while (pid := self._fresh()) in self._sessions:
            pass
        self._sessions[pid] = (secrets.token_bytes(LONG if long else SHORT), cancel)
        return pid, self._sessions[pid][0]

    def _fresh(self) -> int:
        """From 1 to 2³¹-1; the remainder of its division by ``workers`` is ``number``."""
        return (secrets.randbelow(0x7FFFFFFF // self.workers - 1) + 1) * self.workers + self.number

    def revoke(self, pid: int) -> None:
        self._sessions.pop(pid, None)

    async def ask(self, pid: int, secret: bytes) -> None:
        """What a CancelRequest asks for, here or where the key belongs."""
        if pid % self.workers == self.number:
            self.use(pid, secret)
        elif self.forward is not None:
            await self.forward(pid % self.workers, pid, secret)

    def use(self, pid: int, secret: bytes) -> bool:
        """Cancel what the key belongs to; ``False`` when it is nobody's. Secrets are compared in constant time."""
        found = self._sessions.get(pid)
        if found is None or not hmac.compare_digest(found[0], secret):
            return False
        found[1]()
        return True
