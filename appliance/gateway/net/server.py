# SPDX-License-Identifier: Apache-2.0
"""Listening sockets whose connections' tasks are owned: cancelled and awaited when the server closes."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType

from gateway.errors import ClientFault, Fault, place_of
from gateway.net.stream import ByteStream

log = logging.getLogger("gateway.net")

BACKLOG = 1024
LINGER = 5.0
"""Seconds a peer has to take the last bytes of a connection that ends."""

Handler = Callable[[ByteStream], Awaitable[None]]


class Supervisor:
    """Owns tasks. One that fails is logged (its kind, never its message: it could hold a value) and ends alone."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Awaitable[None], name: str = "") -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(_guarded(work), name=name or None)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def drain(self, timeout: float) -> None:
        """Wait up to ``timeout`` seconds for the tasks to end by themselves."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=timeout)

    async def close(self) -> None:
        """Cancel what still runs and wait until it has ended."""
        while self._tasks:
            running = set(self._tasks)
            for task in running:
                task.cancel()
            await asyncio.wait(running)

    async def __aenter__(self) -> Supervisor:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()


async def _guarded(work: Awaitable[None]) -> None:
    try:
        await work
    except Fault as fault:
        log.info("connection ended: %s", fault)
    except OSError as error:
        log.info("connection ended: %s", type(error).__name__)
    except Exception as error:
        log.error("connection failed: %s at %s", type(error).__name__, place_of(error))


class Server:
    """Listening sockets and the tasks of their connections."""

    def __init__(self, servers: Sequence[asyncio.Server], supervisor: Supervisor) -> None:
        self._servers = servers
        self._supervisor = supervisor

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """(host, port) of every socket; tells the port when 0 was asked for."""
        return [sock.getsockname()[:2] for server in self._servers for sock in server.sockets]

    @property
    def connections(self) -> int:
        return len(self._supervisor)

    def stop_accepting(self) -> None:
        for server in self._servers:
            server.close()

    async def drained(self, timeout: float) -> None:
        """Stop accepting and wait up to ``timeout`` seconds for the connections to end by themselves."""
        self.stop_accepting()
        await self._supervisor.drain(timeout)

    async def close(self, drain: float = 0.0) -> None:
        """Stop accepting, give connections ``drain`` seconds, then cancel and await the rest."""
        self.stop_accepting()
        if drain > 0:
            await self._supervisor.drain(drain)
        await self._supervisor.close()


async def serve(handler: Handler, host: str, port: int, sockets: Sequence[socket.socket] = ()) -> Server:
    """Listen and run ``handler(stream)`` for each connection in a task of its own. The stream is aborted when it returns.

    ``sockets``, where there are any, are bound already: it listens on those.
    """
    supervisor = Supervisor()

    async def connection(stream: ByteStream) -> None:
        try:
            await handler(stream)
            stream.close()
            async with asyncio.timeout(LINGER):
                await stream.closed()
        except TimeoutError:
            stream.abort()
        except BaseException:
            stream.abort()
            raise

    class Accepted(ByteStream):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            supervisor.start(connection(self), name=f"connection {self.peer}")

    loop = asyncio.get_running_loop()
    if not sockets:
        return Server([await loop.create_server(lambda: Accepted(ClientFault), host, port, backlog=BACKLOG)], supervisor)
    return Server([await loop.create_server(lambda: Accepted(ClientFault), sock=sock, backlog=BACKLOG) for sock in sockets], supervisor)


def bound(host: str, port: int, count: int, *, shared: bool = False) -> list[list[socket.socket]]:
    """``count`` times the sockets of one address, bound and shared out by the kernel (SO_REUSEPORT); port 0 takes a free one.

    ``shared``: others of ours have it already. Raises ``OSError`` where somebody else has the address.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    made: list[list[socket.socket]] = [[] for _ in range(count)]
    try:
        for family, kind, protocol, _, place in dict.fromkeys(found):
            if not shared:                                      # nobody but us may have it
                with _socket(family, kind, protocol) as alone:
                    alone.bind((place[0], port, *place[2:]))
                    port = alone.getsockname()[1]
            for sockets in made:
                sockets.append(one := _socket(family, kind, protocol))
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                one.bind((place[0], port, *place[2:]))
    except BaseException:
        for sockets in made:
            for one in sockets:
                one.close()
        raise
    return made


def _socket(family: int, kind: int, protocol: int) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return made


def parse_address(address: str) -> tuple[str, int]:
    """``host:port`` or ``[v6]:port``. Raises ``ValueError``."""
    host, separator, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"not an address: {address!r} (expected host:port)")
    return host, int(port)
