# SPDX-License-Identifier: Apache-2.0
"""asyncssh's connections and channels, bounded: what this module changes of them is what a gateway between strangers needs.

* A channel sends nothing while the socket is full or keys are being exchanged, so what is kept for a slow peer stays small.
* Channels, requests that wait, and windows have limits.
* What the caller sends stays in its window until a channel's gate is opened: nothing is read ahead of the decision.
* A connection that is closed still sends what was said last.

The names with an underscore are asyncssh's own; its version is pinned.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import asyncssh
from asyncssh.channel import (
    SSHAgentChannel,
    SSHChannel,
    SSHClientChannel,
    SSHServerChannel,
    SSHTCPChannel,
    SSHUNIXChannel,
    SSHX11Channel,
)
from asyncssh.connection import SSHClientConnection, SSHConnection, SSHServerConnection
from asyncssh.constants import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_WINDOW_ADJUST,
    MSG_GLOBAL_REQUEST,
    MSG_IGNORE,
    MSG_KEXINIT,
    OPEN_ADMINISTRATIVELY_PROHIBITED,
    OPEN_RESOURCE_SHORTAGE,
)
from asyncssh.packet import Boolean, Byte, PacketDecodeError, SSHPacket, String, UInt32
from asyncssh.public_key import decode_ssh_certificate

from gateway.net.server import LINGER
from gateway.protocols.ssh.algorithms import GCM, SIGNATURES
from gateway.protocols.ssh.rekeying import Rekeying

CHANNELS = 64
"""Channels of one connection open at once."""
REQUESTS = 64
"""Requests of a channel, or of a connection, that wait for an answer."""
ENVIRONMENT = 64
ENVIRONMENT_BYTES = 32 * 2**10
ATTEMPTS = 3
"""Tokens or certificates shown and refused, after which the connection ends."""
OFFERS = 20
"""Anything else refused: keys offered without a signature, methods that are not there."""
WINDOW = 2**20
PACKET = 32 * 2**10
PIECE = 16 * 2**10
"""Bytes of the wire looked at together."""
_MOST_WINDOW = 2**32 - 1
LEAST_PACKET = 1024
"""Bytes of data in one packet that a peer has to take: with one byte in each, a buffer would keep the loop for seconds."""
PIECES = 256
"""What waits in a window is put together when it came in so many pieces: a million of one byte would cost their square."""
UNREAD = 2**20
"""Bytes of answers that are kept for a peer that asks and does not read."""
DEFERRED = 4096
"""Answers that are kept while keys are exchanged."""
_OVERHEAD = 64
"""Bytes of a packet on the wire besides what it says, at most."""

Handlers = dict[int, Any]


def prohibited(reason: str) -> asyncssh.ChannelOpenError:
    """The refusal of a channel that policy does not let be opened."""
    return asyncssh.ChannelOpenError(OPEN_ADMINISTRATIVELY_PROHIBITED, reason)


# --- channels


class Flow(SSHChannel[bytes]):
    """A channel that waits for its connection's socket. ``left`` is called once the peer closes it, read or not."""

    left: Callable[[], None] | None = None
    _joined = 0

    def process_open(self, send_chan: int, send_window: int, send_pktsize: int, session: Any) -> None:
        if send_pktsize < LEAST_PACKET:
            if inspect.iscoroutine(session):
                session.close()
            raise asyncssh.ProtocolError("packets smaller than are sent here")
        super().process_open(send_chan, send_window, send_pktsize, session)

    def process_open_confirmation(self, send_chan: int, send_window: int, send_pktsize: int, packet: SSHPacket) -> None:
        """One that nobody waits for any more is closed."""
        if send_pktsize < LEAST_PACKET:
            raise asyncssh.ProtocolError("packets smaller than are sent here")
        given_up = self._open_waiter is not None and self._open_waiter.cancelled()
        super().process_open_confirmation(send_chan, send_window, send_pktsize, packet)
        if given_up:
            self.close()

    def _accept_data(self, data: bytes, datatype: int | None = None) -> None:
        super()._accept_data(data, datatype)
        waits = len(self._recv_buf)
        if waits < self._joined:
            self._joined = 0
        if waits - self._joined >= PIECES:
            self._join()

    def _join(self) -> None:
        """The last pieces become one, or one for each stream: between those there is no order."""
        last: dict[int | None, list[bytes]] = {}
        for data, datatype in self._recv_buf[-PIECES:]:
            last.setdefault(datatype, []).append(data)
        self._recv_buf[-PIECES:] = [(b"".join(pieces), datatype) for datatype, pieces in last.items()]
        self._joined = len(self._recv_buf)

    def _flush_send_buf(self) -> None:
        conn = self._conn
        if isinstance(conn, Bounded) and conn.full and self._send_buf:
            if self._session is not None:
                self._pause_resume_writing()
            return
        super()._flush_send_buf()

    def go_on(self) -> None:
        """The socket takes more."""
        if self._session is not None and self._send_buf:
            self._flush_send_buf()

    def _window_adjusted(self, kind: int, number: int, packet: SSHPacket) -> None:
        SSHChannel._process_window_adjust(self, kind, number, packet)
        if self._send_window > _MOST_WINDOW:
            raise asyncssh.ProtocolError("a window larger than there are")

    def _requested(self, kind: int, number: int, packet: SSHPacket) -> None:
        if len(self._request_queue) >= REQUESTS:
            raise asyncssh.ProtocolError("too many requests wait for an answer")
        SSHChannel._process_request(self, kind, number, packet)

    def _closed(self, kind: int, number: int, packet: SSHPacket) -> None:
        if self.left is not None:
            self.left()
        SSHChannel._process_close(self, kind, number, packet)

    _packet_handlers: Handlers = SSHChannel._packet_handlers | {
        MSG_CHANNEL_WINDOW_ADJUST: _window_adjusted, MSG_CHANNEL_REQUEST: _requested, MSG_CHANNEL_CLOSE: _closed}


