# SPDX-License-Identifier: Apache-2.0
"""From an accepted connection to a session: TLS, startup packet, token, resource, target. Every refusal says why and is recorded.

Manual "Start-up" and "SSL Session Encryption". Nothing but the TLS request is answered in clear, except on loopback.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import uuid
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from gateway.config.address import is_loopback
from gateway.config.load import Folder
from gateway.config.schema import Listener
from gateway.errors import AuditUnavailable, ClientFault, ConfigError, Refused, TargetFault
from gateway.govern import session_fields
from gateway.identity.certificate import CertificateRefused
from gateway.identity.token import TokenRefused
from gateway.live import Caps, End
from gateway.model import Identity, Session
from gateway.net.halfopen import Place
from gateway.net.stream import ByteStream
from gateway.net.tls import server_context, verified_chain
from gateway.protocols.postgres import door, greeting, messages
from gateway.protocols.postgres.catalog.load import Row
from gateway.protocols.postgres.ending import fatal
from gateway.protocols.postgres.ephemeral import KIND, OneTimeLogin
from gateway.protocols.postgres.kept import Kept, Lease
from gateway.protocols.postgres.roles import SessionRoles, role_prefix
from gateway.protocols.postgres.session import Relay
from gateway.protocols.postgres.settings import PostgresResource
from gateway.protocols.postgres.target import Address, TargetConnection
from gateway.protocols.postgres.targets import SharedTarget
from gateway.protocols.postgres.towards import CATALOG_SETTINGS, Towards

if TYPE_CHECKING:
    from gateway.datapath import DataPath

log = logging.getLogger("gateway.postgres")

_TOO_MANY = "this gateway has too many connections (limits.connections)"
_TOO_MANY_HALF_OPEN = "too many connections are not authenticated yet (limits.half_open)"
MOST_SERVERS = 1024
"""Catalogs kept, one for each database of each server; a name that always stands for new addresses does not add up."""


Greeted = tuple[Identity, door.Startup, PostgresResource]
FULL = "53300"
"""too_many_connections, of the target, its database or its role."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The target's side of a session. ``lease`` is there where the resource lets another session take it over afterwards; ``row`` is what
    the target said to ``CONTEXT_SQL`` where it was asked already: where another session had opened it."""

    target: TargetConnection
    lease: Lease | None = None
    row: Row | None = None


READY = messages.ReadyForQuery("I").encode()


def listener(gateway: DataPath, settings: Listener) -> PostgresListener:
    """Serves the listener with these settings. Raises ``ConfigError``."""
    return PostgresListener(gateway, settings)


class PostgresListener:
    """Serves the ``postgres`` listener of one gateway."""

    def __init__(self, gateway: DataPath, settings: Listener) -> None:
        self._gateway = gateway
        self._settings = settings
        self._tls = self.prepare(gateway.folder)
        self._loopback = is_loopback(settings.place[0])
        self._keys = gateway.keys
        self._towards = Towards(gateway.folder)
        self.roles = SessionRoles(gateway, lambda: self._towards)
        self._kept = Kept(lambda: gateway.policy)
        self._shared: dict[tuple[PostgresResource, str, Address], SharedTarget] = {}

    async def handle(self, stream: ByteStream) -> None:
        """One connection, from its first byte to its last."""
        connections, limits = self._gateway.connections, self._gateway.folder.gateway.limits
        full = connections.opened() > limits.connections
        place = connections.half_open.enter(stream.peer, stream.abort, limits.half_open, full=full)
        try:
            if place is None:
                self._turn_away(stream, fatal("53300", _TOO_MANY if full else _TOO_MANY_HALF_OPEN))
            else:
                if (greeted := await self._let_in(stream, place)) is not None:
                    await self._serve(stream, *greeted)
        finally:
            if place is not None:
                connections.half_open.leave(place)
            connections.closed()

    async def _let_in(self, stream: ByteStream, place: Place) -> Greeted | None:
        """Who is there, for what; ``None`` where the connection is done with."""
        gateway = self._gateway
        try:
            async with asyncio.timeout(gateway.folder.gateway.limits.handshake):
                greeted = await self._greet(stream)
        except TimeoutError:
            self._turn_away(stream, fatal("08006", "the connection was not authenticated in time"))
            return None
        except ClientFault as fault:
            self._turn_away(stream, fatal(fault.code or "08P01", str(fault)))
            return None
        except Refused as no:
            self._turn_away(stream, fatal(no.code if len(no.code) == 5 else "28000", str(no), no.hint))
            return None
        except AuditUnavailable:
            self._turn_away(stream, fatal("58030", "the audit log cannot be written; nobody is let in until it can"))
            return None
        gateway.connections.half_open.leave(place)
        return greeted

    @staticmethod
    def _turn_away(stream: ByteStream, fields: dict[str, str]) -> None:
        stream.write(messages.ErrorResponse(fields).encode())
        stream.close()

    # before the caller is known

    async def _greet(self, stream: ByteStream) -> Greeted | None:
        packet = await greeting.first_packet(stream, self._tls, self._keys, self._gateway.folder.gateway.limits.handshake)
        if packet is None:
            return None
        if not stream.tls and not (self._loopback and is_local(stream.peer)):
            raise Refused("this gateway requires TLS: use sslmode=verify-full", "28000")
        claimed = {"source": stream.peer}
        try:
            startup = door.check(packet)
            claimed |= dict(startup.claimed) | {"resource": startup.resource}
            startup = replace(startup, minor=greeting.negotiate(stream, startup.minor, startup.unknown_extensions))
            identity = await self._identity(stream)
            resource = self._admit(identity, startup)
        except Refused as no:
            await self._record_refused(claimed, no.reason if isinstance(no, TokenRefused | CertificateRefused) else str(no))
            raise
        return identity, startup, resource

    async def _identity(self, stream: ByteStream) -> Identity:
        """Who shows a client certificate is whom that names, or nobody; everybody else is asked for a token."""
        gateway, session = self._gateway, stream.tls_object()
        try:
            chain = verified_chain(session) if session is not None else ()
        except ssl.SSLError as error:
            raise CertificateRefused("not verified", str(error)) from None
        if chain:
            return gateway.authenticator.admit_certificate(chain, stream.peer, gateway.now())
        return await gateway.authenticator.admit(await greeting.password(stream), stream.peer, gateway.now())

    def _admit(self, identity: Identity, startup: door.Startup) -> PostgresResource:
        gateway = self._gateway
        resource = gateway.policy.resources.get(startup.resource)
        no = gateway.policy.may_enter(identity, startup.resource, gateway.now())
        if not isinstance(resource, PostgresResource) or no is not None:
            raise Refused(no or f"{startup.resource[:64]!r} is no PostgreSQL resource", "28000",
                          hint="lockgate access" if identity.person else f"lockgate access --identity {identity.name}")
        if startup.database is not None and startup.database not in resource.offered:
            raise Refused(f"{startup.resource} does not offer the database {startup.database[:64]!r}", "28000")
        return resource

    async def _record_refused(self, claimed: dict[str, str], reason: str) -> None:
        await self._gateway.audit.record("session.refused", claimed | {"protocol": "postgres", "reason": reason})

    # once the caller is known

    async def _serve(self, stream: ByteStream, identity: Identity, startup: door.Startup, resource: PostgresResource) -> None:
        gateway = self._gateway
        session = Session(id=uuid.uuid4().hex, identity=identity, resource=startup.resource, protocol="postgres",
                          source=stream.peer, started=gateway.now(), login=startup.claimed["user"],
                          database=startup.database or resource.offered[0])
        pending_end: list[str] = []
        try:
            if (no := await self._kept_out(session, pending_end.append)) is not None:
                about = {"source": stream.peer, "identity": identity.name, "resource": session.resource}
                await self._record_refused(about | dict(startup.claimed), str(no))
                self._turn_away(stream, fatal(no.code, str(no)))
                return
            if (opened := await self._open(stream, session, startup, resource)) is not None:
                await self._relay(stream, session, startup, resource, opened, pending_end)
        except AuditUnavailable:
            self._turn_away(stream, fatal("58030", "the audit log cannot be written; nobody is let in until it can"))
        finally:
            await self.roles.revoke(session.id)
            gateway.live.remove(session.id)

    async def _kept_out(self, session: Session, end: End) -> Refused | None:
        """Count the session in; why it may not begin where there are too many already, or the policy changed meanwhile."""
        gateway = self._gateway
        limits = gateway.policy.session_limits(session.identity, session.resource, gateway.now())
        try:
            await gateway.live.enter(session, Caps(limits.concurrent, gateway.folder.gateway.limits.connections_per_identity), end)
        except Refused as no:
            return no
        reason = gateway.policy.ended(session, gateway.now())
        return Refused(reason, "28000") if reason else None

    async def _open(self, stream: ByteStream, session: Session, startup: door.Startup, resource: PostgresResource) -> Opened | None:
        """Its beginning on record, and the target's side of it; ``None`` where the caller was told why there is none."""
        opened = await self._taken_over(session, startup, resource)
        try:
            await self._record_start(session, startup, opened)
        except BaseException:
            if opened is not None:
                opened.target.stream.abort()
            raise
        return opened or await self._connect(stream, session, startup, resource)

    async def _taken_over(self, session: Session, startup: door.Startup, resource: PostgresResource) -> Opened | None:
        """A connection that an earlier session of the same caller left clean, if one is kept and still is what the resource wants."""
        if not self._reusable(resource, startup) or (found := await self._kept.take(session, startup.settings)) is None:
            return None
        lease, row = found
        if await self._towards.still_wanted(lease.connection, resource):
            return Opened(lease.connection, lease, row)
        lease.connection.stream.abort()
        return None

    def _reusable(self, resource: PostgresResource, startup: door.Startup) -> bool:
        """Whether sessions on the resource may follow each other on one connection: its role is not made for one session, and DISCARD ALL
        gives back all settings of the startup packet."""
        return (resource.reuse > 0 and self._gateway.folder.credentials[resource.credential].kind != KIND
                and not self._towards.late(resource, startup.settings))

    async def _record_start(self, session: Session, startup: door.Startup, opened: Opened | None) -> None:
        start = session_fields(session, self._gateway.policy)
        start.update(subject=session.identity.subject, token_id=session.identity.token_id, claims=dict(session.identity.claims),
                     claimed=dict(startup.claimed), database=session.database)
        if session.identity.certificate is not None:
            start["certificate"] = session.identity.certificate
        if opened is not None and opened.lease is not None:
            start["reuses"] = opened.lease.opened_by
        await self._gateway.audit.record("session.start", start)

    async def _connect(self, stream: ByteStream, session: Session, startup: door.Startup,
                       resource: PostgresResource) -> Opened | None:
        """Log in at the target; a caller whose session cannot begin is told why."""
        try:
            login = await self.roles.issue(session, resource, session.database)
            return self._leased(await self._logged_in(session, startup, resource, login), session, startup, resource)
        except TargetFault as fault:
            gateway = self._gateway
            await gateway.audit.record("session.end", session_fields(session, gateway.policy) | {"reason": f"target: {fault}"})
            self._turn_away(stream, fatal(fault.code or "08001", f"{session.resource} cannot be reached: {fault}"))
            return None

    async def _logged_in(self, session: Session, startup: door.Startup, resource: PostgresResource,
                         login: OneTimeLogin | None) -> TargetConnection:
        """Log in; once more where the target has no room, and connections are kept there that nobody uses. Raises ``TargetFault``."""
        settings = dict(startup.settings)
        try:
            return await self._towards.open(resource, session.database, settings, login)
        except TargetFault as fault:
            if fault.code != FULL or not await self._kept.make_room(resource.places):
                raise
        return await self._towards.open(resource, session.database, settings, login)

    def _leased(self, target: TargetConnection, session: Session, startup: door.Startup, resource: PostgresResource) -> Opened:
        policy = self._gateway.policy                # another one than the session was admitted by has other resources
        if policy.resources.get(session.resource) is not resource or not self._reusable(resource, startup):
            return Opened(target)
        return Opened(target, self._kept.lease(session, startup.settings, target, resource.reuse, policy))

    async def _relay(self, stream: ByteStream, session: Session, startup: door.Startup, resource: PostgresResource,
                     opened: Opened, pending_end: list[str]) -> None:
        gateway, target = self._gateway, opened.target
        relay = Relay(session, gateway, stream, target, self._shared_target(resource, session.database, target.address),
                      gateway.secrets(), startup.wait, gateway.folder.gateway.limits, gateway.folder.gateway.audit.sample)
        pid, secret = self._keys.issue(relay.cancel, long=startup.minor >= 2)
        gateway.live.steer(session.id, relay.end, relay.drain)
        for asked in pending_end:
            relay.end(asked)
        reason = "internal error"
        try:
            row = await relay.begin(opened.row)
            if opened.lease is not None:
                relay.keep = partial(self._keep, opened.lease, row)
            reason = await relay.run(greeting.welcome(target.parameters) + messages.BackendKeyData(pid, secret).encode() + READY)
        finally:
            self._keys.revoke(pid)
            await asyncio.shield(asyncio.gather(relay.record_end(reason), return_exceptions=True))

    def _keep(self, lease: Lease, row: Row | None) -> None:
        """The session has left its connection as clean as a session can: for the next one of this caller."""
        lease.context = lease.context or row or ()
        self._kept.give(lease)

    def _shared_target(self, resource: PostgresResource, database: str, server: Address) -> SharedTarget:
        """The catalog is read from the server that the session is on: another one may be behind it, or ahead."""
        key = (resource, database, server)
        found = self._shared.get(key)
        if found is None:
            async def own() -> TargetConnection:
                return await self._towards.open_at(resource, database, CATALOG_SETTINGS, server)
            made = role_prefix(self._gateway.folder, resource)
            found = self._shared[key] = SharedTarget(own, database, resource.catalog.max_age, made)
            while len(self._shared) > MOST_SERVERS:
                self._shared.pop(next(iter(self._shared))).drop()
        return found

    async def warm(self) -> None:
        """Read every target's catalog before the first caller needs it. A target that cannot be reached now is read later."""
        for resource in self._gateway.policy.resources.values():
            if isinstance(resource, PostgresResource):
                for database in resource.offered:
                    try:
                        await self._read_catalog(resource, database)
                    except (TargetFault, OSError) as fault:
                        log.warning("the catalog of %s/%s is not read yet: %s", resource.name, database, fault)

    async def _read_catalog(self, resource: PostgresResource, database: str) -> None:
        connection = await self._towards.open(resource, database, CATALOG_SETTINGS)
        shared = self._shared_target(resource, database, connection.address)
        await shared.adopt(connection)
        await shared.catalog()

    async def tend(self) -> None:
        """Look after the roles of sessions."""
        await self.roles.tend()

    def prepare(self, folder: Folder) -> ssl.SSLContext | None:
        """What it shows its callers, and whose client certificates it believes. Raises ``ConfigError``."""
        settings = self._settings
        if settings.tls is None:
            return None
        authorities = (one.public_bytes(Encoding.DER) for bundle in folder.bundles.values() for one in bundle)
        certificate, key = folder.resolve(settings.tls.certificate), folder.resolve(settings.tls.key)
        try:
            return server_context(certificate, key, authorities=authorities, alpn=(messages.ALPN,))
        except (OSError, ssl.SSLError) as wrong:
            said = f"listener {settings.address}: its certificate and key cannot be used: {type(wrong).__name__}"
            raise ConfigError(said) from None

    async def reloaded(self, prepared: ssl.SSLContext | None) -> None:
        """The policy changed: let go of targets that are not in it any more. What it shows is for who comes from now on."""
        self._tls = prepared
        self._towards = Towards(self._gateway.folder)
        self._kept.reloaded()
        await self.roles.reloaded()
        kept = {one for one in self._gateway.policy.resources.values() if isinstance(one, PostgresResource)}
        for key in [key for key in self._shared if key[0] not in kept]:
            await self._shared.pop(key).close()

    async def close(self) -> None:
        """Drop the roles of sessions, and close the gateway's own connections."""
        await self._kept.close()
        await self.roles.close()
        for shared in self._shared.values():
            await shared.close()


def is_local(peer: str) -> bool:
    return peer in ("unix", "::1", "::ffff:127.0.0.1") or peer.startswith("127.")
