# SPDX-License-Identifier: Apache-2.0
"""Two ``ByteStream`` ends joined in memory: conversations without a socket, with the back-pressure of one."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.errors import ClientFault, TargetFault
from gateway.net.stream import ByteStream


class MemoryTransport(asyncio.Transport):
    """One end. What is written arrives at the other end in the loop's next round; while that end does not read it piles up here, and
    the writer is paused above the high-water mark."""

    def __init__(self, protocol: asyncio.Protocol, address: str = "192.0.2.1") -> None:
        super().__init__({"peername": (address, 1)})
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._other: MemoryTransport | None = None
        self._queue: list[bytes] = []
        self._size = 0
        self._high = 65536
        self._reading = True
        self._paused = False
        self._closing = False
        self._lost = False
        self._planned = False

    def join(self, other: MemoryTransport) -> None:
        self._other = other

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing:
            return
        self._queue.append(bytes(data))
        self._size += len(data)
        if self._size > self._high and not self._paused:
            self._paused = True
            self._protocol.pause_writing()
        self._plan()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 65536 if high is None else high

    def get_write_buffer_size(self) -> int:
        return self._size

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        if self._other is not None:
            self._other._plan()

    def close(self) -> None:
        self._closing = True
        self._plan()

    def abort(self) -> None:
        self._queue.clear()
        self._size = 0
        self.close()

    def can_write_eof(self) -> bool:
        return False

    def _plan(self) -> None:
        if not self._planned:
            self._planned = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._planned = False
        other = self._other
        while self._queue and other is not None and other._reading and not other._lost:
            data = self._queue.pop(0)
            self._size -= len(data)
            other._protocol.data_received(data)
        if self._paused and self._size <= self._high // 4:
            self._paused = False
            self._protocol.resume_writing()
        if self._closing and not self._queue and not self._lost:
            self._end()

    def _end(self) -> None:
        self._lost = True
        self._protocol.connection_lost(None)
        if self._other is not None and not self._other._lost:
            self._other._protocol.eof_received()
            self._other.close()


def joined(near: type[ClientFault] | type[TargetFault] = TargetFault, far: type[ClientFault] | type[TargetFault] = ClientFault,
           ) -> tuple[ByteStream, ByteStream]:
    """Both ends of one connection. ``near`` and ``far`` are the faults that each end raises of the other."""
    streams = ByteStream(near), ByteStream(far)
    transports: list[Any] = [MemoryTransport(stream) for stream in streams]
    transports[0].join(transports[1])
    transports[1].join(transports[0])
    for stream, transport in zip(streams, transports, strict=True):
        stream.connection_made(transport)
    return streams
