# SPDX-License-Identifier: Apache-2.0
"""The target's side of a session channel: a connection with room, channels on it, and the gateway's own questions about files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncssh

from gateway.errors import TargetFault
from gateway.protocols.ssh import understand
from gateway.protocols.ssh.connection import X11, TargetChannel, Terminal
from gateway.protocols.ssh.desk import printable
from gateway.protocols.ssh.pipes import Answers, ChannelPipe
from gateway.protocols.ssh.relay import TargetSide
from gateway.protocols.ssh.sftp.questions import Questions
from gateway.protocols.ssh.upstream import Upstream

if TYPE_CHECKING:
    from gateway.protocols.ssh.session import SshSession


class AtTarget:
    """What one session's channels need there. Everything raises ``TargetFault``."""

    def __init__(self, session: SshSession) -> None:
        self._session = session

    @asynccontextmanager
    async def upstream(self, *, own: bool = False) -> AsyncIterator[Upstream]:
        """A connection, given back at the end."""
        upstream = await self._session.upstream(own=own)
        try:
            yield upstream
        finally:
            upstream.give_back()

    async def opened(self, upstream: Upstream, side: TargetSide, request: bytes, argument: str | None, env: Mapping[bytes, bytes],
                     terminal: Terminal | None = None, x11: X11 | None = None, agent: bool = False) -> TargetChannel:
        """A session channel on which this was asked for, and granted. A connection on which nobody answers is not used again."""
        name, limits = self._session.resource.name, self._session.gate.folder.gateway.limits
        try:
            channel = upstream.connection.create_session_channel()
            channel.set_write_buffer_limits(high=limits.buffer)
        except asyncssh.Error as fault:
            raise TargetFault(f"{name} does not open a channel: {printable(fault.reason)[:200]}") from None
        try:
            async with asyncio.timeout(limits.target_connect):
                granted = await channel.begin(side, request, argument, env, terminal, x11, agent)
        except TimeoutError:
            channel.give_up()
            upstream.retire()
            raise TargetFault(f"{name} did not answer in time (limits.target_connect)") from None
        except asyncssh.Error as fault:
            channel.give_up()
            raise TargetFault(f"{name} does not open a channel: {printable(fault.reason)[:200]}") from None
        except BaseException:
            channel.give_up()
            raise
        if not granted:
            raise TargetFault(f"{name} refused the request")
        return channel

    @asynccontextmanager
    async def questions(self, upstream: Upstream) -> AsyncIterator[Questions]:
        """The gateway's own SFTP channel: what a path means is the target's to say."""
        side = TargetSide()
        channel = await self.opened(upstream, side, b"subsystem", understand.SFTP, {})
        pipe = ChannelPipe(channel, self._session, counted=False)
        side.attach(Answers(pipe))
        channel.open_gate()
        try:
            yield Questions(pipe)
        finally:
            channel.close()
