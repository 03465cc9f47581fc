# SPDX-License-Identifier: Apache-2.0
"""The way to a resource's servers: logging in there with the gateway's own credential."""

from __future__ import annotations

import ssl

from gateway.config.load import Folder
from gateway.config.schema import TargetTls
from gateway.net.tls import client_context
from gateway.protocols.postgres.ephemeral import OneTimeLogin
from gateway.protocols.postgres.messages import ALPN
from gateway.protocols.postgres.scram import KeyCache
from gateway.protocols.postgres.settings import PostgresResource
from gateway.protocols.postgres.target import Address, TargetConnection, connect

CATALOG_SETTINGS = {"search_path": "pg_catalog", "application_name": "lockgate catalog", "statement_timeout": "30000",
                    "lock_timeout": "2000"}


class Towards:
    """How this folder's resources are reached. Derived keys and TLS contexts are made once, not per connection."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._keys = KeyCache()
        self._contexts: dict[TargetTls, ssl.SSLContext | None] = {}

    def _context(self, tls: TargetTls) -> ssl.SSLContext | None:
        if tls not in self._contexts:
            self._contexts[tls] = client_context(tls.mode, self._folder.resolve(tls.ca) if tls.ca else None, alpn=(ALPN,))
        return self._contexts[tls]

    async def open(self, resource: PostgresResource, database: str, settings: dict[str, str],
                   login: OneTimeLogin | None = None) -> TargetConnection:
        """Log in with the gateway's own credential, or with a session's own ``login``. Raises ``TargetFault``."""
        credential = login or self._folder.credentials[resource.credential]
        return await connect(Address(*resource.place), database, credential, self._context(resource.tls), parameters=settings,
                             keys=self._keys if login is None else login.keys, timeout=self._folder.gateway.limits.target_connect)


async def open_catalog_connection(folder: Folder, resource: PostgresResource, database: str) -> TargetConnection:
    """A connection of the gateway's own, for reading the catalog."""
    return await Towards(folder).open(resource, database, CATALOG_SETTINGS)
