# SPDX-License-Identifier: Apache-2.0
"""From an accepted connection to a session: TLS, startup packet, token, resource, target. Every refusal says why and is recorded.

Manual 55.2.1 and 55.2.10. Nothing but the TLS request is answered in clear, except on loopback.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import ssl
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.config.load import Folder
from gateway.config.schema import TargetTls
from gateway.errors import AuditUnavailable, ClientFault, Refused, TargetFault
from gateway.govern import session_fields
from gateway.identity.token import TokenRefused
from gateway.model import Identity, Session
from gateway.net.stream import ByteStream
from gateway.net.tls import client_context
from gateway.protocols.postgres import door, messages
from gateway.protocols.postgres.codec import PASSWORD_LIMIT, startup_length
from gateway.protocols.postgres.ending import fatal
from gateway.protocols.postgres.scram import KeyCache
from gateway.protocols.postgres.session import Relay
from gateway.protocols.postgres.settings import PostgresResource
from gateway.protocols.postgres.target import Address, TargetConnection, connect
from gateway.protocols.postgres.targets import SharedTarget

if TYPE_CHECKING:
    from gateway.build import Gateway

log = logging.getLogger("gateway.postgres")

CATALOG_SETTINGS = {"search_path": "pg_catalog", "application_name": "lockgate catalog", "statement_timeout": "30000",
                    "lock_timeout": "2000"}


@dataclass(slots=True)
class CancelKeys:
    """The cancel keys this gateway gave out. A key never reaches a session that it was not made for."""

    _sessions: dict[int, tuple[bytes, Callable[[], None]]] = field(default_factory=dict)

    def issue(self, cancel: Callable[[], None]) -> tuple[int, bytes]:
        """A fresh (process id, 4-byte secret) whose CancelRequest calls ``cancel``."""
        while (pid := secrets.randbelow(0x7FFFFFFF - 1) + 1) in self._sessions:
            pass
        self._sessions[pid] = (secrets.token_bytes(4), cancel)
        return pid, self._sessions[pid][0]

    def revoke(self, pid: int) -> None:
        self._sessions.pop(pid, None)

    def use(self, pid: int, secret: bytes) -> bool:
        found = self._sessions.get(pid)
        if found is None or not hmac.compare_digest(found[0], secret):
            return False
        found[1]()
        return True


class PostgresListener:
    """Serves the ``postgres`` listener of one gateway."""

    def __init__(self, gateway: Gateway, tls: ssl.SSLContext | None, loopback: bool) -> None:
        self._gateway = gateway
        self._tls = tls
        self._loopback = loopback
        self._keys = CancelKeys()
        self._open_now = 0
        self._towards = Towards(gateway.folder)
        self._shared: dict[tuple[PostgresResource, str], SharedTarget] = {}

    async def handle(self, stream: ByteStream) -> None:
        """One connection, from its first byte to its last."""
        self._open_now += 1
        try:
            await self._handle(stream)
        finally:
            self._open_now -= 1

    async def _handle(self, stream: ByteStream) -> None:
        gateway = self._gateway
        if self._open_now > gateway.folder.gateway.limits.connections:
            self._turn_away(stream, fatal("53300", "this gateway has too many connections (limits.connections)"))
            return
        try:
            async with asyncio.timeout(gateway.folder.gateway.limits.handshake):
                greeted = await self._greet(stream)
        except TimeoutError:
            self._turn_away(stream, fatal("08006", "the connection was not authenticated in time"))
            return
        except ClientFault as fault:
            self._turn_away(stream, fatal(fault.code or "08P01", str(fault)))
            return
        except Refused as no:
            self._turn_away(stream, fatal(no.code if len(no.code) == 5 else "28000", str(no), no.hint))
            return
        except AuditUnavailable:
            self._turn_away(stream, fatal("58030", "the audit log cannot be written; nobody is let in until it can"))
            return
        if greeted is not None:
            await self._serve(stream, *greeted)

    @staticmethod
    def _turn_away(stream: ByteStream, fields: dict[str, str]) -> None:
        stream.write(messages.ErrorResponse(fields).encode())
        stream.close()

    # before the caller is known

    async def _greet(self, stream: ByteStream) -> tuple[Identity, door.Startup, PostgresResource] | None:
        packet = await self._first_packet(stream)
        if packet is None:
            return None
        if not stream.tls and not (self._loopback and is_local(stream.peer)):
            raise Refused("this gateway requires TLS: use sslmode=verify-full", "28000")
        claimed = {"source": stream.peer}
        try:
            startup = door.check(packet)
            claimed |= dict(startup.claimed) | {"resource": startup.resource}
            if packet.minor or startup.unknown_extensions:
                stream.write(messages.NegotiateProtocolVersion(0, startup.unknown_extensions).encode())
            identity = await self._gateway.authenticator.admit(await self._password(stream), stream.peer, self._gateway.now())
            resource = self._admit(identity, startup)
        except Refused as no:
            await self._record_refused(claimed, no.reason if isinstance(no, TokenRefused) else str(no))
            raise
        return identity, startup, resource

    async def _first_packet(self, stream: ByteStream) -> messages.Startup | None:
        """Answer TLS and GSSAPI requests, act on a CancelRequest, give the StartupMessage."""
        for _ in range(3):
            head = await stream.read_exactly(4)
            if head[0] == 0x16 and not stream.tls:
                raise Refused("direct TLS is not supported: use sslnegotiation=postgres", "28000")
            packet = messages.parse_startup(await stream.read_exactly(startup_length(head)))
            if isinstance(packet, messages.Startup):
                return packet
            if isinstance(packet, messages.CancelRequest):
                self._keys.use(packet.process, packet.secret)
                return None
            if stream.tls:
                raise ClientFault("encryption was asked for twice", "08P01")
            if isinstance(packet, messages.SslRequest) and self._tls is not None:
                await stream.start_tls(self._tls, server_side=True, announce=b"S", timeout=self._gateway.folder.gateway.limits.handshake)
            else:
                stream.write(b"N")
        raise ClientFault("too many negotiation requests", "08P01")

    async def _password(self, stream: ByteStream) -> str:
        stream.write(messages.Authentication(3).encode())
        head = await stream.read_exactly(5)
        length = int.from_bytes(head[1:], "big")
        if head[:1] != b"p" or not 5 <= length <= PASSWORD_LIMIT:
            raise ClientFault("a password message was expected", "08P01")
        body = await stream.read_exactly(length - 4)
        try:
            return messages.Password(body).text()
        except ClientFault:
            raise Refused("the password is not a token", "28000") from None

    def _admit(self, identity: Identity, startup: door.Startup) -> PostgresResource:
        gateway = self._gateway
        resource = gateway.policy.resources.get(startup.resource)
        no = gateway.policy.may_enter(identity, startup.resource, gateway.now())
        if not isinstance(resource, PostgresResource) or no is not None:
            raise Refused(no or f"no grant lets {identity.name} reach {startup.resource[:64]!r}", "28000",
                          hint="lockgate access" if identity.person else f"lockgate access --identity {identity.name}")
        if startup.database is not None and startup.database not in resource.offered:
            raise Refused(f"{startup.resource} does not offer the database {startup.database[:64]!r}", "28000")
        limits = gateway.policy.session_limits(identity, startup.resource, gateway.now())
        if limits.concurrent is not None and gateway.live.concurrent(identity.name, startup.resource) >= limits.concurrent:
            raise Refused(f"{identity.name} has {limits.concurrent} sessions on {startup.resource} already", "53300")
        if gateway.live.of_identity(identity.name) >= gateway.folder.gateway.limits.connections_per_identity:
            raise Refused(f"{identity.name} has too many connections", "53300")
        return resource

    async def _record_refused(self, claimed: dict[str, str], reason: str) -> None:
        await self._gateway.audit.record("session.refused", claimed | {"protocol": "postgres", "reason": reason})

    # once the caller is known

    async def _serve(self, stream: ByteStream, identity: Identity, startup: door.Startup, resource: PostgresResource) -> None:
        gateway = self._gateway
        database = startup.database or resource.offered[0]
        session = Session(id=uuid.uuid4().hex, identity=identity, resource=startup.resource, protocol="postgres",
                          source=stream.peer, started=gateway.now(), login=startup.claimed["user"], database=database)
        pending_end: list[str] = []
        gateway.live.add(session, pending_end.append)
        try:
            if reason := gateway.policy.ended(session, gateway.now()):
                await self._record_refused({"source": stream.peer, "identity": identity.name, "resource": session.resource}, reason)
                self._turn_away(stream, fatal("28000", reason))
                return
            await self._open(stream, session, startup, resource, database, pending_end)
        except AuditUnavailable:
            self._turn_away(stream, fatal("58030", "the audit log cannot be written; nobody is let in until it can"))
        finally:
            gateway.live.remove(session.id)

    async def _open(self, stream: ByteStream, session: Session, startup: door.Startup, resource: PostgresResource,
                    database: str, pending_end: list[str]) -> None:
        gateway = self._gateway
        start = session_fields(session, gateway.policy)
        start.update(subject=session.identity.subject, token_id=session.identity.token_id, claims=dict(session.identity.claims),
                     claimed=dict(startup.claimed), database=database)
        await gateway.audit.record("session.start", start)
        try:
            target = await self._connect(resource, database, dict(startup.settings))
        except TargetFault as fault:
            await gateway.audit.record("session.end", session_fields(session, gateway.policy) | {"reason": f"target: {fault}"})
            self._turn_away(stream, fatal(fault.code or "08001", f"{session.resource} cannot be reached: {fault}"))
            return
        await self._relay(stream, session, startup, resource, database, target, pending_end)

    async def _relay(self, stream: ByteStream, session: Session, startup: door.Startup, resource: PostgresResource, database: str,
                     target: TargetConnection, pending_end: list[str]) -> None:
        gateway = self._gateway
        relay = Relay(session, gateway, stream, target, self._shared_target(resource, database),
                      gateway.secrets(), startup.wait, gateway.folder.gateway.limits, gateway.folder.gateway.audit.sample)
        pid, secret = self._keys.issue(relay.cancel)
        gateway.live.remove(session.id)
        gateway.live.add(session, relay.end, relay.drain)
        for asked in pending_end:
            relay.end(asked)
        reason = "internal error"
        try:
            stream.write(messages.Authentication(0).encode() + b"".join(
                messages.ParameterStatus(name, value).encode() for name, value in target.parameters.items())
                + messages.BackendKeyData(pid, secret).encode() + messages.ReadyForQuery("I").encode())
            reason = await relay.run()
        finally:
            self._keys.revoke(pid)
            await asyncio.shield(asyncio.gather(relay.record_end(reason), return_exceptions=True))

    async def _connect(self, resource: PostgresResource, database: str, settings: dict[str, str]) -> TargetConnection:
        return await self._towards.open(resource, database, settings)

    def _shared_target(self, resource: PostgresResource, database: str) -> SharedTarget:
        key = (resource, database)
        found = self._shared.get(key)
        if found is None:
            async def own() -> TargetConnection:
                return await self._towards.open(resource, database, CATALOG_SETTINGS)
            found = self._shared[key] = SharedTarget(own, database, resource.catalog.max_age)
        return found

    async def warm(self) -> None:
        """Read every target's catalog before the first caller needs it. A target that cannot be reached now is read later."""
        for resource in self._gateway.policy.resources.values():
            if isinstance(resource, PostgresResource):
                for database in resource.offered:
                    try:
                        await self._shared_target(resource, database).catalog()
                    except (TargetFault, OSError) as fault:
                        log.warning("the catalog of %s/%s is not read yet: %s", resource.name, database, fault)

    async def reloaded(self) -> None:
        """The policy changed: let go of targets that are not in it any more."""
        self._towards = Towards(self._gateway.folder)
        kept = set(self._gateway.policy.resources.values())
        for key in [key for key in self._shared if key[0] not in kept]:
            await self._shared.pop(key).close()

    async def close(self) -> None:
        """Close the gateway's own connections."""
        for shared in self._shared.values():
            await shared.close()


class Towards:
    """How this folder's resources are reached. Derived keys and TLS contexts are made once, not per connection."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._keys = KeyCache()
        self._contexts: dict[TargetTls, ssl.SSLContext | None] = {}

    def _context(self, tls: TargetTls) -> ssl.SSLContext | None:
        if tls not in self._contexts:
            self._contexts[tls] = client_context(tls.mode, self._folder.resolve(tls.ca) if tls.ca else None)
        return self._contexts[tls]

    async def open(self, resource: PostgresResource, database: str, settings: dict[str, str]) -> TargetConnection:
        """Log in with the gateway's own credential. Raises ``TargetFault``."""
        return await connect(Address(*resource.place), database, self._folder.credentials[resource.credential], self._context(resource.tls),
                             parameters=settings, keys=self._keys, timeout=self._folder.gateway.limits.target_connect)


async def open_catalog_connection(folder: Folder, resource: PostgresResource, database: str) -> TargetConnection:
    """A connection of the gateway's own, for reading the catalog."""
    return await Towards(folder).open(resource, database, CATALOG_SETTINGS)


def is_local(peer: str) -> bool:
    return peer in ("unix", "::1", "::ffff:127.0.0.1") or peer.startswith("127.")
