# SPDX-License-Identifier: Apache-2.0
"""``ByteStream``: a connection as bytes in and bytes out, bounded both ways, on asyncio or uvloop, in clear or in TLS.

One reader and one writer at a time. Reading pauses above ``READ_HIGH`` buffered bytes, so that a peer that sends faster than
it is read fills its own socket, not our memory; ``drain()`` waits while the transport holds more than ``WRITE_HIGH`` bytes.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from gateway.errors import ClientFault, TargetFault
from gateway.net.flag import Flag
from gateway.net.poller import taken_over
from gateway.net.tlslayer import TlsLayer

if TYPE_CHECKING:
    from gateway.net._poller import SocketTransport

READ_HIGH = 256 * 1024
WRITE_HIGH = 256 * 1024
_CLOSE, _CLOSE_WAIT = 7, 8  # tcpi_state of linux/tcp.h: the peer has reset the connection, or has sent its FIN


class ByteStream(asyncio.Protocol):
    """Bytes to and from one peer.

    ``gone`` is set at EOF or when the connection is lost, also while nobody reads. While reading is paused the kernel keeps the
    EOF from us: ``has_gone()`` asks it. ``when_gone`` is called once it is seen. ``fault`` is raised where the peer breaks the rules of
    this layer.
    """

    def __init__(self, fault: type[ClientFault] | type[TargetFault] = ClientFault) -> None:
        self.gone = Flag()
        self.tls = False
        self.peer = ""
        self._tap: Callable[[bytes], bool] | None = None
        self.when_gone: Callable[[], None] | None = None
        self._fault = fault
        self._transport: asyncio.Transport | None = None
        self._settled: SocketTransport | None = None         # the same, where it is ours
        self._chunks: list[bytes] = []
        self._size = 0
        self._read_high, self._write_high = READ_HIGH, WRITE_HIGH
        self._eof = False
        self._lost = False
        self._reading_paused = False
        self.congested = False                               # ``drain()`` would wait
        self._layer: TlsLayer | None = None                  # from the end of the TLS handshake on
        self._owed = 0                                       # bytes that TLS answered by itself since the peer does not read
        self._reader: asyncio.Future[None] | None = None
        self._drainers: list[asyncio.Future[None]] = []
        self._closed = Flag()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._write_high)
        self.peer = peer_name(transport)

    def data_received(self, data: bytes) -> None:
        if self._layer is None:
            self.given(data)
        else:
            self._opened(self._layer, data)

    def given(self, data: bytes) -> None:
        """Bytes in clear, as if they had just come: the tap is asked first."""
        if self._tap is None or not self._tap(data):
            self.received(data)

    def _opened(self, layer: TlsLayer, data: bytes) -> None:
        over, broken = False, False
        try:
            data, over = layer.opened(data)
        except ssl.SSLError:
            data, broken = b"", True
        if due := layer.due():
            self._send(due)
            broken = broken or self._asks_and_does_not_read(len(due))
        if data:
            self.given(data)
        if broken:
            self.abort()
        elif over:
            self._end_of_input()
            self.close()

    def _asks_and_does_not_read(self, size: int) -> bool:
        """Whether TLS itself (keys asked for anew) has made the peer owed more than may be queued for it."""
        self._owed = self._owed + size if self.congested else 0
        return self._owed > self._write_high

    def received(self, data: bytes) -> None:
        """Bytes that the tap did not take."""
        self._chunks.append(data)
        self._size += len(data)
        if self._size > self._read_high and not self._reading_paused:
            self._pause()
        self._wake_reader()

    def eof_received(self) -> bool:
        self._end_of_input()
        return not self.tls

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost, self.congested = True, False
        self._end_of_input()
        for waiter in self._drainers:
            if not waiter.done():
                waiter.set_result(None)
        self._drainers.clear()
        self._closed.set()

    def pause_writing(self) -> None:
        self.congested = not self._lost

    def resume_writing(self) -> None:
        self.congested = False
        for waiter in self._drainers:
            if not waiter.done():
                waiter.set_result(None)
        self._drainers.clear()

    def hand_over(self, protocol: asyncio.Protocol) -> None:
        """Another protocol takes the connection from here on, with what has been received. It owes this stream its ``connection_lost``."""
        if self._settled is not None or self._layer is not None:
            raise RuntimeError("a stream that is settled or in TLS is not handed over")
        transport = self._transport
        if transport is None or self._lost:
            raise ConnectionResetError("the connection is lost")
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if data := self.read_nowait():
            protocol.data_received(data)
        if self._eof:
            protocol.eof_received()

    def bound(self, high: int) -> None:
        """Keep at most about ``high`` bytes each way before a side is paused (``READ_HIGH`` and ``WRITE_HIGH`` unless said)."""
        self._read_high = self._write_high = high
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high=high)

    @property
    def tap(self) -> Callable[[bytes], bool] | None:
        """Is shown every chunk first; True: it took it."""
        return self._tap

    @tap.setter
    def tap(self, tap: Callable[[bytes], bool] | None) -> None:
        self._tap = tap
        if self._settled is not None and self._layer is None:
            self._settled.tap = tap

    @property
    def writer(self) -> Callable[[bytes], None]:
        """What takes the bytes of ``write``, for who writes often."""
        return self.write if self._settled is None or self._layer is not None else self._settled.write

    def settle(self) -> None:
        """No TLS that is not there yet and no other protocol will come: the connection goes on to a transport of ours (``poller``), where
        it can."""
        if self._transport is None or self._settled is not None or self._eof or self._lost:
            return
        taken = taken_over(self._transport, self)
        if taken is not None:
            self._transport = self._settled = taken
            self.tap = self._tap
            taken.set_write_buffer_limits(high=self._write_high)
            if not self._reading_paused:
                taken.resume_reading()

    # reading

    @property
    def buffered(self) -> int:
        """Bytes received and not yet read."""
        return self._size

    @property
    def ended(self) -> bool:
        """The peer sends no more; what is buffered can still be read."""
        return self._eof

    async def read(self) -> bytes:
        """All buffered bytes, at least one; ``b""`` at EOF."""
        while not self._size:
            if self._eof:
                return b""
            await self._more()
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        self._size = 0
        if self._reading_paused:
            self._resume()
        return data

    def read_nowait(self) -> bytes:
        """What is buffered now, possibly nothing."""
        data = b"".join(self._chunks)
        self._chunks = []
        self._size = 0
        if self._reading_paused:
            self._resume()
        return data

    async def read_exactly(self, count: int) -> bytes:
        """``count`` bytes (at most ``READ_HIGH``); what came after them stays buffered. Raises the stream's fault at EOF."""
        if count > READ_HIGH:
            raise ValueError("read_exactly is for small reads")
        while self._size < count:
            if self._eof:
                raise self._fault("the connection ended in the middle of a message", "08006")
            await self._more()
        data = self.read_nowait()
        self.unread(data[count:])
        return data[:count]

    def unread(self, data: bytes) -> None:
        """Give back bytes that were read too far."""
        if data:
            self._chunks.insert(0, data)
            self._size += len(data)

    async def _more(self) -> None:
        if self._reader is not None:
            raise RuntimeError("two readers on one stream")
        self._reader = asyncio.get_running_loop().create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    def _wake_reader(self) -> None:
        waiter = self._reader
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _end_of_input(self) -> None:
        self._eof = True
        self.gone.set()
        self._wake_reader()
        if self.when_gone is not None:
            self.when_gone()

    def _pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._reading_paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        self._reading_paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def wake_at(self, size: int) -> bool:
        """Have the kernel tell of input once so many bytes are there (1: of any), or the end of it. Whether it will."""
        sock = self._transport.get_extra_info("socket") if self._transport is not None and not self._lost else None
        if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
            return False
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
        except OSError:
            return False
        return True

    def has_gone(self) -> bool:
        """Whether the peer has gone, as far as can be seen now, behind unread bytes too."""
        if not self.gone.is_set() and self._reading_paused and self._half_closed():
            self.gone.set()
        return self.gone.is_set()

    def _half_closed(self) -> bool:
        sock = self._transport.get_extra_info("socket") if self._transport else None
        if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6) or not hasattr(socket, "TCP_INFO"):
            return False
        try:
            state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        except OSError:
            return True
        return bool(state) and state[0] in (_CLOSE, _CLOSE_WAIT)

    # writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queue bytes. A lost connection takes them silently; ``drain()`` and ``gone`` tell."""
        if self._layer is not None:
            if not data:
                return
            try:
                data = self._layer.sealed(data)
            except ssl.SSLError:
                self.abort()
                return
        self._send(data)

    def _send(self, data: bytes | bytearray | memoryview) -> None:
        if self._transport is not None and not self._lost:
            self._transport.write(data)

    def write_eof(self) -> None:
        if self._transport is not None and not self._lost and not self.tls:
            self._transport.write_eof()

    async def drain(self) -> None:
        """Wait until the peer has taken enough. Raises ``ConnectionResetError`` when the connection is lost."""
        if self._lost:
            raise ConnectionResetError("the connection is lost")
        if not self.congested:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._drainers.append(waiter)
        await waiter
        if self._lost:
            raise ConnectionResetError("the connection is lost")

    def close(self) -> None:
        """Send what is queued, then close."""
        if self._transport is not None and not self._transport.is_closing():
            if self._layer is not None:
                self._send(self._layer.farewell())
            self._transport.close()

    def abort(self) -> None:
        """Close at once; what is queued is dropped."""
        if self._transport is not None and not self._lost:
            self._transport.abort()

    async def closed(self) -> None:
        """Wait until the connection is fully closed (after ``close`` or ``abort``)."""
        if self._transport is not None:
            await self._closed.wait()

    # TLS

    async def start_tls(self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None,
                        announce: bytes = b"", direct: bool = False, timeout: float | None = None) -> None:
        """Continue in TLS. ``announce`` (PostgreSQL's ``S``) is written in clear just before. ``direct`` says that what came so far
        is the beginning of the peer's handshake: it spoke TLS at once.

        Otherwise bytes that came in clear and would be read as if they had come in TLS are refused (CVE-2021-23222). Raises the
        stream's fault when the handshake fails.
        """
        if self._settled is not None or self._layer is not None:
            raise RuntimeError("TLS begins once, and before the stream is settled")
        if self._size and not direct:
            raise self._fault("bytes were sent in clear before the TLS handshake", "08P01")
        if self._transport is None or self._eof or self._lost:
            raise self._fault("the connection ended before the TLS handshake", "08006")
        if announce:
            self._send(announce)
        try:
            layer = TlsLayer(context, server_side=server_side, server_hostname=server_hostname)
            async with asyncio.timeout(timeout):
                await self._handshake(layer)
        except ssl.SSLCertVerificationError as error:
            raise self._fault(f"the TLS certificate is not trusted: {error.verify_message}", "08006") from None
        except (ssl.SSLError, OSError, ValueError) as error:
            raise self._fault(f"the TLS handshake failed ({type(error).__name__})", "08006") from None
        self._layer, self.tls = layer, True
        self._opened(layer, b"")                # what came right behind the handshake

    async def _handshake(self, layer: TlsLayer) -> None:
        over = False
        while not over:
            try:
                over = layer.shake(self.read_nowait())
            finally:
                self._send(layer.due())
            while not over and not self._size:
                if self._eof:
                    raise self._fault("the connection ended in the TLS handshake", "08006")
                await self._more()

    def tls_object(self) -> ssl.SSLObject | None:
        """The TLS session (peer certificate, ALPN), ``None`` in clear."""
        return None if self._layer is None else self._layer.object


def peer_name(transport: asyncio.BaseTransport) -> str:
    """The peer's address: ``IP`` of a TCP connection, ``unix`` of a local one."""
    name = transport.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) and name else "unix"
