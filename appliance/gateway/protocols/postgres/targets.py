# SPDX-License-Identifier: Apache-2.0
"""What all sessions on one resource and database share: the catalog, and the compiled statements.

The catalog is read through a connection of the gateway's own and is looked at again at most ``catalog.max_age`` apart (DESIGN section 2).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.errors import TargetFault
from gateway.protocols.postgres.catalog.load import EPOCH_SQL, load_builtin, load_catalog
from gateway.protocols.postgres.catalog.model import BuiltinCatalog, Catalog
from gateway.protocols.postgres.target import TargetConnection

Connect = Callable[[], Awaitable[TargetConnection]]

CACHED_STATEMENTS = 4096
CACHED_BYTES = 32 * 1024 * 1024
REMEMBERED = 8192

_builtins: dict[int, BuiltinCatalog] = {}


class SharedTarget:
    """One database on one server of a resource. ``connect`` opens the gateway's own connection with search_path pinned to pg_catalog.

    ``roles`` begins the names of the roles that sessions log in as where each has its own (``roles.role_prefix``).
    """

    def __init__(self, connect: Connect, database: str, max_age: float, roles: str = "") -> None:
        self._connect = connect
        self._database = database
        self._max_age = max_age
        self._roles = roles
        self._connection: TargetConnection | None = None
        self._lock = asyncio.Lock()
        self._catalog: Catalog | None = None
        self._checked = 0.0
        self._changed = -math.inf
        self.compiled = CompiledCache()

    @property
    def last(self) -> Catalog | None:
        """The catalog as last read, however old."""
        return self._catalog

    @property
    def own_roles(self) -> bool:
        """Each session has a role of its own. The catalog's reader is then another role than the session's: it takes in every schema, and
        which of them a session may use only its own search path tells."""
        return bool(self._roles)

    def common_name(self, user: str) -> str:
        """One name for the roles of all sessions, so that what was compiled or approved for one holds for the next."""
        return f"{self._roles}*" if self._roles and user.startswith(self._roles) else user

    def fresh(self, monotonic: Callable[[], float] = time.monotonic) -> Catalog | None:
        """The catalog if it is young enough as it is, without a look at the target."""
        return self._catalog if self._checked > self._changed and monotonic() - self._checked < self._max_age else None

    def changed(self) -> None:
        """A session has changed and committed what the catalog shows: nobody goes by what was read before."""
        self._changed = time.monotonic()

    async def catalog(self, *, fresh: bool = False) -> Catalog:
        """The catalog, at most ``max_age`` old; ``fresh`` asks the target now.

        Raises ``TargetFault`` when it cannot be read: without it nothing is decided.
        """
        asked = time.monotonic()
        if not fresh and (known := self.fresh(lambda: asked)) is not None:
            return known
        async with self._lock:
            if self._catalog is None or self._checked < asked:
                await self._look()
        if self._catalog is None:
            raise TargetFault("the target's catalog could not be read", "08006")
        return self._catalog

    async def _look(self) -> None:
        """Ask for the epoch; reload when it moved. A broken connection is opened anew once."""
        for attempt in (1, 2):
            started = time.monotonic()
            try:
                connection = await self._connected()
                epoch = (await connection.query(EPOCH_SQL))[0][0]
                if self._catalog is None or self._catalog.epoch != epoch:
                    builtin = await builtin_of(connection)
                    self._catalog = await load_catalog(connection.query, builtin, self._database, self._catalog,
                                                       every_schema=self.own_roles)
                self._checked = started
                return
            except (TargetFault, OSError, TimeoutError):
                await self.close()
                if attempt == 2:
                    raise

    async def _connected(self) -> TargetConnection:
        if self._connection is None:
            self._connection = await self._connect()
        return self._connection

    async def adopt(self, connection: TargetConnection) -> None:
        """Use a connection that was opened as ``connect`` would, unless there is one already."""
        if self._connection is None:
            self._connection = connection
        else:
            await connection.close()

    def drop(self) -> None:
        """As ``close``, at once. A session that is still on it has the connection opened anew."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.stream.abort()

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


async def builtin_of(connection: TargetConnection) -> BuiltinCatalog:
    """The built-in objects of this server version, loaded once per process."""
    version = int(await _version(connection))
    if version not in _builtins:
        _builtins[version] = await load_builtin(connection.query)
    return _builtins[version]


async def _version(connection: TargetConnection) -> str:
    rows = await connection.query("show server_version_num")
    return rows[0][0] or "0"


class CompiledCache:
    """Least recently used map from everything a compiled statement depends on to the compiled statement."""

    def __init__(self) -> None:
        self._entries: OrderedDict[Any, tuple[Any, int]] = OrderedDict()
        self._size = 0
        self._seen: set[int] = set()
        self._seen_before: set[int] = set()
        self._numbers: dict[Any, int] = {}
        self._given = 0

    def number(self, meaning: Any) -> int:
        """A number for a part of keys that is long to hash: the same one for what is equal, and never one that stood for something else."""
        found = self._numbers.get(meaning)
        if found is None:
            if len(self._numbers) >= CACHED_STATEMENTS:
                self._numbers.clear()
            self._given += 1
            found = self._numbers[meaning] = self._given
        return found

    def again(self, key: Any) -> bool:
        """Whether it was asked lately for the same key (or, by chance, for one of the same hash). A text that comes once is not worth
        its place: what is kept has to be walked by the collector of cycles, and pushes out what comes again."""
        mark = hash(key)
        if mark in self._seen or mark in self._seen_before:
            return True
        if len(self._seen) >= REMEMBERED:
            self._seen_before, self._seen = self._seen, set()
        self._seen.add(mark)
        return False

    def get(self, key: Any) -> Any | None:
        found = self._entries.get(key)
        if found is None:
            return None
        self._entries.move_to_end(key)
        return found[0]

    def put(self, key: Any, value: Any, size: int) -> None:
        """``size`` is about what it takes in memory; what is very large is not kept."""
        if size > CACHED_BYTES // 16:
            return
        self._size += size - self._entries.pop(key, (None, 0))[1]
        self._entries[key] = (value, size)
        while len(self._entries) > CACHED_STATEMENTS or self._size > CACHED_BYTES:
            self._size -= self._entries.popitem(last=False)[1][1]
