# SPDX-License-Identifier: Apache-2.0
"""The cancel keys this gateway gave out (manual "Canceling Requests in Progress"). None reaches a session it was not made for."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

SHORT, LONG = 4, 32
"""Bytes of a secret for callers of protocol 3.0, which allows no more, and of 3.2."""


@dataclass(slots=True)
class CancelKeys:
    """Process ids and secrets of live sessions."""

    _sessions: dict[int, tuple[bytes, Callable[[], None]]] = field(default_factory=dict, repr=False)

    def issue(self, cancel: Callable[[], None], *, long: bool = False) -> tuple[int, bytes]:
        """A fresh process id and secret whose CancelRequest calls ``cancel``."""
        while (pid := secrets.randbelow(0x7FFFFFFF - 1) + 1) in self._sessions:
            pass
        self._sessions[pid] = (secrets.token_bytes(LONG if long else SHORT), cancel)
        return pid, self._sessions[pid][0]

    def revoke(self, pid: int) -> None:
        self._sessions.pop(pid, None)

    def use(self, pid: int, secret: bytes) -> bool:
        """Cancel what the key belongs to; ``False`` when it is nobody's. Secrets are compared in constant time."""
        found = self._sessions.get(pid)
        if found is None or not hmac.compare_digest(found[0], secret):
            return False
        found[1]()
        return True