class Asks(Protocol):
    """What a caller's session channel asks of its session besides asyncssh's own callbacks."""

    async def agent_requested(self) -> bool: ...
    async def x11_requested(self, x11: X11) -> bool: ...


class X11:
    """An x11-req as it came: it goes on as it is."""

    def __init__(self, packet: SSHPacket) -> None:
        self.single = packet.get_boolean()
        self.proto, self.cookie = packet.get_string(), packet.get_string()
        self.screen = packet.get_uint32()
        packet.check_end()

    def encoded(self) -> tuple[bytes, ...]:
        return Boolean(self.single), String(self.proto), String(self.cookie), UInt32(self.screen)


class CallerChannel(Flow, SSHServerChannel[bytes]):
    """A session channel of the caller. What is sent on it stays in its window until ``open_gate``."""

    gated = True
    _answering: asyncio.Task[None] | None = None

    def resume_reading(self) -> None:
        if not self.gated:
            super().resume_reading()

    def open_gate(self) -> None:
        self.gated = False
        self.resume_reading()

    def exit_now(self, status: int) -> None:
        """The status, the end of the stream, the end of the channel. Whatever the caller still sends is dropped."""
        if self._send_state in ("close_pending", "closed"):
            return
        self._send_request(b"exit-status", UInt32(status & 0xff))
        self._end()

    def end_now(self) -> None:
        """The end of the stream and of the channel, where no status is known."""
        if self._send_state not in ("close_pending", "closed"):
            self._end()

    def exit_by_signal(self, signal: str, core_dumped: bool, message: str, language: str) -> None:
        if self._send_state in ("close_pending", "closed"):
            return
        self._send_request(b"exit-signal", String(signal), Boolean(core_dumped), String(message), String(language))
        self._end()

    def _end(self) -> None:
        self.gated = False
        if self._send_state == "open" and not self._send_buf:
            self.write_eof()
        self.close()

    def _process_exec_request(self, packet: SSHPacket) -> bool:
        """Any bytes: what is not UTF-8 is refused where all commands are, and recorded."""
        command = packet.get_string()
        packet.check_end()
        return self._start_session(command=command.decode("utf-8", "surrogateescape"))

    def _process_env_request(self, packet: SSHPacket) -> bool:
        name, value = packet.get_string(), packet.get_string()
        packet.check_end()
        kept = self._env
        size = sum(len(one) + len(its) for one, its in kept.items()) + len(name) + len(value)
        if len(kept) >= ENVIRONMENT or size > ENVIRONMENT_BYTES:
            return False
        kept[name] = value
        return True

    def _process_x11_req_request(self, packet: SSHPacket) -> None:
        session: Any = self._session
        self._answered(session.x11_requested(X11(packet)))

    def _process_auth_agent_req_at_openssh_dot_com_request(self, packet: SSHPacket) -> None:
        packet.check_end()
        session: Any = self._session
        self._answered(session.agent_requested())

    def _answered(self, asked: Awaitable[bool]) -> None:
        """Answer once it is known; the requests that follow wait."""
        async def answer() -> None:
            said = await asked
            if self._conn is not None:
                self._report_response(said)

        self._answering = self._conn.create_task(answer(), self.logger)


