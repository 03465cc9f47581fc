# SPDX-License-Identifier: Apache-2.0
"""Forwarded connections: local and remote ports, UNIX sockets, and what the target opens for agent and X11. Each is decided by where it
leads, and looked at again while it lasts. Its bytes are counted; they are another protocol's, so nothing in them is masked.

Denied: "administratively prohibited" (RFC 4254, section 5.1). One that has to be approved is opened once it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import asyncssh
from asyncssh.constants import OPEN_CONNECT_FAILED
from asyncssh.listener import SSHListener

from gateway.errors import AuditUnavailable, Fault, Refused, SessionOver, TargetFault
from gateway.protocols.ssh.connection import Flow, prohibited
from gateway.protocols.ssh.desk import Running
from gateway.protocols.ssh.ending import verdict
from gateway.protocols.ssh.hosts import PORT
from gateway.protocols.ssh.relay import Brakes
from gateway.protocols.ssh.towards import MISMATCH
from gateway.protocols.ssh.understand import Understood, forward_request
from gateway.protocols.ssh.upstream import Upstream

if TYPE_CHECKING:
    from gateway.protocols.ssh.session import SshSession

LISTENERS = 16
"""Places at the target that one session listens on."""
Connect = Callable[[Callable[[], "Side"]], Awaitable[Any]]


class Side(asyncssh.SSHTCPSession[bytes], asyncssh.SSHUNIXSession[bytes]):
    """One end of a forward. ``waits``: it is not read until the other end is there."""

    def __init__(self, forward: Joined, *, waits: bool) -> None:
        self._forward, self._waits = forward, waits
        self.channel: Flow | None = None
        self.brakes: Brakes | None = None
        self.said_all = False
        self.other: Side

    def connection_made(self, chan: Any) -> None:
        self.channel, self.brakes = chan, Brakes(chan)
        chan.set_write_buffer_limits(high=self._forward.high)
        if self._forward.over:
            asyncio.get_running_loop().call_soon(chan.close)
        elif self._waits:
            chan.pause_reading()
        elif self.other.channel is not None:
            self.other.channel.resume_reading()
        if self.other.said_all and not self._forward.over:
            asyncio.get_running_loop().call_soon(chan.write_eof)

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self._forward.passed(self, data)

    def eof_received(self) -> bool:
        self.said_all = True
        other = self.other.channel
        if other is not None and not other.is_closing():
            other.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.other.brakes is not None:
            self.other.brakes.set("full", True)

    def resume_writing(self) -> None:
        if self.other.brakes is not None:
            self.other.brakes.set("full", False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forward.end("ok")


class Joined:
    """Two channels, one connection. ``ended`` is called once."""

    busy = False

    def __init__(self, session: SshSession, running: Running, ended: Callable[[Joined], None]) -> None:
        self._session, self._running, self._ended = session, running, ended
        self.high = session.gate.folder.gateway.limits.buffer
        self.caller, self.target = Side(self, waits=False), Side(self, waits=True)
        self.caller.other, self.target.other = self.target, self.caller
        self.sent = self.received = 0
        self.over = False
        session.channels.add(self)

    def passed(self, side: Side, data: bytes) -> None:
        other = side.other.channel
        if self.over or other is None or other.is_closing():
            return
        try:
            self._running.still()
        except (Refused, SessionOver) as no:
            self.end("refused" if isinstance(no, Refused) else "cancelled", verdict(no).error)
            return
        if side is self.target:
            data = data[:self._session.deliver(len(data))]
            self.sent += len(data)
        else:
            self._session.touch()
            self.received += len(data)
        other.write(data)

    def end(self, status: str, error: str = "") -> None:
        """Both ends, and the record, once."""
        if self.over:
            return
        self.over = True
        self.status, self.error = status, error
        for side in (self.caller, self.target):
            if side.channel is not None:
                side.channel.close()
        self._session.channels.discard(self)
        self._ended(self)
        self._session.rested()

    def end_target(self) -> None:
        """The target's end came after the end."""
        if self.target.channel is not None:
            self.target.channel.close()

    def conclude(self, line: str) -> None:
        self.end("cancelled", "session over")

    def tell(self, line: str) -> None:
        """A forward shows nothing."""


