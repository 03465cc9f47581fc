# SPDX-License-Identifier: Apache-2.0
"""The console's socket: aiohttp's connections, watched, because aiohttp waits for a request head without end.

A watched connection is aborted when no whole request head comes within ``header`` seconds, when its peer does not read for
``stall`` seconds, or at once when there are too many (T66).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import cast

from aiohttp import web

from gateway.console.limits import Connections, ConsoleLimits
from gateway.net.source import source_of

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_QUIET = logging.getLogger("gateway.console.quiet")
_QUIET.disabled = True
"""aiohttp logs requests it cannot parse with their bytes, which may be a token's."""

KEEP_ALIVE = 15.0
"""Seconds a connection is kept after an answer."""


class Watched(asyncio.Protocol):
    """One connection: passes everything on to aiohttp's handler, and watches the clock."""

    def __init__(self, inner: web.RequestHandler, listener: ConsoleListener) -> None:
        self._inner = inner
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._source: str | None = None
        self._head: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        source = source_of(peer[0] if peer else None)
        if not self._listener.connections.enter(source):
            self._transport.abort()
            return
        self._source = source
        self._inner.connection_made(self._transport)
        self._listener.watched[self._inner] = self
        self.expect_head(self._listener.limits.header)

    def connection_lost(self, exc: Exception | None) -> None:
        self.head_is_there()
        self.resume_clock()
        if self._source is not None:
            self._listener.connections.leave(self._source)
            self._listener.watched.pop(self._inner, None)
            self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._source is not None:
            self._inner.data_received(data)

    def eof_received(self) -> None:
        if self._source is not None:
            self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()
        self._stall = asyncio.get_running_loop().call_later(self._listener.limits.stall, self._abort)

    def resume_writing(self) -> None:
        self.resume_clock()
        self._inner.resume_writing()

    def resume_clock(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def expect_head(self, seconds: float) -> None:
        """From now on a whole request head has so many seconds to come."""
        self.head_is_there()
        self._head = asyncio.get_running_loop().call_later(seconds, self._abort)

    def head_is_there(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class ConsoleListener:
    """Serves one application on one address. ``async with`` starts and stops it; ``port`` tells which was taken for 0."""

    def __init__(self, app: web.Application, host: str, port: int, context: ssl.SSLContext | None, limits: ConsoleLimits) -> None:
        self.limits = limits
        self.connections = Connections(limits)
        self.watched: dict[object, Watched] = {}
        self._place = (host, port)
        self._context = context
        app.middlewares.insert(0, self._middleware)
        self._runner = web.AppRunner(app, access_log=None, logger=_QUIET, keepalive_timeout=KEEP_ALIVE, handle_signals=False,
                                     shutdown_timeout=5.0, max_line_size=8190, max_field_size=32768, lingering_time=2.0)
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port listened on. Raises ``RuntimeError`` before ``start``."""
        if self._server is None:
            raise RuntimeError("the console is not listening")
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Raises ``OSError`` where the address cannot be had."""
        await self._runner.setup()
        secure = self._context is not None
        self._server = await asyncio.get_running_loop().create_server(
            self._accept, self._place[0], self._place[1], ssl=self._context,
            ssl_handshake_timeout=self.limits.header if secure else None, ssl_shutdown_timeout=2.0 if secure else None)

    async def close(self) -> None:
        """Stop listening, let what runs finish (5 seconds), close."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()

    async def __aenter__(self) -> ConsoleListener:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _accept(self) -> asyncio.Protocol:
        server = self._runner.server
        if server is None:
            raise RuntimeError("the console is not set up")
        return Watched(server(), self)

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        watched = self.watched.get(request.protocol)
        if watched is not None:
            watched.head_is_there()
        try:
            return await handler(request)
        finally:
            if watched is not None:
                watched.expect_head(KEEP_ALIVE + self.limits.header)
