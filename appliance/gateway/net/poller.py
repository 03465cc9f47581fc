# SPDX-License-Identifier: Apache-2.0
"""Connections that are read and written by ``_poller.pyx`` in place of the event loop's transports.

uvloop takes and gives back the interpreter's lock for each socket that has something, and keeps two handles for it; here the loop is called
once for all that are ready (epoll(7), level-triggered), and a write is one ``send``. Where nothing is compiled the loop's own transports
stay: to the protocol both are the same. docs/decisions/0041.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from gateway.errors import place_of
from gateway.native import compiled

if TYPE_CHECKING:
    from gateway.net._poller import SocketTransport
    from gateway.net.stream import ByteStream

log = logging.getLogger("gateway.net")
_native = compiled("gateway.net._poller")
_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()


def taken_over(transport: asyncio.Transport, protocol: ByteStream) -> SocketTransport | None:
    """The connection of ``transport`` on a transport of ours, not reading yet; the other one is closed without a word to ``protocol``.

    ``None``, and nothing has changed, where that cannot be: no socket, bytes that wait to be written, no descriptor left, nothing compiled.
    """
    sock = transport.get_extra_info("socket")
    if _native is None or sock is None or transport.is_closing() or transport.get_write_buffer_size():
        return None
    peer = transport.get_extra_info("peername")
    try:
        own = socket.socket(sock.family, sock.type, sock.proto, fileno=os.dup(sock.fileno()))
    except OSError:
        return None
    made: SocketTransport = _native.SocketTransport(_poller(), own, protocol, peer)
    if transport.is_reading():
        transport.pause_reading()
    transport.set_protocol(asyncio.Protocol())
    transport.abort()
    return made


def _poller() -> Any:
    loop = asyncio.get_running_loop()
    found = _pollers.get(loop)
    if found is None:
        found = _pollers[loop] = _native.Poller(_failed)  # type: ignore[union-attr]
    return found


def _failed(error: BaseException) -> None:
    """A protocol raised. Its kind and place, never its message: it could hold a value."""
    log.error("connection failed: %s at %s", type(error).__name__, place_of(error))