class RemoteListener(SSHListener):
    """What a caller listens on at the target (``ssh -R``): its end is the end of the operation."""

    def __init__(self, forwards: Forwards, session: SshSession, running: Running, upstream: Upstream) -> None:
        super().__init__()
        self._forwards, self._session, self._running, self._upstream = forwards, session, running, upstream
        self.inner: SSHListener | None = None
        self.over = False
        running.stop = lambda no: self.end("refused", "denied")

    def get_port(self) -> int:
        return self.inner.get_port() if self.inner is not None else 0

    def close(self) -> None:
        self.end("ok")

    def end(self, status: str, error: str = "") -> None:
        """The target is told, once it listens; the record, once."""
        if self.inner is not None:
            self.inner.close()
            self.inner = None
        if self.over:
            return
        self.over = True
        self._forwards.listeners -= 1
        self._upstream.give_back()
        self._running.finish(status, error=error)
        self._session.rested()


class Forwards:
    """The forwards of one session."""

    def __init__(self, session: SshSession) -> None:
        self._session = session
        self.listeners = 0

    # --- to the target and on

    def tcp(self, host: str, port: int, origin: tuple[str, int]) -> tuple[Flow, Coroutine[Any, Any, Side]]:
        """``direct-tcpip``: ``-L``, ``-D``, ``-W``, and the jump of ``-J``."""
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return self._session.caller.create_tcp_channel(), self._local(
            forward_request("forward-local", where, (PORT, self._session.resource.place[1])), where, origin)

    def unix(self, path: str) -> tuple[Flow, Coroutine[Any, Any, Side]]:
        """``direct-streamlocal@openssh.com``."""
        where = f"unix:{path}"
        return self._session.caller.create_unix_channel(), self._local(forward_request("forward-socket", where), where, ("", 0))

    async def _local(self, understood: Understood, where: str, origin: tuple[str, int]) -> Side:
        nested = " (nested: SSH inside of SSH is not seen)" if understood.operations[0].attributes.get("nested") else ""
        running = await self._decided(understood, f"{where}{nested}")
        upstream = await self._way(running)

        def ended(joined: Joined) -> None:
            upstream.give_back()
            running.finish(joined.status, bytes=joined.sent, error=joined.error, received=joined.received)

        joined = Joined(self._session, running, ended)
        running.stop = lambda no: joined.end("refused", "denied")
        try:
            running.still()
            await self._session.while_open(self._connected(joined, upstream, str(understood.operations[0].attributes["to"]), origin))
        except asyncssh.ChannelOpenError as refused:
            joined.end("error", "the target refused it")
            raise asyncssh.ChannelOpenError(refused.code, f"the target: {refused.reason[:200]}") from None
        except Fault as fault:
            joined.end("refused" if isinstance(fault, Refused) else "cancelled", verdict(fault).error)
        if joined.over and joined.status != "ok":
            joined.end_target()
            raise prohibited("lockgate: it may not be opened any more")
        return joined.caller                                     # which is closed at once where the target closed its end already

    async def _connected(self, joined: Joined, upstream: Upstream, to: str, origin: tuple[str, int]) -> None:
        connection = upstream.connection
        if to.startswith("unix:"):
            await connection.create_unix_channel().connect(lambda: joined.target, to.removeprefix("unix:"))
        else:
            host, _, port = to.rpartition(":")
            await connection.create_tcp_channel().connect(lambda: joined.target, host.strip("[]"), int(port), *origin)

    async def _way(self, running: Running, *, own: bool = False) -> Upstream:
        """A connection to the target. Raises ``ChannelOpenError``."""
        try:
            return await self._session.while_open(self._session.upstream(own=own))
        except Fault as fault:
            said = verdict(fault)
            running.finish(said.record, error=said.error)
            if isinstance(fault, TargetFault) and fault.code == MISMATCH:
                self._session.mistrusted(fault)
            raise asyncssh.ChannelOpenError(OPEN_CONNECT_FAILED, f"lockgate: {said.line}") from None

    async def _decided(self, understood: Understood, where: str) -> Running:
        """Raises ``ChannelOpenError``."""
        desk = self._session.desk(lambda line: self._session.tell_all(line))
        try:
            if understood.refusal:
                await desk.refuse(understood.operations, f"forward {where}", understood.refusal)
            return await desk.run(understood.operations, f"forward {where}")
        except (Refused, AuditUnavailable) as no:
            raise prohibited(f"lockgate: {verdict(no).line}") from None
        except SessionOver as over:
            self._session.outlived(over)
            raise prohibited(f"lockgate: session ended: {over}") from None

    def tunnel(self) -> tuple[Any, Coroutine[Any, Any, Any]]:
        """``tun@openssh.com``: no rule speaks of it, so it is refused and recorded."""
        async def refused() -> Any:
            await self._decided(Understood((forward_request("forward-socket", "").operations[0],),
                                           refusal="network tunnels (ssh -w) are not served"), "tun")
        return self._session.caller.create_tuntap_channel(), refused()

    # --- from the target

    async def listen(self, host: str, port: int) -> SSHListener | None:
        """``tcpip-forward``: ``-R``. ``None`` where it is refused."""
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

        async def begun(running: Running, upstream: Upstream) -> SSHListener:
            def arrived(orig_host: str, orig_port: int) -> Coroutine[Any, Any, Side]:
                channel = self._session.caller.create_tcp_channel
                actual = port or inner.get_port()
                return self._arrived(running, lambda side: channel().accept(side, host, actual, orig_host, orig_port))

            inner = await upstream.connection.create_server(arrived, host, port, encoding=None)
            return inner

        return await self._listening(forward_request("forward-remote", where), where, begun)

    async def listen_unix(self, path: str) -> SSHListener | None:
        """``streamlocal-forward@openssh.com``."""
        where = f"unix:{path}"

        async def begun(running: Running, upstream: Upstream) -> SSHListener:
            def arrived() -> Coroutine[Any, Any, Side]:
                channel = self._session.caller.create_unix_channel
                return self._arrived(running, lambda side: channel().accept(side, path))

            return await upstream.connection.create_unix_server(arrived, path, encoding=None)

        return await self._listening(forward_request("forward-socket", where), where, begun)

    async def _listening(self, understood: Understood, where: str,
                         begun: Callable[[Running, Upstream], Awaitable[SSHListener]]) -> SSHListener | None:
        if self.listeners >= LISTENERS:
            understood = replace(understood, refusal=f"this session listens on {LISTENERS} places already")
        self.listeners += 1
        try:
            running = await self._decided(understood, f"remote {where}")
            upstream = await self._way(running, own=True)
        except asyncssh.ChannelOpenError as refused:
            self.listeners -= 1
            self._session.tell_all(refused.reason.removeprefix("lockgate: "))
            return None
        made = RemoteListener(self, self._session, running, upstream)
        try:
            running.still()
            made.inner = await self._session.while_open(begun(running, upstream))
        except (Fault, asyncssh.Error, OSError):
            made.end("error", "the target refused it")
        if made.over:
            made.close()
            return None
        return made

    def opened(self, upstream: Upstream, kind: str, origin: tuple[str, int]) -> tuple[Flow, Coroutine[Any, Any, Side]]:
        """A channel that the target opens for the agent or X11: only on the session's own connection, where the caller asked and may."""
        session = self._session
        running = next((one for one in session.running if one.verb == kind), None)
        if running is None:
            raise prohibited(f"{kind} was not asked for")
        if kind == "agent":
            return upstream.connection.create_agent_channel(), self._arrived(
                running, lambda side: session.caller.create_agent_channel().open(side))
        return upstream.connection.create_x11_channel(), self._arrived(
            running, lambda side: session.caller.create_x11_channel().open(side, *origin))

    async def _arrived(self, running: Running, connect: Connect) -> Side:
        """Someone came to what the caller listens on; the caller's end is opened first, and the target's is the answer."""
        try:
            running.still()
            self._session.check()
        except (Refused, SessionOver) as no:
            raise prohibited(f"lockgate: {no}") from None
        joined = Joined(self._session, running, lambda _: None)
        joined.caller, joined.target = Side(joined, waits=True), Side(joined, waits=False)
        joined.caller.other, joined.target.other = joined.target, joined.caller
        try:
            await connect(lambda: joined.caller)
        except asyncssh.ChannelOpenError as refused:
            joined.end("error")
            raise asyncssh.ChannelOpenError(refused.code, "the caller refused it") from None
        if joined.over:
            raise prohibited("lockgate: the session is over")
        return joined.target


