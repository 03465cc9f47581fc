# SPDX-License-Identifier: Apache-2.0
"""The console of one gateway: application, archive and socket, from its listener's settings."""

from __future__ import annotations

import ssl
from typing import Protocol

from gateway.config.load import Folder
from gateway.config.schema import Listener
from gateway.console.app import make_app
from gateway.console.gateway import ConsoleGateway
from gateway.console.limits import ConsoleLimits
from gateway.console.listener import ConsoleListener
from gateway.errors import ConfigError
from gateway.net.tls import server_context
from gateway.recording.read import Archive


class ServedGateway(ConsoleGateway, Protocol):
    """``build.Gateway``: with the whole folder, to find certificate, key and state."""

    @property
    def folder(self) -> Folder: ...


class ConsoleServer:
    """Listens from ``start()`` to ``stop()``. Raises ``ConfigError`` where address or certificate cannot be used."""

    def __init__(self, gateway: ServedGateway, settings: Listener, limits: ConsoleLimits | None = None) -> None:
        bounds = limits or ConsoleLimits(header=gateway.folder.gateway.limits.handshake)
        host, port = settings.place
        app = make_app(gateway, Archive(gateway.folder.state), bounds)
        self._settings = settings
        self._listener = ConsoleListener(app, host, port, _context(gateway.folder, settings), bounds)

    @property
    def address(self) -> tuple[str, int]:
        """Where it really listens."""
        return self._settings.place[0], self._listener.port

    async def start(self) -> None:
        try:
            await self._listener.start()
        except OSError as fault:
            await self._listener.close()
            raise ConfigError(
                f"gateway.yaml: listeners.console.address: cannot listen on {self._settings.address}: {fault.strerror}") from None

    async def stop(self) -> None:
        await self._listener.close()


def _context(folder: Folder, settings: Listener) -> ssl.SSLContext | None:
    if settings.tls is None:
        return None
    try:
        return server_context(folder.resolve(settings.tls.certificate), folder.resolve(settings.tls.key), alpn=("http/1.1",))
    except OSError as fault:
        raise ConfigError(
            f"gateway.yaml: listeners.console.tls: {type(fault).__name__}: expected a certificate and its key in PEM") from None
