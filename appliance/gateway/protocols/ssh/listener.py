# SPDX-License-Identifier: Apache-2.0
"""From an accepted connection to a session: user name, token or certificate, resource. Every refusal says why and is recorded.

The way in is a token (as password, or as the one answer of keyboard-interactive), or a certificate that this gateway minted. Nobody is let
in before ``session.start`` is on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import asyncssh
from asyncssh.packet import Byte, String, UInt32

from gateway.audit.note import load_private_key
from gateway.config.load import Folder
from gateway.config.schema import Listener
from gateway.errors import AuditUnavailable, ClientFault, ConfigError, Fault, Refused
from gateway.govern import session_fields
from gateway.identity.certificate import CertificateRefused
from gateway.identity.token import TokenRefused
from gateway.live import Caps
from gateway.model import Identity, Session
from gateway.net.stream import ByteStream
from gateway.protocols.ssh import authority, door
from gateway.protocols.ssh.algorithms import OFFERED
from gateway.protocols.ssh.channel import SessionChannel
from gateway.protocols.ssh.connection import PACKET, WINDOW, CallerConnection
from gateway.protocols.ssh.session import SshSession
from gateway.protocols.ssh.settings import SshListener, SshResource
from gateway.protocols.ssh.towards import Towards

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from gateway.datapath import DataPath

log = logging.getLogger("gateway.ssh")
logging.getLogger("asyncssh").setLevel(logging.CRITICAL)       # it logs commands, and what peers say, as they are

TIDY_EVERY = 60.0
HEARD = 2.0
"""Seconds that who is turned away has to read why."""
HEARERS = 256
"""How many of them at once."""
VERSION = "lockgate"
_TOO_MANY = "this gateway has too many connections (limits.connections)"
_TOO_MANY_HALF_OPEN = "too many connections are not authenticated yet (limits.half_open)"
_AUDIT = "the audit log cannot be written; nobody is let in until it can"


class Shown:
    """What the listener shows its callers, and whose certificates it believes: made from a folder, put in force as a whole."""

    def __init__(self, folder: Folder, settings: SshListener) -> None:
        """Raises ``ConfigError``."""
        try:
            keys = [asyncssh.read_private_key(str(folder.resolve(path))) for path in settings.host_keys]
            certificates = [asyncssh.read_certificate(str(folder.resolve(path))) for path in settings.host_certificates]
            self.ca: Ed25519PublicKey | None = None
            if settings.user_ca is not None:
                self.ca = load_private_key(folder.resolve(settings.user_ca)).public_key()
            self.options = asyncssh.SSHServerConnectionOptions(
                config=None, server_host_keys=keys, server_host_certs=certificates, server_version=VERSION, send_server_host_keys=False,
                gss_host=None, gss_kex=False, gss_auth=False, host_based_auth=False, public_key_auth=self.ca is not None,
                password_auth=True, kbdint_auth=True, login_timeout=0, line_editor=False, agent_forwarding=False, x11_forwarding=False,
                encoding=None, window=WINDOW, max_pktsize=PACKET, rdns_lookup=False, x509_trusted_certs=None, **OFFERED)
        except (OSError, ValueError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as wrong:
            raise ConfigError(f"listener {settings.address}: its host keys cannot be used: {type(wrong).__name__}") from None


def listener(gateway: DataPath, settings: Listener) -> SshCallers:
    """Serves the listener with these settings. Raises ``ConfigError``."""
    if not isinstance(settings, SshListener):
        raise ConfigError(f"listener {settings.address}: expected the settings of an SSH listener")
    return SshCallers(gateway, settings)


class SshCallers:
    """Serves the ``ssh`` listener of one gateway."""

    def __init__(self, gateway: DataPath, settings: SshListener) -> None:
        self.gateway, self._settings = gateway, settings
        self.shown = self.prepare(gateway.folder)
        self.towards = Towards(gateway.folder, self._record, gateway.now)
        self._former: list[Towards] = []
        self._hearing = 0

    async def handle(self, stream: ByteStream) -> None:
        """One connection, from its first byte to its last."""
        connections, limits = self.gateway.connections, self.gateway.folder.gateway.limits
        full = connections.opened() > limits.connections
        place = connections.half_open.enter(stream.peer, stream.abort, limits.half_open, full=full)
        if place is None:
            connections.closed()
            await self._turned_away(stream, _TOO_MANY if full else _TOO_MANY_HALF_OPEN)
            return
        try:
            await Caller(self, stream, lambda: connections.half_open.leave(place)).run()
        finally:
            connections.half_open.leave(place)
            connections.closed()

    async def _turned_away(self, stream: ByteStream, why: str) -> None:
        """Say why, and let it be heard: a client that is still writing when the socket closes reads nothing more. It does not count as a
        connection; of very many some hear nothing."""
        if self._hearing >= HEARERS:
            stream.abort()
            return
        self._hearing += 1
        try:
            stream.write(turned_away(why))
            stream.write_eof()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARD):
                    while await stream.read():
                        pass
        finally:
            self._hearing -= 1

    async def warm(self) -> None:
        """Targets are connected to once somebody wants something there."""

    async def tend(self) -> None:
        """Forget connections to targets that have ended."""
        while True:
            await asyncio.sleep(TIDY_EVERY)
            self.towards.tidy()

    def prepare(self, folder: Folder) -> Shown:
        """What it shows its callers. Raises ``ConfigError``."""
        Towards(folder, self._record, self.gateway.now).check()
        return Shown(folder, self._settings)

    async def reloaded(self, prepared: Shown) -> None:
        """The policy changed: who comes from now on is shown this, and new connections to targets are made as it says."""
        self.shown = prepared
        self.towards.retire()
        self._former = [former for former in (*self._former, self.towards) if not former.empty]
        self.towards = Towards(self.gateway.folder, self._record, self.gateway.now)

    async def close(self) -> None:
        """Close the connections to targets."""
        for towards in (*self._former, self.towards):
            towards.close()

    async def _record(self, session: Session, kind: str, fields: Mapping[str, Any]) -> None:
        await self.gateway.audit.record(kind, session_fields(session, self.gateway.policy) | dict(fields))


class Caller(asyncssh.SSHServer):
    """One caller: what asyncssh asks while it is let in, and what it asks for afterwards."""

    def __init__(self, listener: SshCallers, stream: ByteStream, known: Callable[[], None]) -> None:
        """``known`` is called once it is let in."""
        self._listener, self._stream, self._known = listener, stream, known
        self._gateway = listener.gateway
        self._user: str | None = None
        self._ca = listener.shown.ca
        self._entered: Session | None = None
        self._started = self._left = False
        self._offered: dict[str, str] = {}
        self._session: SshSession | None = None
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._in: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._connection = CallerConnection(listener.shown.options, self, self, self._lost)

    # --- its life

    async def run(self) -> None:
        """Until the connection is gone and everything of it is recorded."""
        try:
            self._stream.hand_over(self._connection)
        except ConnectionResetError:
            return
        try:
            await self._handshake()
            if self._session is not None:
                self._known()
                await self._session.run()
            await self._closed()
        finally:
            self._connection.abort()
            await asyncio.shield(self._leave())

    async def _handshake(self) -> None:
        limit = self._gateway.folder.gateway.limits.handshake
        done, _ = await asyncio.wait([self._gone, self._in], timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            self.turn_away("the connection was not authenticated in time (limits.handshake)")

    async def _closed(self) -> None:
        """asyncssh has let go of it, or does not in time."""
        await asyncio.wait([self._gone], timeout=5.0)

    async def _leave(self) -> None:
        self._left = True
        entered = self._entered
        if entered is None:
            await self._record_offer()
            return
        try:
            if self._started and (self._session is None or not self._session.recorded):
                fields = session_fields(entered, self._gateway.policy) | {"reason": "the caller disconnected", "rows": 0, "bytes": 0,
                                                                          "denials": 0}
                await asyncio.wait([self._gateway.audit.record("session.end", fields)], timeout=5.0)
        finally:
            self._gateway.live.remove(entered.id)

    async def _record_offer(self) -> None:
        """Why a certificate that was offered would not do, once, where nobody came in: nothing else says it."""
        if not self._offered:
            return
        recorded = self._gateway.audit.record("session.refused", self._claimed() | self._offered)
        recorded.add_done_callback(_seen)
        await asyncio.wait([recorded], timeout=5.0)

    def _lost(self) -> None:
        self._stream.connection_lost(None)
        if not self._gone.done():
            self._gone.set_result(None)
        if self._session is not None:
            self._session.left("the caller disconnected")

    def turn_away(self, why: str) -> None:
        """Disconnect, saying why."""
        self._connection.disconnect(asyncssh.DISC_BY_APPLICATION, f"lockgate: {why}")

    # --- being let in

    def begin_auth(self, username: str) -> bool:
        """The first user name is the one: another one may mean another resource (CVE-2026-46705)."""
        if self._user is None:
            self._user = username
        elif username != self._user:
            raise asyncssh.IllegalUserName("the user name changed between attempts")
        return True

    def password_auth_supported(self) -> bool:
        return True

    def kbdint_auth_supported(self) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return self._ca is not None

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        return "", "", "", [(door.PROMPT, False)]

    async def validate_kbdint_response(self, username: str, responses: Any) -> bool:
        return len(responses) == 1 and await self.validate_password(username, responses[0])

    async def validate_password(self, username: str, password: str) -> bool:
        """A token."""
        gateway, cut = self._gateway, door.cut_off(password)

        async def identity() -> Identity:
            try:
                return await gateway.authenticator.admit(password, self._stream.peer, gateway.now())
            except TokenRefused as no:
                if not cut:
                    raise
                self._connection.send_auth_banner(f"lockgate: {cut}\r\n")
                raise TokenRefused(cut, f"{no.reason}; {cut}") from None

        return await self._admitted(username, identity)

    async def certificate(self, user: str, blob: bytes, verified: Callable[[], bool] | None) -> bool:
        """A certificate of the gateway's own. An offer is looked at, and nothing else happens."""
        if self._ca is None:
            return False
        if verified is None:
            try:
                self._read(user, blob)
            except CertificateRefused as no:
                self._not_good(user, blob, no)
                return False
            except Fault:
                return False
            return user == self._user

        async def identity() -> Identity:
            found = self._read(user, blob)
            if not verified():
                raise CertificateRefused("signature", "its holder did not sign")
            await self._gateway.authenticator.use_ssh_certificate(found, self._gateway.now())
            return found

        return await self._admitted(user, identity)

    def _not_good(self, user: str, blob: bytes, no: CertificateRefused) -> None:
        """One of this gateway's own says more than another; keys, of which agents have many, say nothing."""
        ours = not str(no).endswith(("signed by another", "not readable"))
        if user == self._user and authority.is_certificate(blob) and (ours or not self._offered):
            self._offered = {"protocol": "ssh", "reason": f"a certificate was offered: {no.reason}"}

    def _claimed(self) -> dict[str, Any]:
        """What the caller says of itself."""
        return {"source": self._stream.peer, "user": door.without_tokens(self._user or "")[:256]}

    def _read(self, user: str, blob: bytes) -> Identity:
        assert self._ca is not None
        gateway, peer = self._gateway, self._stream.peer
        return gateway.authenticator.admit_ssh_certificate(authority.read(blob, self._ca, user, peer, gateway.now()), peer, gateway.now())

    async def _admitted(self, user: str, known: Callable[[], Awaitable[Identity]]) -> bool:
        """Let in whom ``known`` names, or say and record why not."""
        if self._entered is not None or user != self._user:
            return False
        claimed = self._claimed()
        try:
            try:
                wanted = door.asked(user)
                claimed["resource"] = wanted.resource
                identity = await known()
                claimed["identity"] = identity.name
                await self._let_in(wanted, identity)
                return True
            except Refused as no:
                reason = no.reason if isinstance(no, TokenRefused | CertificateRefused) else str(no)
                await self._gateway.audit.record("session.refused", claimed | {"protocol": "ssh", "reason": reason})
                return self._refused(no)
        except AuditUnavailable:
            self.turn_away(_AUDIT)
            return False
        except ClientFault:
            return False

    def _refused(self, no: Refused) -> bool:
        """Who is not let in may try another token; who is known and may not come in is told why."""
        self._connection.attempted()
        if self._entered is not None or not isinstance(no, TokenRefused | CertificateRefused):
            hint = f" ({no.hint})" if no.hint else ""
            self.turn_away(f"{no}{hint}")
        return False

    async def _let_in(self, wanted: door.Asked, identity: Identity) -> None:
        """Raises ``Refused``, ``AuditUnavailable``, or ``ClientFault`` where the caller is gone meanwhile."""
        gateway, listener = self._gateway, self._listener
        self._here()
        resource = gateway.policy.resources.get(wanted.resource)
        no = gateway.policy.may_enter(identity, wanted.resource, gateway.now())
        if not isinstance(resource, SshResource) or no is not None:
            raise Refused(no or f"{wanted.resource[:64]!r} is no SSH resource",
                          hint="lockgate access" if identity.person else f"lockgate access --identity {identity.name}")
        session = Session(id=uuid.uuid4().hex, identity=identity, resource=resource.name, protocol="ssh", source=self._stream.peer,
                          started=gateway.now(), login=door.login_of(wanted, resource.logins))
        self._entered = session
        early: list[str] = []
        await self._count_in(session, early.append)
        self._here()
        await self._record_start(session)
        self._here()
        self._session = live = SshSession(session, gateway, self._connection, resource, lambda: listener.towards)
        gateway.live.steer(session.id, live.end, live.drain)
        for reason in early:
            live.end(reason)
        if not self._in.done():
            self._in.set_result(None)

    def _here(self) -> None:
        """Nobody is let in whose connection is over already: nothing would end that session."""
        if self._left:
            if self._entered is not None:
                self._gateway.live.remove(self._entered.id)
            raise ClientFault("the caller left")

    async def _count_in(self, session: Session, end: Callable[[str], None]) -> None:
        """Raises ``Refused`` where there are too many already, or the policy changed meanwhile."""
        gateway = self._gateway
        limits = gateway.policy.session_limits(session.identity, session.resource, gateway.now())
        await gateway.live.enter(session, Caps(limits.concurrent, gateway.folder.gateway.limits.connections_per_identity), end)
        if reason := gateway.policy.ended(session, gateway.now()):
            raise Refused(reason)

    async def _record_start(self, session: Session) -> None:
        identity = session.identity
        start = session_fields(session, self._gateway.policy)
        start.update(subject=identity.subject, token_id=identity.token_id, claims=dict(identity.claims), login=session.login,
                     claimed={"user": self._user or ""})
        if identity.certificate is not None:
            start["certificate"] = identity.certificate
        self._started = True
        await self._gateway.audit.record("session.start", start)

    # --- afterwards

    def _live(self) -> SshSession:
        if self._session is None or self._session.over:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "lockgate: the session is over")
        return self._session

    def session_requested(self) -> Any:
        return self._connection.create_server_channel(), SessionChannel(self._live())

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> Any:
        return self._live().forwards.tcp(dest_host, dest_port, (orig_host, orig_port))

    def unix_connection_requested(self, dest_path: str) -> Any:
        return self._live().forwards.unix(dest_path)

    def server_requested(self, listen_host: str, listen_port: int) -> Any:
        return self._session.forwards.listen(listen_host, listen_port) if self._session is not None else False

    def unix_server_requested(self, listen_path: str) -> Any:
        return self._session.forwards.listen_unix(listen_path) if self._session is not None else False

    def tun_requested(self, unit: int | None) -> Any:
        return self._live().forwards.tunnel()

    def tap_requested(self, unit: int | None) -> Any:
        return self._live().forwards.tunnel()


def _seen(recorded: asyncio.Future[int]) -> None:
    """Nobody is let in, whether it could be recorded or not."""
    if not recorded.cancelled():
        recorded.exception()


def turned_away(why: str) -> bytes:
    """A disconnect before keys are exchanged (RFC 4253, section 11.1), for who is not served at all."""
    payload = Byte(1) + UInt32(asyncssh.DISC_TOO_MANY_CONNECTIONS) + String(f"lockgate: {why}") + String("")
    padding = -(5 + len(payload)) % 8
    padding += 8 if padding < 4 else 0
    packet = Byte(padding) + payload + os.urandom(padding)
    return f"SSH-2.0-{VERSION}\r\n".encode() + UInt32(len(packet)) + packet


