# SPDX-License-Identifier: Apache-2.0
"""The way to a resource's servers: logging in at one of them. Failing over is for new connections; a session never changes its server."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.config.load import Folder
from gateway.credentials import Credential
from gateway.errors import TargetFault
from gateway.net.tls import client_context
from gateway.protocols.postgres import servers
from gateway.protocols.postgres.ephemeral import OneTimeLogin, literal
from gateway.protocols.postgres.login import METHODS, Rules, Unreachable
from gateway.protocols.postgres.messages import ALPN
from gateway.protocols.postgres.scram import KeyCache
from gateway.protocols.postgres.settings import Attributes, PostgresResource, PostgresTls
from gateway.protocols.postgres.target import Address, TargetConnection, connect

CATALOG_SETTINGS = {"search_path": "pg_catalog", "application_name": "lockgate catalog", "statement_timeout": "30000",
                    "lock_timeout": "2000"}


READ_ONLY = "default_transaction_read_only"
STARTING = "57P03"
"""cannot_connect_now: it starts, stops, or does not take sessions yet."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A session to be opened. ``login`` is a role's own, where each session has one."""

    resource: PostgresResource
    database: str
    settings: Mapping[str, str]
    login: OneTimeLogin | None = None


class Towards:
    """How this folder's resources are reached. Derived keys and TLS contexts are made once, not per connection."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._keys = KeyCache()
        self._contexts: dict[tuple[PostgresTls, str], ssl.SSLContext | None] = {}

    async def open(self, resource: PostgresResource, database: str, settings: Mapping[str, str],
                   login: OneTimeLogin | None = None) -> TargetConnection:
        """Log in at the first server that can be reached and is what ``target_session_attrs`` asks for, with the gateway's own credential
        or with a session's own ``login``.

        Who cannot be reached, or takes no sessions now, is passed over; a server that refuses us, or does not prove itself, ends it.
        Raises ``TargetFault``.
        """
        session, faults = Wanted(resource, database, settings, login), list[TargetFault]()
        places = [Address(*place, direct=resource.tls.negotiation == "direct") for place in resource.places]
        for attributes in servers.passes(resource.target_session_attrs):
            for place in servers.in_turn(places, resource.load_balance):
                try:
                    return await self._anywhere_at(place, session, attributes)
                except TargetFault as fault:
                    if not _passed_over(fault):
                        raise
                    faults.append(fault)
        last = faults[-1]
        raise last if len(places) == 1 else TargetFault(f"none of its servers can be had; of the last one: {last}", last.code)

    @staticmethod
    def late(resource: PostgresResource, settings: Mapping[str, str]) -> bool:
        """Whether some of a session's settings are given after the login alone."""
        return any(_late(attributes, settings) for attributes in servers.passes(resource.target_session_attrs))

    async def still_wanted(self, connection: TargetConnection, resource: PostgresResource) -> bool:
        """Whether the server of a kept connection is what ``target_session_attrs`` asks for first."""
        try:
            wanted = servers.passes(resource.target_session_attrs)[0]
            return await servers.is_wanted(connection, wanted, self._timeout(resource))
        except TargetFault:
            return False

    async def open_at(self, resource: PostgresResource, database: str, settings: Mapping[str, str], address: Address) -> TargetConnection:
        """Log in at one server, whatever it is now. Raises ``TargetFault``."""
        return await self._connect(address, Wanted(resource, database, settings), settings)

    async def _anywhere_at(self, place: Address, session: Wanted, attributes: Attributes) -> TargetConnection:
        """At the first suitable one of the servers that the name stands for."""
        found = await servers.looked_up(place, self._timeout(session.resource))
        *others, last = servers.in_turn(found, session.resource.load_balance)
        for address in others:
            try:
                return await self._suitable(address, session, attributes)
            except TargetFault as fault:
                if not _passed_over(fault):
                    raise
        return await self._suitable(last, session, attributes)

    async def _suitable(self, address: Address, session: Wanted, attributes: Attributes) -> TargetConnection:
        """Log in and look at what it is. What a caller says of ``default_transaction_read_only`` comes afterwards: it chooses no server."""
        late = _late(attributes, session.settings)
        early = {name: value for name, value in session.settings.items() if name not in late}
        connection = await self._connect(address, session, early)
        try:
            if not await servers.is_wanted(connection, attributes, self._timeout(session.resource)):
                raise Unreachable(f"the target is not {attributes}", "08001")
            for name in late:
                await connection.query(f"set {name} to {literal(session.settings[name])}")
        except BaseException:
            connection.stream.abort()
            raise
        return connection

    async def _connect(self, address: Address, session: Wanted, settings: Mapping[str, str]) -> TargetConnection:
        resource, login = session.resource, session.login
        return await connect(address, session.database, login or self._folder.credentials[resource.credential], self._context(resource),
                             parameters=settings, keys=self._keys if login is None else login.keys, rules=_rules(resource),
                             timeout=self._timeout(resource))

    def _timeout(self, resource: PostgresResource) -> float:
        return resource.connect_timeout or self._folder.gateway.limits.target_connect

    def _context(self, resource: PostgresResource) -> ssl.SSLContext | None:
        tls, name = resource.tls, resource.credential
        if (tls, name) not in self._contexts:
            self._contexts[tls, name] = client_context(tls.mode, self._folder.resolve(tls.ca) if tls.ca else None,
                                                       own=_certificate(self._folder.credentials[name]), alpn=(ALPN,))
        return self._contexts[tls, name]


def _late(attributes: Attributes, settings: Mapping[str, str]) -> set[str]:
    return {READ_ONLY} & set(settings) if attributes in ("read-write", "read-only") else set()


def _certificate(credential: Credential) -> tuple[str, str] | None:
    return (credential.certificate, credential.private_key.reveal()) if credential.kind == "certificate" else None


def _passed_over(fault: TargetFault) -> bool:
    return isinstance(fault, Unreachable) or fault.code == STARTING


def _rules(resource: PostgresResource) -> Rules:
    oldest, newest = resource.minors
    return Rules(oldest, newest, resource.channel_binding, frozenset(resource.require_auth) or METHODS)


async def open_catalog_connection(folder: Folder, resource: PostgresResource, database: str) -> TargetConnection:
    """A connection of the gateway's own, for reading the catalog."""
    return await Towards(folder).open(resource, database, CATALOG_SETTINGS)
