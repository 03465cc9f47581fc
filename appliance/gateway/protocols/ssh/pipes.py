# SPDX-License-Identifier: Apache-2.0
"""A channel as bytes to be read and written, for what has to be understood message by message: SFTP and scp."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from asyncssh.channel import SSHChannel
from asyncssh.constants import EXTENDED_DATA_STDERR

from gateway.protocols.ssh.relay import Exit, Masked

if TYPE_CHECKING:
    from gateway.masking.stream import StreamMasker
    from gateway.protocols.ssh.session import SshSession

HIGH = 256 * 2**10
"""Bytes not yet read at which a channel is paused."""
LAST_WAIT = 5.0
"""Seconds that a program has to exit once it has said all."""


class ChannelPipe:
    """One end. ``counted``: what is written counts as sent to the caller."""

    def __init__(self, channel: SSHChannel[bytes], session: SshSession, *, counted: bool) -> None:
        self._channel, self._session, self._counted = channel, session, counted
        self._chunks: list[bytes] = []
        self._size = 0
        self._ended = self._full = self._paused = False
        self._reader: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None

    # reading

    async def read(self) -> bytes:
        """What has come, at least a byte; ``b""`` at the end."""
        while not self._chunks:
            if self._ended:
                return b""
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks, self._size = [], 0
        if self._paused:
            self._paused = False
            self._channel.resume_reading()
        return data

    def feed(self, data: bytes) -> None:
        self._session.touch()
        self._chunks.append(data)
        self._size += len(data)
        if self._size > HIGH and not self._paused:
            self._paused = True
            self._channel.pause_reading()
        _wake(self._reader)

    def feed_eof(self) -> None:
        self._ended = True
        _wake(self._reader)

    # writing

    def write(self, data: bytes, *, stderr: bool = False) -> None:
        """A channel that is closed takes them silently."""
        if self._channel.is_closing():
            return
        if self._counted:
            data = data[:self._session.deliver(len(data))]
        self._channel.write(data, EXTENDED_DATA_STDERR if stderr else None)

    async def drain(self) -> None:
        """Until the other side has taken enough. Raises ``ConnectionResetError`` when it is gone."""
        while self._full and not self._ended:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained
        if self._full:
            raise ConnectionResetError("the channel is closed")

    def full(self, on: bool) -> None:
        self._full = on
        if not on:
            _wake(self._drained)

    def write_eof(self) -> None:
        if not self._channel.is_closing():
            self._channel.write_eof()

    def lost(self) -> None:
        """The channel is gone."""
        self._ended = True
        _wake(self._reader)
        _wake(self._drained)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


class Pipes:
    """Both ends of a channel whose protocol is spoken by the gateway itself: a ``relay.Sink``."""

    def __init__(self, caller: ChannelPipe, target: ChannelPipe, masker: StreamMasker | None) -> None:
        self.caller, self.target = caller, target
        self.exit = Exit()
        self._exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stderr = Masked(masker, lambda data: caller.write(data, stderr=True), lambda problem: self._stderr.drop())

    async def over(self) -> Exit:
        """How the target's program ended, once it has, or a while after it said all."""
        await asyncio.wait([self._exited], timeout=LAST_WAIT)
        self._stderr.end()
        return self.exit

    def from_target(self, data: bytes, stderr: bool) -> None:
        """stderr is not part of the protocol: it is masked as any output."""
        if stderr:
            self._stderr.feed(data)
        else:
            self.target.feed(data)

    def target_eof(self) -> None:
        self.target.feed_eof()

    def exited(self, status: int | None, signal: tuple[str, bool, str, str] | None) -> None:
        self.exit.status, self.exit.signal = status, signal
        _wake(self._exited)

    def flow_control(self, client_can_do: bool) -> None:
        """There is no terminal."""

    def target_full(self, full: bool) -> None:
        self.target.full(full)

    def target_gone(self, exc: Exception | None) -> None:
        self.target.lost()
        _wake(self._exited)

    def from_caller(self, data: bytes) -> None:
        self.caller.feed(data)

    def caller_eof(self) -> None:
        self.caller.feed_eof()

    def caller_full(self, full: bool) -> None:
        self.caller.full(full)


class Answers(Pipes):
    """A channel that only the gateway speaks on. What the target says on stderr is nobody's."""

    def __init__(self, target: ChannelPipe) -> None:
        super().__init__(target, target, None)

    def from_target(self, data: bytes, stderr: bool) -> None:
        if not stderr:
            self.target.feed(data)
