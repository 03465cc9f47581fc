# SPDX-License-Identifier: Apache-2.0
"""One connection to a target, and how many channels are on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import asyncssh

from gateway.protocols.ssh.connection import TargetConnection

CHANNELS = 8
"""On one connection; OpenSSH's own limit is ten (sshd_config, MaxSessions)."""


class Target(asyncssh.SSHClient):
    """What asyncssh asks of us as a client: nothing is trusted that is not pinned, and one password answers one prompt."""

    def __init__(self, password: str | None) -> None:
        self._password = password
        self.alarm: Callable[[asyncssh.HostKeyNotVerifiable], None] = lambda wrong: None
        """Told when it shows another host key than before, where keys are exchanged anew."""
        self.lost = asyncio.Event()

    def password_auth_requested(self) -> str | None:
        given, self._password = self._password, None
        return given

    def kbdint_auth_requested(self) -> str | None:
        return "" if self._password is not None else None

    def kbdint_challenge_received(self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]) -> list[str] | None:
        """One prompt that is not echoed is the password's; anything else is nobody's business."""
        if not prompts:
            return []
        if len(prompts) != 1 or prompts[0][1] or self._password is None:
            return None
        given, self._password = self._password, None
        return [given]

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()
        if isinstance(exc, asyncssh.HostKeyNotVerifiable):
            self.alarm(exc)


class Upstream:
    """``taken`` channels are on it. Whoever takes one gives it back."""

    def __init__(self, connection: TargetConnection, target: Target, *, share: float | None) -> None:
        self.connection, self._target = connection, target
        self._share = share
        self.taken = 0
        self.retired = False
        """Nobody new may come: the policy changed, or it is one session's own."""
        self._idle: asyncio.TimerHandle | None = None

    @property
    def usable(self) -> bool:
        return not self._target.lost.is_set() and not self.retired

    @property
    def roomy(self) -> bool:
        return self.usable and self.taken < CHANNELS

    def take(self) -> Upstream:
        """Room for one channel."""
        self.taken += 1
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        return self

    def give_back(self) -> None:
        self.taken -= 1
        if self.taken > 0:
            return
        if self.retired or self._target.lost.is_set():
            self.close()
        elif self._share is None:
            return
        elif self._share <= 0:
            self.close()
        elif self._idle is None:
            self._idle = asyncio.get_running_loop().call_later(self._share, self.close)

    def retire(self) -> None:
        """What is on it goes on; nobody else comes."""
        self.retired = True
        if not self.taken:
            self.close()

    def close(self) -> None:
        self.retired = True
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if not self._target.lost.is_set():
            self.connection.close()
