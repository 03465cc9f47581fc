# SPDX-License-Identifier: Apache-2.0
"""What serves a protocol's listener: ``protocols/NAME/listener.py`` gives it as ``listener(gateway, settings)``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from gateway.config.load import Folder
from gateway.config.schema import Listener
from gateway.net.stream import ByteStream

if TYPE_CHECKING:
    from gateway.datapath import DataPath


class ProtocolListener(Protocol):
    """One listener's callers, from their first byte to their last."""

    async def handle(self, stream: ByteStream) -> None:
        """Serve one connection."""

    async def warm(self) -> None:
        """What is better known before the first caller needs it; ends once it is."""

    async def tend(self) -> None:
        """What has to be looked after while the gateway runs; cancelled when it stops."""

    def prepare(self, folder: Folder) -> Any:
        """What another folder would change, ready to be put in force. Raises ``ConfigError``."""

    async def reloaded(self, prepared: Any) -> None:
        """The policy changed: ``prepared`` is for who comes from now on."""

    async def close(self) -> None:
        """No session is left: let go of what they shared."""


def listener(name: str, gateway: DataPath, settings: Listener) -> ProtocolListener:
    """The listener of that name in gateway.yaml. Raises ``ConfigError``."""
    made: ProtocolListener = import_module(f"gateway.protocols.{name}.listener").listener(gateway, settings)
    return made