class Terminal:
    """What a caller said of its terminal."""

    def __init__(self, kind: str, size: tuple[int, int, int, int], modes: Mapping[int, int]) -> None:
        self.kind, self.size, self.modes = kind, size, dict(modes)

    def encoded(self) -> tuple[bytes, ...]:
        modes = b"".join(Byte(mode) + UInt32(value) for mode, value in self.modes.items()) + Byte(0)
        return String(self.kind), *(UInt32(number) for number in self.size), String(modes)


class TargetChannel(Flow, SSHClientChannel[bytes]):
    """A session channel at the target."""

    async def begin(self, session: asyncssh.SSHClientSession[bytes], request: bytes, argument: str | None,
                    env: Mapping[bytes, bytes], terminal: Terminal | None, x11: X11 | None, agent: bool) -> bool:
        """Ask for what the caller was allowed. ``False`` where the target refuses it. Raises ``asyncssh.Error``."""
        packet = await self._open(b"session")
        packet.check_end()
        self._session = session
        session.connection_made(self)
        for name, value in env.items():
            self._send_request(b"env", String(name), String(value))
        if terminal is not None:
            await self._make_request(b"pty-req", *terminal.encoded())
        if x11 is not None:
            await self._make_request(b"x11-req", *x11.encoded())
        if agent:
            await self._make_request(b"auth-agent-req@openssh.com")
        words = () if argument is None else (String(argument.encode("utf-8")),)
        if not await self._make_request(request, *words):
            self.close()
            return False
        return True

    def give_up(self) -> None:
        """Nobody waits for it any more: what runs there is told to end."""
        if not self.is_closing():
            self.send_signal("HUP")
            self.close()

    def open_gate(self) -> None:
        """Read what it answers."""
        self._recv_paused = False
        self._flush_recv_buf()


class TcpChannel(Flow, SSHTCPChannel[bytes]):
    """As asyncssh's."""


class UnixChannel(Flow, SSHUNIXChannel[bytes]):
    """As asyncssh's."""


class X11Channel(Flow, SSHX11Channel):
    """As asyncssh's."""


class AgentChannel(Flow, SSHAgentChannel):
    """As asyncssh's."""


# --- connections


