# SPDX-License-Identifier: Apache-2.0
"""The connections to the target that are one session's alone: for its agent, its X11, and what it listens on there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from gateway.errors import SessionOver
from gateway.model import Session
from gateway.protocols.ssh.connection import Flow
from gateway.protocols.ssh.settings import SshResource
from gateway.protocols.ssh.towards import Towards
from gateway.protocols.ssh.upstream import Upstream

Opened = Callable[[Upstream, str, tuple[str, int]], tuple[Flow, Awaitable[Any]]]
"""Takes a channel that the target opens on one of them: of which kind, and where it comes from."""


class OwnConnections:
    """Mostly there is one. ``close`` ends them all, also one that is being made."""

    def __init__(self, session: Session, opened: Opened) -> None:
        self._session, self._opened = session, opened
        self._making = asyncio.Lock()
        self._kept: list[tuple[Towards, Upstream]] = []
        self._closed = False

    async def taken(self, towards: Towards, resource: SshResource) -> Upstream:
        """Room for one channel on one that was made as the policy in force says. Raises ``TargetFault`` or ``SessionOver``."""
        async with self._making:
            for way, upstream in self._kept:
                if way is towards and upstream.roomy:
                    return upstream.take()
            for way, upstream in self._kept:
                if way is not towards:
                    upstream.retire()
            self._kept = [(way, upstream) for way, upstream in self._kept if upstream.taken or upstream.usable]
            made = await towards.own(self._session, resource)
            if self._closed:
                made.close()
                raise SessionOver("the session is over")
            made.connection.opened = partial(self._opened, made)
            self._kept.append((towards, made))
            return made.take()

    def close(self) -> None:
        self._closed = True
        for _, upstream in self._kept:
            upstream.close()
