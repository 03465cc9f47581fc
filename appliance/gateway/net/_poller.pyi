# SPDX-License-Identifier: Apache-2.0
import asyncio
import socket
from collections.abc import Callable
from typing import Any

from gateway.net.stream import ByteStream

class Poller:
    def __init__(self, failed: Callable[[BaseException], None]) -> None: ...
    def __len__(self) -> int: ...
    def ready(self) -> None: ...

class SocketTransport(asyncio.Transport):
    tap: Callable[[bytes], bool] | None
    def __init__(self, poller: Poller, sock: socket.socket, protocol: ByteStream, peer: Any) -> None: ...