class Bounded(SSHConnection):
    """Either side's connection."""

    most_channels = CHANNELS
    _rekeying: Rekeying | None = None
    _received = 0
    _socket_full = False
    _unread = 0
    _emptied: asyncio.Future[None] | None = None
    _lingering: asyncio.TimerHandle | None = None

    @property
    def full(self) -> bool:
        """Nothing more should be sent on a channel now."""
        return self._socket_full or not self._kex_complete

    def data_received(self, data: bytes, datatype: int | None = None) -> None:
        """asyncssh copies what is left of its buffer for each packet: many small packets in one large piece would cost their square."""
        self._received += len(data)
        for at in range(0, len(data), PIECE) if self._transport is not None else ():
            super().data_received(data[at:at + PIECE], datatype)

    def pause_writing(self) -> None:
        self._socket_full = True

    def resume_writing(self) -> None:
        self._socket_full = False
        self._unread = 0
        self._go_on()

    def _go_on(self) -> None:
        for channel in list(self._channels.values()):
            if isinstance(channel, Flow) and not self.full:
                channel.go_on()

    def _send_deferred_packets(self) -> None:
        super()._send_deferred_packets()
        self._go_on()

    def send_packet(self, pkttype: int, *args: bytes, handler: Any = None) -> None:
        """asyncssh sends an empty packet before each one, against attacks on CBC, of which there is none here. Whoever asks and does not
        read the answers is left: data waits for the socket, answers do not."""
        if pkttype == MSG_IGNORE:
            return
        if self._socket_full and pkttype not in (MSG_CHANNEL_DATA, MSG_CHANNEL_EXTENDED_DATA):
            self._unread += _OVERHEAD + sum(map(len, args))
        if self._unread > UNREAD or len(self._deferred_packets) > DEFERRED:
            self._unread, self._deferred_packets = 0, []
            self._force_close(asyncssh.ConnectionLost("the peer does not read what it asked for"))
            return
        super().send_packet(pkttype, *args, handler=handler)

    def _choose_alg(self, alg_type: str, local_algs: Any, remote_algs: Any) -> bytes:
        chosen = super()._choose_alg(alg_type, local_algs, remote_algs)
        if alg_type == "encryption" and not self._strict_kex and chosen.decode("ascii") not in GCM:
            raise asyncssh.KeyExchangeFailed("without strict key exchange (kex-strict) only AES-GCM is spoken here")
        return chosen

    def add_channel(self, chan: SSHChannel[Any]) -> int:
        if len(self._channels) >= self.most_channels:
            raise asyncssh.ChannelOpenError(OPEN_RESOURCE_SHORTAGE, f"this connection has {self.most_channels} channels already")
        return super().add_channel(chan)

    def remove_channel(self, recv_chan: int) -> None:
        super().remove_channel(recv_chan)
        if not self._channels and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    @property
    def channels(self) -> int:
        """How many are open."""
        return len(self._channels)

    async def without_channels(self, seconds: float) -> None:
        """Until none is open, for so long at most."""
        if self._channels:
            self._emptied = self._loop.create_future()
            await asyncio.wait([self._emptied], timeout=seconds)

    def _asked(self, kind: int, number: int, packet: SSHPacket) -> None:
        if len(self._global_request_queue) >= REQUESTS:
            raise asyncssh.ProtocolError("too many requests wait for an answer")
        SSHConnection._process_global_request(self, kind, number, packet)

    def _new_keys(self, kind: int, number: int, packet: SSHPacket) -> Awaitable[None]:
        """The peer begins a key exchange, or answers one. Nobody needs a second one before it is let in."""
        if self._session_id and not self._kexinit_sent and not self._may_rekey():
            raise asyncssh.ProtocolError("new keys were asked for too often")
        return SSHConnection._process_kexinit(self, kind, number, packet)

    def _may_rekey(self) -> bool:
        if not self._auth_complete:
            return False
        now = self._loop.time()
        if self._rekeying is None:
            self._rekeying = Rekeying(now)
        moved, self._received = self._received + self._rekey_bytes_sent, 0
        return self._rekeying.may(moved, now)

    _packet_handlers: Handlers = SSHConnection._packet_handlers | {MSG_GLOBAL_REQUEST: _asked, MSG_KEXINIT: _new_keys}

    def _force_close(self, exc: Exception | None) -> None:
        """What was said last is still sent, and heard: a socket closed over unread data would take it back (RST). The peer has a moment to
        close; what it says is not looked at any more."""
        transport = self._transport
        if transport is None:
            return
        self._transport = None
        try:
            transport.write_eof()
        except (OSError, RuntimeError):
            transport.close()
        self._lingering = self._loop.call_later(LINGER, transport.abort)
        self._loop.call_soon(self._cleanup, exc)

    def connection_lost(self, exc: Exception | None = None) -> None:
        super().connection_lost(exc)
        if self._lingering is not None and exc is not None:
            self._lingering.cancel()

    def create_tcp_channel(self, *_: Any, **__: Any) -> TcpChannel:
        return TcpChannel(self, self._loop, None, "strict", WINDOW, PACKET)

    def create_unix_channel(self, *_: Any, **__: Any) -> UnixChannel:
        return UnixChannel(self, self._loop, None, "strict", WINDOW, PACKET)

    def create_x11_channel(self, *_: Any, **__: Any) -> X11Channel:
        return X11Channel(self, self._loop, None, "strict", WINDOW, PACKET)

    def create_agent_channel(self, *_: Any, **__: Any) -> AgentChannel:
        return AgentChannel(self, self._loop, None, "strict", WINDOW, PACKET)


