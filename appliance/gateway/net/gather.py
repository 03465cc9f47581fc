# SPDX-License-Identifier: Apache-2.0
"""``Gather``: while bytes of a connection come at speed, the kernel wakes us for many of them at once (socket(7), SO_RCVLOWAT).

A server that writes 8 KiB at a time and a reader that is quicker than it meet at every 8 KiB: most of the reader's time is being woken.
Nothing is held back for longer than a look of ``LOOK`` seconds: once less than ``AT_ONCE`` came between two looks the kernel is told to
wake us for every byte again, which it does at once if there are any. docs/decisions/0039.
"""

from __future__ import annotations

import asyncio

from gateway.net.stream import ByteStream

AT_ONCE = 128 * 1024
"""Bytes to be woken for."""
SOME, QUICK = 1024 * 1024, 0.010
"""So many bytes within so many seconds are at speed: 100 MB/s."""
LOOK = 0.001


class Gather:
    """Of one stream, for as long as it carries one thing."""

    __slots__ = ("_began", "_looking", "_loop", "_size", "_stream")

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._size = 0                  # since then, or since the last look
        self._looking: asyncio.TimerHandle | None = None

    def came(self, size: int) -> None:
        """So many bytes were read."""
        self._size += size
        if self._looking is None and self._size >= SOME:
            now = self._loop.time()
            quick, self._size, self._began = now - self._began <= QUICK, 0, now
            if quick and self._stream.wake_at(AT_ONCE):
                self._looking = self._loop.call_later(LOOK, self._look)

    def _look(self) -> None:
        if self._size < AT_ONCE:
            self.stop()
        else:
            self._size = 0
            self._looking = self._loop.call_later(LOOK, self._look)

    def stop(self) -> None:
        """Every byte counts again."""
        if self._looking is not None:
            self._looking.cancel()
            self._looking, self._size, self._began = None, 0, self._loop.time()
            self._stream.wake_at(1)