class Door(Protocol):
    """Who looks at a caller's certificate: the name asked for, the blob, and how to verify the signature over it (``None``: an offer)."""

    async def certificate(self, user: str, blob: bytes, verified: Callable[[], bool] | None) -> bool: ...


class CallerConnection(Bounded, SSHServerConnection):
    """A caller's connection, on a transport that was accepted before. ``owner`` answers what asyncssh asks."""

    def __init__(self, options: asyncssh.SSHServerConnectionOptions, owner: asyncssh.SSHServer, door: Door,
                 lost: Callable[[], None]) -> None:
        super().__init__(asyncio.get_running_loop(), options)
        self._protocol_factory = lambda: owner
        self._door, self._on_lost = door, lost
        self._attempts = self._offers = 0

    async def reload_config(self) -> None:
        """There is no configuration of asyncssh's own here."""

    def connection_lost(self, exc: Exception | None = None) -> None:
        super().connection_lost(exc)
        self._on_lost()

    def create_server_channel(self, *_: Any, **__: Any) -> CallerChannel:
        return CallerChannel(self, self._loop, True, False, False, 0, 0, None, "strict", WINDOW, PACKET)

    async def validate_public_key(self, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        """Certificates of the gateway's own alone. An offer (without ``msg``) tells whether a signature would do; it lets nobody in."""
        if not msg:
            return await self._door.certificate(username, key_data, None)

        def verified() -> bool:
            try:
                key, kind = decode_ssh_certificate(key_data).key, SSHPacket(signature).get_string()
            except (asyncssh.KeyImportError, PacketDecodeError):
                return False
            return kind.decode("ascii", "replace") in SIGNATURES and key.verify(String(self._session_id) + msg, signature)

        return await self._door.certificate(username, key_data, verified)

    def attempted(self) -> None:
        """A token or a signed certificate was refused."""
        self._attempts += 1

    def send_userauth_failure(self, partial_success: bool) -> None:
        self._offers += 1
        if self._attempts >= ATTEMPTS or self._offers >= OFFERS:
            self.disconnect(asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE,
                            "not let in: the password is a token of an identity that this gateway knows, the user name [LOGIN@]RESOURCE")
            return
        super().send_userauth_failure(partial_success)


class TargetConnection(Bounded, SSHClientConnection):
    """A connection to a target. ``opened`` takes the channels that the target opens for the agent and X11."""

    opened: Callable[[str, tuple[str, int]], tuple[Flow, Awaitable[Any]]] | None = None

    def create_session_channel(self) -> TargetChannel:
        self._update_recv_pktlen(PACKET)
        return TargetChannel(self, self._loop, "replace", None, "strict", WINDOW, PACKET)

    def _process_x11_open(self, packet: SSHPacket) -> Any:
        host, port = packet.get_string(), packet.get_uint32()
        packet.check_end()
        return self._take("x11", (host.decode("utf-8", "replace"), port))

    def _process_auth_agent_at_openssh_dot_com_open(self, packet: SSHPacket) -> Any:
        packet.check_end()
        return self._take("agent", ("", 0))

    def _take(self, kind: str, origin: tuple[str, int]) -> Any:
        if self.opened is None:
            raise prohibited(f"{kind} was not asked for")
        return self.opened(kind, origin)
